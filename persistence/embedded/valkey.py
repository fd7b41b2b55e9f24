"""Valkey (or Redis) as an embedded server on a private unix socket; fakeredis on loopback when there is neither."""

from __future__ import annotations

import shutil
import signal
import socket
from typing import cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from persistence.embedded.find import FAKE_SERVER, find_valkey
from persistence.embedded.server import Places, Server


class Valkey(Server):
    title = "Valkey"
    steps = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

    def __init__(self, places: Places):
        super().__init__(places)
        self.data = places.state_dir / "redis" if places.durable else places.run / "redis"
        self.mark = places.run
        self.socket = places.run / "redis.sock"
        self.programs = find_valkey()
        self.fake = str(FAKE_SERVER) in self.programs
        self.port = _free_port() if self.fake else 0
        self.url = f"redis://127.0.0.1:{self.port}/0" if self.fake else f"unix://{self.socket}?db=0"

    def prepare(self) -> None:
        if not self.places.durable:
            shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700, exist_ok=True)

    def command(self) -> list[str]:
        if self.fake:
            return [*self.programs, str(self.port), str(self.mark)]
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "save": "",
            "appendonly": "yes" if self.places.durable else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return self.programs + [word for name, value in settings.items() for word in (f"--{name}", value)]

    def answer(self) -> str | None:
        client = Redis.from_url(self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        try:
            client.ping()
            facts = {} if self.fake else cast("dict[str, str]", client.info("server"))
            return str(facts.get("valkey_version") or facts.get("redis_version") or "fakeredis")
        except (RedisConnectionError, RedisError, OSError):
            return None
        finally:
            client.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
