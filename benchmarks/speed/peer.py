"""Runs a case of a peer: its workers and its client are programs in peers/, run by the peer's own Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.speed.children import ANSWER_SECONDS, READY_SECONDS, Child, free_port, plain_environment, ready
from benchmarks.speed.install import Peer
from benchmarks.speed.measure import Figures, Meter, latency_figures, span_figures
from benchmarks.speed.servers import Servers

WARM_UP = 10  # executions before the measurement, where the workers are let go before it


def run_peer(servers: Servers, peer: Peer, workload: str, executions: int, processes: int, **options: Any) -> Figures:
    """`processes` 0: the client does the work itself. `options`: see the peer's program."""
    options = {
        "workload": workload,
        "executions": executions,
        "warm_up": WARM_UP,
        "direct": workload == "W1" and processes == 0,
        "tool_url": servers.slow_tool if workload == "W3" else servers.fast_tool,
        "redis_url": servers.fresh_valkey(1),
        "dsn": servers.fresh_database("speed_peer"),
    } | options
    with server_of(servers, peer, options) as server:
        if peer.name == "dbos":
            setup = peer.command("setup", json.dumps(options))
            subprocess.run(setup, check=True, timeout=READY_SECONDS, env=plain_environment(), stdout=subprocess.DEVNULL)
        workers = [
            Child(
                f"{peer.name}-{number}", peer.command("worker", json.dumps(options | {"number": number})), servers.logs
            )
            for number in range(processes)
        ]
        with ready(workers):
            # Work that is submitted up front waits for its workers; restate's client holds them back by itself.
            held = workload in ("W2", "W3") and peer.name != "restate"
            if not held:
                _go(workers)
            options["workers"] = [worker.pid for worker in workers]
            client = Child(f"{peer.name}-client", peer.command("client", json.dumps(options)), servers.logs)
            groups = servers.groups | {"client": [client.pid]}
            groups |= {"restate": [server.pid]} if server else {}
            groups |= {"workers": options["workers"]} if workers else {}
            with ready([client]), Meter(groups) as meter:
                if held:
                    _go(workers)
                client.go()
                answer = json.loads(client.line(ANSWER_SECONDS))
    return figures_of(answer, executions, options["steps"], meter.figures) | meter.figures


def _go(workers: list[Child]) -> None:
    for worker in workers:
        worker.go()


def figures_of(answer: dict[str, Any], executions: int, steps: int, spent: Figures) -> Figures:
    """Of a client's answer. Fails unless it tells of every step."""
    if "stamps" in answer:
        counts = [len(stamps) for stamps in answer["stamps"]]
        assert counts == [steps] * executions, f"{counts} steps; expected {executions} x {steps}"
        firsts = [stamps[0] - asked for stamps, asked in zip(answer["stamps"], answer["submitted"], strict=True)]
        return latency_figures(answer["stamps"], firsts)
    if "begin" in answer:
        found, expected = (answer["executions"], answer["steps"]), (executions, executions * steps)
        assert found == expected, f"{found} executions and steps; expected {expected}"
        figures = span_figures(answer["begin"], answer["end"], answer["steps"])
        return figures | {"steps_per_cpu_s": answer["steps"] / spent["cpu_s.workers"]}
    return {name: float(value) for name, value in answer.items()}


@contextmanager
def server_of(servers: Servers, peer: Peer, options: dict[str, Any]) -> Iterator[Child | None]:
    """Restate's own server, with an empty folder; of the others None. Adds its ports to the options."""
    if peer.server is None:
        yield None
        return
    folder = servers.folder / "restate"
    shutil.rmtree(folder, ignore_errors=True)
    ports = {name: free_port() for name in ("ingress_port", "admin_port", "service_port", "node_port")}
    options |= ports
    environment = {
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_ADVERTISED_HOST": "127.0.0.1",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_PORT": str(ports["node_port"]),
        "RESTATE_INGRESS__BIND_PORT": str(ports["ingress_port"]),
        "RESTATE_ADMIN__BIND_PORT": str(ports["admin_port"]),
        "RESTATE_ADMIN__DISABLE_WEB_UI": "true",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "warn",
    }
    command = [str(peer.server), "--base-dir", str(folder), "--no-logo", "--node-name", "bench"]
    with Child("restate-server", command, servers.logs, environment) as server:
        yield server
