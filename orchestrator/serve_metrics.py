"""A role's own port: `/metrics`, where there is one `/metrics/fleet`, and `/healthz` and `/readyz` for supervisors.

Nothing is asked of anybody who reads, so it binds to this machine unless the operator names another address: a network that
only its own monitoring reaches. A process that stops waits for one last scrape if somebody has been scraping, so that
what it counted last is not lost.
"""

from __future__ import annotations

import json
import logging
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from socket import AF_INET, AF_INET6
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, ThreadingWSGIServer
from prometheus_client.registry import Collector

from orchestrator import metrics
from persistence.errors import Afu9Error
from persistence.pool import Pool
from persistence.settings import Settings

log = logging.getLogger(__name__)

SCRAPED_LATELY = 150.0  # seconds: nobody waits for a scraper that has gone
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

Gauges = Callable[[], Iterable[GaugeMetricFamily]]
Checks = Callable[[], Mapping[str, str]]  # by name: "ok", or what is wrong


class Here(Collector):
    """What is read of this process at the moment of a scrape."""

    def __init__(self, role: str, gauges: Gauges):
        self._role = role
        self._gauges = gauges

    def collect(self) -> Iterable[GaugeMetricFamily]:
        yield metrics.BUILD_INFO.family([((self._role, version("afu9"), platform.python_version()), 1)])
        yield from self._gauges()


def pool_gauges(pools: Mapping[str, Pool]) -> Iterable[GaugeMetricFamily]:
    """How busy the pools are."""
    found = {(name,): pool.get_stats() for name, pool in pools.items()}
    for gauge, key in (
        (metrics.DB_POOL_SIZE, "pool_size"),
        (metrics.DB_POOL_IDLE, "pool_available"),
        (metrics.DB_POOL_WAITING, "requests_waiting"),
    ):
        yield gauge.family([(labels, stats.get(key, 0)) for labels, stats in found.items()])


class Exposition:
    """What a scrape of a process gets. `gauges` are read at that moment."""

    def __init__(self, role: str, gauges: Gauges):
        self._here = CollectorRegistry(auto_describe=False)
        self._here.register(metrics.Process())
        self._here.register(Here(role, gauges))
        ProcessCollector(registry=self._here)

    def text(self) -> bytes:
        """What happened in this process, and how it is."""
        return generate_latest(self._here)


def fleet_text(fleet: Collector) -> bytes:
    """The text of /metrics/fleet."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(fleet)
    return generate_latest(registry)


class MetricsServer:
    """Serves from `start()` to `stop()`; with AFU9_METRICS_PORT 0 it does nothing. `checks` answers what makes the process
    ready, `fleet` the text of /metrics/fleet. `beside`: added to the port, for processes that share their settings."""

    def __init__(
        self,
        settings: Settings,
        exposition: Exposition,
        *,
        checks: Checks,
        fleet: Callable[[], bytes] | None = None,
        beside: int = 0,
    ):
        self._host = settings.metrics_host
        self._port = settings.metrics_port + beside if settings.metrics_port else 0
        self._exposition = exposition
        self._checks = checks
        self._fleet = fleet
        self._scraped_at = float("-inf")
        self._stopping = False
        self._ended = False  # nothing more is counted
        self._told_the_end = threading.Event()
        self._server: WSGIServer | None = None

    def start(self) -> None:
        """Raises Afu9Error if the port cannot be had."""
        if not self._port:
            return
        try:
            server = _Threads6 if ":" in self._host else _Threads
            self._server = make_server(self._host, self._port, self._answer, server, _Silent)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Afu9Error(
                f"metrics cannot be served on {self._host}:{self._port} ({reason}): "
                "set AFU9_METRICS_PORT to a free port, or to 0 for none"
            ) from None
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        log.info("metrics on http://%s:%d/metrics", self._host, self._port)

    def begin_stop(self) -> None:
        """From now on the process is not ready."""
        self._stopping = True

    def stop(self, seconds: float = 0.0) -> None:
        """Waits for one more scrape, at most so long, if there were any lately."""
        if self._server is None:
            return
        self._stopping = self._ended = True
        if time.monotonic() - self._scraped_at < SCRAPED_LATELY:
            self._told_the_end.wait(max(seconds, 0.0))
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def _answer(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        status, kind, body = "200 OK", CONTENT_TYPE, b""
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "GET", "/metrics":
                body = self._scrape()
            case "GET", "/metrics/fleet" if self._fleet is not None:
                body = self._fleet()
            case "GET", "/healthz":
                kind, body = "application/json", b'{"status": "ok"}'
            case "GET", "/readyz":
                found = dict(self._checks()) | ({"stopping": "it stops"} if self._stopping else {})
                good = all(word == "ok" for word in found.values())
                status = status if good else "503 Service Unavailable"
                kind, body = "application/json", json.dumps({"status": "ok" if good else "not ready", **found}).encode()
            case _:
                status, kind, body = "404 Not Found", "text/plain", b"/metrics, /healthz, /readyz\n"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _scrape(self) -> bytes:
        ended = self._ended
        text = self._exposition.text()
        self._scraped_at = time.monotonic()
        if ended:
            self._told_the_end.set()
        return text


class _Silent(WSGIRequestHandler):
    timeout = 10  # seconds for whoever connects to say what it wants

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


class _Threads(ThreadingWSGIServer):
    daemon_threads = False  # closing waits until the last answer is sent
    address_family = AF_INET


class _Threads6(_Threads):
    address_family = AF_INET6
