"""What the tests of the embedded servers share: another process that holds them, and looks at what runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from persistence.embedded import Endpoints

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import persistence.embedded.process
from persistence.embedded import open_embedded
if "no-last-will" in sys.argv:
    persistence.embedded.process._libc = None
servers = open_embedded(Path(sys.argv[1]))
print(json.dumps(asdict(servers.endpoints), default=str), flush=True)
if "no-close" not in sys.argv:
    with servers:
        sys.stdin.read()
"""


class Holder:
    """Another process that opens the servers and holds them until it is told to end."""

    def __init__(self, state_dir: Path, *words: str):
        self.state_dir = state_dir
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(state_dir), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            start_new_session=True,
        )

    def endpoints(self) -> Endpoints:
        assert self.process.stdout
        found = json.loads(self.process.stdout.readline())
        return Endpoints(**{**found, "state_dir": Path(found["state_dir"])})

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """As a user would: close, then wait; kill what does not obey."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.kill()


def until(what: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def add(endpoints: Endpoints) -> tuple[int, int]:
    """One more row and one more count; returns how many there are by now."""
    with psycopg.connect(endpoints.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS rows (id int)")
        connection.execute("INSERT INTO rows VALUES (1)")
        found = connection.execute("SELECT count(*) FROM rows").fetchone()
    assert found
    with Redis.from_url(endpoints.redis_url) as client:
        return int(found[0]), int(client.incr("count"))


def answers(endpoints: Endpoints) -> bool:
    try:
        with psycopg.connect(endpoints.database_url), Redis.from_url(endpoints.redis_url) as client:
            return bool(client.ping())
    except (psycopg.Error, RedisError):
        return False


def left_running(*folders: Path) -> dict[int, str]:
    """The processes whose command line names one of the folders or that work in it."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = os.readlink(process / "cwd")
            if command and any(str(folder) in command or where.startswith(str(folder)) for folder in folders):
                found[int(process.name)] = command
    return found


def places(endpoints: Endpoints) -> tuple[Path, Path, Path]:
    """Everything the servers of these endpoints can be known by: state folder, data, sockets."""
    state = Path(endpoints.state_dir)
    return state, (state / "pg").resolve(), Path(endpoints.database_url.split("host=")[1].split("&")[0]).parent
