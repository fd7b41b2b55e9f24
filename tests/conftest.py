"""One PostgreSQL and one Valkey per run, a cloned database and a namespace of its own per test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg.conninfo import make_conninfo

from orchestrator.broker import redis_client
from persistence.embedded import Endpoints, open_embedded
from persistence.migrate import migrate
from persistence.pool import Pool, open_pool
from persistence.settings import Settings


@pytest.fixture(scope="session")
def servers() -> Iterator[Endpoints]:
    """Both servers, for the whole run; DATABASE_URL and the like of the caller's shell play no part."""
    with (
        tempfile.TemporaryDirectory(prefix="afu9-tests-") as folder,
        open_embedded(Path(folder) / "state", durable=False) as endpoints,
    ):
        yield endpoints


def database(url: str, name: str) -> str:
    """The same server, another database."""
    return make_conninfo(url, dbname=name)


@pytest.fixture(scope="session")
def template(servers: Endpoints) -> str:
    """The name of a database with our schema, to clone from."""
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_afu9")
    migrate(database(servers.database_url, "template_afu9"))
    return "template_afu9"


@pytest.fixture
def empty_dsn(servers: Endpoints) -> Iterator[str]:
    """A database with nothing in it."""
    yield from _made(servers, "")


@pytest.fixture
def dsn(servers: Endpoints, template: str) -> Iterator[str]:
    """A database with our schema."""
    yield from _made(servers, f"TEMPLATE {template}")


def _made(servers: Endpoints, options: str) -> Iterator[str]:
    name = f"t{uuid4().hex[:16]}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}")
        yield database(servers.database_url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def pool(dsn: str) -> Iterator[Pool]:
    with open_pool(dsn) as opened:
        yield opened


@pytest.fixture
def valkey(servers: Endpoints) -> Iterator[redis.Redis]:
    """An empty Valkey."""
    client = redis_client(servers.redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def settings(dsn: str, servers: Endpoints, valkey: redis.Redis, tmp_path: Path) -> Settings:
    """Settings for this test's database and Valkey, with leases short enough to wait for."""
    return Settings(
        database_url=dsn,
        redis_url=servers.redis_url,
        namespace=f"t{uuid4().hex[:8]}",
        state_dir=tmp_path / "state",
        threads=4,
        heartbeat_seconds=0.5,
        lease_seconds=2,
        reap_seconds=0.5,
        dispatch_seconds=0.2,
        drain_seconds=5,
    )
