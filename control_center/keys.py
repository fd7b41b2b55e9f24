"""Keys of the HTTP API, `afu9 key create|ls|revoke`, and what the operator trusts.

A key is `afu9_<id>_<secret>`; it is shown once, and only the secret's SHA-256 is stored.
"""

from __future__ import annotations

import getpass
import hashlib
import ipaddress
import json
import re
import secrets
from dataclasses import dataclass
from typing import Literal

import click

from control_center.progress import iso
from control_center.services import open_services
from persistence.errors import InvalidInput, NotFound
from persistence.json_value import encode_json
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings

Role = Literal["viewer", "submitter", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "submitter", "operator", "admin")
_KEY = re.compile(r"afu9_([a-z0-9]{12})_([A-Za-z0-9_-]{20,100})")
_SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True, slots=True)
class Trust:
    """What the operator has decided. keys: whether a key is needed. local_only: nobody but this machine asks, and only by
    its own name. proxies: networks whose identity headers count, and the role these give."""

    keys: bool
    local_only: bool = False
    proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    proxy_role: Role = "viewer"


def new_key() -> tuple[str, str]:
    """An id and the whole key."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    key_id = "".join(secrets.choice(alphabet) for _ in range(12))
    return key_id, f"afu9_{key_id}_{secrets.token_urlsafe(32)}"


def read_key(key: str) -> tuple[str, str]:
    """Its id and its secret; both empty for what is no key."""
    found = _KEY.fullmatch(key)
    return (found[1], found[2]) if found else ("", "")


def hash_secret(secret: str) -> str:
    """SHA-256: the secret has 256 random bits, so there is nothing to slow down."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create_key(pool: Pool, name: str, role: Role, seconds: float | None) -> str:
    """Stores a new key and answers it: nobody can read it again."""
    key_id, key = new_key()
    parameters = {"id": key_id, "name": name, "role": role, "secret_hash": hash_secret(read_key(key)[1])}
    run(pool, "create_key", parameters | {"seconds": seconds})
    return key


@click.group("key")
def key_command() -> None:
    """Make, list and revoke keys of the HTTP API."""


@key_command.command("create")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@click.option("--name", required=True, help="Whose it is: what audit rows and triggeredBy say.")
@click.option("--expires", default="90d", show_default=True, help="12h, 90d, 4w, or never.")
def create(role: Role, name: str, expires: str) -> int:
    """Make a key. It is printed once, on stdout, and nobody can read it again."""
    seconds = _seconds(expires)
    with open_services(Settings.load()) as services, open_pool(services.settings.database_dsn) as pool:
        key = create_key(pool, name, role, seconds)
        _note(pool, "key.create", read_key(key)[0], {"role": role, "name": name, "expires": expires})
    click.echo(key)
    return 0


@key_command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def ls(as_json: bool) -> int:
    """List keys; their secrets are stored nowhere."""
    with open_services(Settings.load(), start=False) as services, open_pool(services.settings.database_dsn) as pool:
        rows = run(pool, "list_keys")
    times = ("created_at", "expires_at", "revoked_at", "last_used_at")
    if as_json:
        shown = [row | {name: iso(row[name]) for name in times} for row in rows]
        click.echo(json.dumps({"keys": shown, "total": len(rows)}, ensure_ascii=False))
        return 0
    for row in rows:
        state = "revoked" if row["revoked_at"] else f"expires {iso(row['expires_at']) or 'never'}"
        click.echo(
            "\t".join([row["id"], row["role"], row["name"], state, f"last used {iso(row['last_used_at']) or 'never'}"])
        )
    return 0


@key_command.command("revoke")
@click.argument("key_id")
def revoke(key_id: str) -> int:
    """Revoke the key with this ID (the part between the underscores). It stops working within ten seconds."""
    with open_services(Settings.load(), start=False) as services, open_pool(services.settings.database_dsn) as pool:
        if not run(pool, "revoke_key", {"id": key_id}):
            raise NotFound(f"no key {key_id}: `afu9 key ls` lists them")
        _note(pool, "key.revoke", key_id, {})
    click.echo(f"revoked {key_id}", err=True)
    return 0


def _note(pool: Pool, action: str, target: str, detail: dict[str, str]) -> None:
    principal = f"cli:{getpass.getuser()}"
    run(
        pool, "write_audit", {"principal": principal, "action": action, "target": target, "detail": encode_json(detail)}
    )


def _seconds(text: str) -> float | None:
    if text == "never":
        return None
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _SECONDS or not 0 < int(number) < 100_000:
        raise InvalidInput(f"--expires {text}: write 12h, 90d, 4w or never")
    return int(number) * _SECONDS[unit]
