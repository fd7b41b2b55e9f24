"""PostgreSQL as an embedded server: one cluster, trust on a private unix socket, the database `afu9`.

Invariant: the cluster appears by one rename after initdb has finished, so a half-made one is never started.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from persistence.embedded.account import choose_account, place_data, within_reach
from persistence.embedded.find import EmbeddedUnavailable, find_postgres
from persistence.embedded.process import exists, put_down, read_pid, runs, sync
from persistence.embedded.server import Places, Server

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_buffers": "16MB",  # a batch of 500 executions writes 2.5 MB at once; the default is 1/32 of shared_buffers
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "jit": "off",
    # Parallel workers share memory through /dev/shm, which containers cut to 64 MB.
    "max_parallel_workers_per_gather": "0",
}
KEEP = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
FORGET = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres(Server):
    title = "PostgreSQL"
    steps = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

    def __init__(self, places: Places):
        super().__init__(places)
        self.sockets = places.run / "pg"
        self.data = place_data(places.state_dir) if places.durable else places.run / "data"
        self.mark = self.data
        self.url = f"postgresql://postgres@/afu9?host={self.sockets}&port=5432"

    def prepare(self) -> None:
        if not self.places.durable:
            shutil.rmtree(self.data, ignore_errors=True)
        self.account = choose_account(self.data)
        marker = self.data / "PG_VERSION"
        made_by = marker.read_text().strip() if marker.exists() else None
        self.programs = within_reach(find_postgres(made_by), self.account)
        if made_by is None:
            self._make_cluster()

    def _make_cluster(self) -> None:
        new = self.data.with_name(f"{self.data.name}.new")
        self._end_strays()
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700, parents=True)
        self.account.give(new)
        words = ["--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres"]
        command = [f"{self.programs}/initdb", f"--pgdata={new}", *words]
        initdb = self.launch(command if self.places.durable else [*command, "--no-sync"])
        if initdb.wait() != 0:
            raise self.unavailable(f"could not make a cluster in {self.data}")
        new.rename(self.data)
        if self.places.durable:
            sync(self.data.parent)

    def clear(self) -> None:
        self._end_postmaster()
        self._end_strays()
        shutil.rmtree(self.sockets, ignore_errors=True)
        self.sockets.mkdir(mode=0o700)
        self.account.give(self.sockets)

    def _end_postmaster(self) -> None:
        """One that our pid file does not know; and a pid file that would make PostgreSQL refuse a start for nothing."""
        pid_file = self.data / "postmaster.pid"
        pid = read_pid(pid_file)
        if pid is not None and runs(pid, self.data):
            put_down(pid, lambda: runs(pid, self.data), self.steps)
        elif pid is None or exists(pid):  # cut off, or the number belongs to another program by now
            pid_file.unlink(missing_ok=True)

    def _end_strays(self) -> None:
        """Backends busy in a query outlive a killed postmaster, and hold its shared memory against the next one."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (pids := list(self._strays())):
            for pid in pids:
                put_down(pid, lambda pid=pid: exists(pid), ((signal.SIGKILL, 1.0),))  # type: ignore[misc]

    def _strays(self) -> Iterator[int]:
        if sys.platform != "linux":
            return
        folders = {str(self.data), f"{self.data}.new"}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd") in folders and os.readlink(process / "exe").endswith("/postgres"):
                    yield int(process.name)
            except OSError:
                continue

    def command(self) -> list[str]:
        settings = {**SETTINGS, **(KEEP if self.places.durable else FORGET)}
        command = [f"{self.programs}/postgres", "-D", str(self.data), "-k", str(self.sockets), "-p", "5432"]
        return command + [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def answer(self) -> str | None:
        url = self.url.replace("/afu9?", "/postgres?")
        try:
            # An own `options` keeps a PGOPTIONS of the caller's environment out.
            with psycopg.connect(url, autocommit=True, connect_timeout=10, options="-c jit=off") as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'afu9'").fetchone():
                    connection.execute("CREATE DATABASE afu9")
                return str(connection.info.parameter_status("server_version")).split()[0]
        except psycopg.OperationalError:
            return None
        except psycopg.Error as error:
            raise EmbeddedUnavailable(f"PostgreSQL started, but has no usable database afu9: {error}") from None
