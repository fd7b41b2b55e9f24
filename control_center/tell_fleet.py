"""`afu9 queues`, `afu9 workers`: whether steps get done, and by whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from control_center.look_at_queues import MOST_WORKERS, SILENT_SECONDS, Look, look_at_queues
from control_center.progress import iso
from control_center.source import Place, place_options
from orchestrator.broker import StepBroker
from persistence.pool import Pool, run


@click.command("queues")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@place_options
def queues_command(as_json: bool, url: str, api_key_file: Path | None) -> int:
    """Tell what waits: queue, ready, oldest (s), delayed, running, slots, in and out of the last minute, workers alive and
    silent."""
    with Place(url, api_key_file).open() as source:
        told = source.queues()
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return 0
    for one in told["queues"]:
        more = "+" if one["more"] else ""
        oldest = "-" if one["oldestSeconds"] is None else f"{one['oldestSeconds']:.1f}"
        waits = [one["name"], f"{one['ready']}{more}", oldest, f"{one['delayed']}{more}"]
        names = ("running", "slots", "inPerMinute", "outPerMinute", "workersAlive", "workersSilent")
        click.echo("\t".join([*waits, *(str(one[name]) for name in names)]))
    redis, stuck = told["redis"], told["stuck"]
    said = "away: " + redis["away"] if redis["away"] else f"{redis['waiting']} messages, {redis['dead']} dead letters"
    click.echo(f"redis: {said}; stuck: {'not counted' if stuck is None else len(stuck)}", err=True)
    if not any(one["workersAlive"] for one in told["queues"]):
        click.echo("no worker is alive: `afu9 worker` starts one", err=True)
    return 0


@click.command("workers")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@place_options
def workers_command(as_json: bool, url: str, api_key_file: Path | None) -> int:
    """List who holds a lease: id, role, host, pid, running steps, threads, alive or silent, seconds since it was heard."""
    with Place(url, api_key_file).open() as source:
        told = source.workers()
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return 0
    for one in told["workers"]:
        named = [str(one[name]) for name in ("id", "role", "hostname", "pid", "running", "threads")]
        click.echo("\t".join([*named, "alive" if one["alive"] else "silent", f"{one['silentSeconds']:.1f}"]))
    return 0


def queues_object(pool: Pool, broker: StepBroker) -> dict[str, Any]:
    """As the API answers it: {queues, outboxSeconds, stuck, redis, postgresMs, schemaVersion}. Raises Afu9Error."""
    look = look_at_queues(pool, broker)
    return {
        "queues": [_queue(look)],
        "outboxSeconds": round(look.overdue_seconds, 3),
        "stuck": None if look.stuck is None else [str(one["id"]) for one in look.stuck],
        "redis": {
            "away": look.redis.away,
            "milliseconds": round(look.redis.milliseconds, 1),
            "waiting": look.redis.waiting,
            "fetched": look.redis.fetched,
            "dead": look.redis.dead,
        },
        "postgresMs": round(look.postgres_ms, 1),
        "schemaVersion": {"database": look.schema_in_database, "code": look.schema_in_code},
    }


def workers_object(pool: Pool) -> dict[str, Any]:
    """As the API answers it: {workers, total}. Raises Afu9Error."""
    workers = [
        {
            "id": str(row["id"]),
            "role": row["role"],
            "hostname": row["hostname"],
            "pid": row["pid"],
            "threads": row["threads"],
            "running": row["running"],
            "startedAt": iso(row["started_at"]),
            "heartbeatAt": iso(row["heartbeat_at"]),
            "silentSeconds": round(row["silent_seconds"], 1),
            "alive": row["silent_seconds"] <= SILENT_SECONDS,
        }
        for row in run(pool, "list_fleet", {"limit": MOST_WORKERS})
    ]
    return {"workers": workers, "total": len(workers)}


def _queue(look: Look) -> dict[str, Any]:
    return {
        "name": look.name,
        "ready": look.ready,
        "delayed": look.delayed,
        "more": look.more,
        "oldestSeconds": _rounded(look.oldest_seconds),
        "nextSeconds": _rounded(look.next_seconds),
        "running": look.running,
        "slots": look.slots,
        "inPerMinute": look.in_per_minute,
        "outPerMinute": look.out_per_minute,
        "drainMinutes": _rounded(look.drain_minutes),
        "workersAlive": look.alive,
        "workersSilent": look.silent,
    }


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 1)
