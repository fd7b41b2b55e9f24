"""Who asks, and what they may do.

A key is `afu9_<id>_<secret>`; only the secret's SHA-256 is stored. It comes as `Authorization: Bearer`, or, from a browser,
as an HttpOnly cookie that signing in has set. Headers of a proxy that has authenticated the user count only from trusted
addresses. Roles contain each other: viewer < submitter < operator < admin.

Invariant: an unsafe request from another site is refused, with or without keys (CSRF, DNS rebinding); no page of another
site can send one that a browser vouches for.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Lock
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import Request
from starlette.requests import HTTPConnection

from control_center.api.problems import Problem
from control_center.keys import ROLES, Role, Trust, hash_secret, read_key
from persistence.pool import Pool, run

COOKIE = "afu9_key"
TRUSTED_FOR = 10.0  # seconds that a key's row is believed: a revoked key works no longer than that
REMEMBERED = 1000
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})  # of whoever asks: no name that another site can point here
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever asks. `name` is what audit rows and triggeredBy say."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


ANONYMOUS = Principal("anonymous", "admin")  # whoever asks where no key is needed


class Gate:
    """Finds the principal of a request. Raises Problem."""

    def __init__(self, pool: Callable[[], Pool], trust: Trust):
        self._pool = pool
        self._trust = trust
        self._lock = Lock()
        self._seen: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def principal(self, request: HTTPConnection) -> Principal:
        """Takes a thread only where a key's row must be read: what everybody asks must not wait for one."""
        given = self._given(request)
        if isinstance(given, Principal):
            return given
        if (remembered := self._remembered(hash_secret(given))) is not None:
            return remembered
        return await anyio.to_thread.run_sync(self.of_key, given)

    def _given(self, request: HTTPConnection) -> Principal | str:
        """Whoever asks, or the key they came with."""
        check_origin(request)
        if self._trust.local_only and urlsplit(f"//{request.headers.get('host', '')}").hostname not in LOCAL_NAMES:
            raise Problem("foreign-origin", "this API serves this machine only, by the name localhost")
        if not self._trust.keys:
            return ANONYMOUS
        if (name := self._from_proxy(request)) is not None:
            return Principal(name, self._trust.proxy_role)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = given.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
        if not key:
            raise Problem(
                "unauthenticated", "send `Authorization: Bearer <key>`; `afu9 key create` makes one", headers=ASK
            )
        return key

    def of_key(self, key: str) -> Principal:
        """The key's principal. Raises Problem for one that is wrong, expired or revoked."""
        now = time.monotonic()
        digest = hash_secret(key)
        if (remembered := self._remembered(digest)) is not None:
            return remembered
        principal = self._look_up(key)
        with self._lock:
            self._seen[digest] = now, principal
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return principal

    def _remembered(self, digest: str) -> Principal | None:
        with self._lock:
            seen = self._seen.get(digest)
        return seen[1] if seen is not None and time.monotonic() - seen[0] < TRUSTED_FOR else None

    def _look_up(self, key: str) -> Principal:
        key_id, secret = read_key(key)
        rows = run(self._pool(), "use_key", {"id": key_id}) if key_id else []
        if not rows or not hmac.compare_digest(rows[0]["secret_hash"], hash_secret(secret)):
            raise Problem("unauthenticated", "the key is not known", headers=ASK)
        if rows[0]["revoked"]:
            raise Problem("unauthenticated", "the key was revoked", headers=ASK)
        if rows[0]["expired"]:
            raise Problem("unauthenticated", "the key has expired", headers=ASK)
        return Principal(rows[0]["name"], rows[0]["role"])

    def _from_proxy(self, request: HTTPConnection) -> str | None:
        name = request.headers.get("x-forwarded-user") or request.headers.get("x-auth-request-email")
        if not name or not self._trust.proxies or request.client is None:
            return None
        try:
            address = ipaddress.ip_address(request.client.host)
        except ValueError:
            return None
        return name[:255] if any(address in network for network in self._trust.proxies) else None


ASK = {"WWW-Authenticate": "Bearer"}


def check_origin(request: HTTPConnection) -> None:
    """Refuses what a page of another site makes a browser send. A socket is never safe: its pages read what it tells."""
    if request.scope["type"] == "http" and request.scope["method"] in SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site in ("same-origin", "none"):
        return
    if site is not None or (origin is not None and urlsplit(origin).netloc != request.headers.get("host")):
        raise Problem("foreign-origin", "only this site's own pages and programs outside a browser may do this")


def needs(role: Role) -> Callable[[Request], Awaitable[Principal]]:
    """A route's dependency: the principal, who has at least this role."""

    async def dependency(request: Request) -> Principal:
        gate: Gate = request.app.state.gate
        principal = await gate.principal(request)
        if not principal.may(role):
            raise Problem("forbidden", f"this needs the role {role}; {principal.name} has {principal.role}")
        return principal

    return dependency
