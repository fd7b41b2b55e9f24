"""Where metrics are read: a role's own port, and the API."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_center.keys import Trust, create_key
from orchestrator.metrics import (
    DESCRIBED,
    HINTS_PUBLISHED,
    MANY,
    MESSAGE_WAIT,
    OTHER,
    SERIES,
    VALUES,
    Counted,
    Described,
    _notes,
)
from orchestrator.serve_metrics import Exposition, MetricsServer
from persistence.errors import Afu9Error
from persistence.pool import Pool
from persistence.settings import Settings
from tests.api_server import running_api
from tests.counters import counted, series
from tests.fleet import wait_until
from tests.integration.test_measure import free_port

LONG = 60.0  # seconds that no test waits for


@pytest.fixture
def words() -> dict[str, str]:
    return {"lease": "ok"}


@pytest.fixture
def server(words: dict[str, str]) -> Iterator[MetricsServer]:
    settings = Settings(metrics_port=free_port())
    server = MetricsServer(settings, Exposition("worker", tuple), checks=lambda: words)
    server.start()
    yield server
    server.stop()


def ask(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server._port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def names(text: str) -> set[str]:
    """As DESCRIBED has them."""
    families = text_string_to_metric_families(text)
    return {family.name + "_total" * (family.type == "counter") for family in families}


def test_a_role_tells_whether_it_lives_is_ready_and_what_it_counted(
    server: MetricsServer, words: dict[str, str]
) -> None:
    """Ready is another thing than alive; this one knows nothing of the fleet."""
    assert ask(server, "/healthz")[0] == 200
    assert ask(server, "/readyz") == (200, '{"status": "ok", "lease": "ok"}')
    words["lease"] = "not renewed for 40 s"
    status, text = ask(server, "/readyz")
    assert (status, json.loads(text)["lease"]) == (503, "not renewed for 40 s")
    assert ask(server, "/healthz")[0] == 200
    status, text = ask(server, "/metrics")
    assert (status, names(text) >= {"afu9_build_info", "afu9_steps_finished_total"}) == (200, True)
    assert [ask(server, path)[0] for path in ("/metrics/fleet", "/", "/etc")] == [404, 404, 404]
    words["lease"] = "ok"
    server.begin_stop()
    assert ask(server, "/readyz")[0] == 503


def test_a_process_that_ends_waits_until_its_last_counts_were_read(server: MetricsServer) -> None:
    """Where somebody has been scraping; and whatever comes first."""
    ask(server, "/metrics")
    stopping = threading.Thread(target=server.stop, args=(LONG,))
    stopping.start()
    wait_until(lambda: server._ended, 10, "the end")
    assert ask(server, "/readyz")[0] == 503
    assert stopping.is_alive()
    assert ask(server, "/metrics")[0] == 200
    stopping.join(LONG / 4)
    assert not stopping.is_alive()


def test_nobody_waits_for_a_scrape_that_never_came(server: MetricsServer) -> None:
    """A worker without Prometheus ends at once."""
    ask(server, "/healthz")
    stopping = threading.Thread(target=server.stop, args=(LONG,))
    stopping.start()
    stopping.join(LONG / 4)
    assert not stopping.is_alive()


def test_whoever_says_nothing_holds_nobody_up(server: MetricsServer) -> None:
    """A connection without a request keeps no other one waiting."""
    with closing(socket.create_connection(("127.0.0.1", server._port))):
        assert ask(server, "/metrics")[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_a_clear_error(host: str) -> None:
    """With the setting to change; the next process of a supervisor has the next port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(metrics_port=port - 1, metrics_host=host)
        server = MetricsServer(settings, Exposition("worker", tuple), checks=dict, beside=1)
        with pytest.raises(Afu9Error, match=f"{port} .* set AFU9_METRICS_PORT"):
            server.start()


def test_labels_are_bounded() -> None:
    """200 values of a label, 2,000 series of a metric; what comes later is counted all the same."""
    metric = Counted(Described("x_total", "counter", ("workflow", "step"), "", "process"))
    for number in range(VALUES + 50):
        metric.take(("w", f"s{number}"), 1)
    found = {tuple(sample.labels.values()): sample.value for sample in metric.family().samples}
    assert (len(found), found["w", "s3"], found["w", OTHER]) == (VALUES + 1, 1, 50)
    for number in range(SERIES + 50):
        metric.take((f"w{number % 60}", f"s{number // 60}"), 1)
    samples = metric.family().samples
    assert len(samples) == SERIES + 1
    assert sum(sample.value for sample in samples) == VALUES + SERIES + 100


def test_notes_are_added_up_by_whoever_leaves_the_thousandth() -> None:
    """So they take no room where nobody scrapes; and no note of any thread is lost meanwhile."""
    with counted() as found:
        threads = [threading.Thread(target=_leave_notes) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(_notes) < MANY + len(threads)
    assert series(found, "afu9_hints_published_total") == {"": 40_000}
    buckets = series(found, "afu9_message_wait_seconds_bucket", "le")
    assert (buckets["0.005"], buckets["0.01"], buckets["1800.0"], buckets["+Inf"]) == (10_000, 20_000, 30_000, 40_000)
    assert series(found, "afu9_message_wait_seconds_count", "queue") == {"q": 40_000}
    assert series(found, "afu9_message_wait_seconds_sum", "queue")["q"] == pytest.approx(10_000 * (2000 + 5 + 0.015))


def _leave_notes() -> None:
    for number in range(10_000):
        HINTS_PUBLISHED.add(1)
        MESSAGE_WAIT.add((0.005, 0.01, 5.0, 2000.0)[number % 4], "q")


def test_the_api_shows_its_own_and_the_fleets(settings: Settings) -> None:
    """Together all that is described for it; answers are timed by the route's template, never by an id."""
    with running_api(settings) as url:
        unknown = "0" * 8 + "-0000-0000-0000-" + "0" * 12
        assert httpx.get(f"{url}/api/workflow/execution/{unknown}").status_code == 404
        httpx.get(f"{url}/nothing/of/the/kind")
        process, fleet = httpx.get(f"{url}/metrics"), httpx.get(f"{url}/metrics/fleet")
    assert process.headers["content-type"].startswith("text/plain; version=0.0.4")
    routes = {
        tuple(sample.labels[label] for label in ("route", "method", "code"))
        for family in text_string_to_metric_families(process.text)
        for sample in family.samples
        if sample.name == "afu9_http_request_duration_seconds_count"
    }
    assert {("/api/workflow/execution/{execution_id}", "GET", "404"), ("none", "GET", "404")} <= routes
    assert unknown not in process.text
    described = {name for name, one in DESCRIBED.items() if one.where == "fleet"}
    assert names(fleet.text) == described
    assert names(process.text) & described == set()
    workers = {"afu9_worker_slots", "afu9_worker_slots_busy", "afu9_tool_calls_in_flight"}
    assert names(process.text) >= set(DESCRIBED) - described - workers


def test_where_keys_are_needed_metrics_need_one(settings: Settings, pool: Pool) -> None:
    """Of a viewer, as everything that is only read."""
    key = create_key(pool, "prometheus", "viewer", None)
    with running_api(settings, Trust(keys=True)) as url:
        for path in ("/metrics", "/metrics/fleet"):
            assert httpx.get(url + path).status_code == 401
            assert httpx.get(url + path, headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_a_page_of_another_site_reads_no_metrics(settings: Settings) -> None:
    """Where no keys are needed, only this machine may ask, by its own name."""
    with running_api(settings, Trust(keys=False, local_only=True)) as url:
        assert httpx.get(f"{url}/metrics").status_code == 200
        assert httpx.get(f"{url}/metrics", headers={"Host": "elsewhere.example"}).status_code == 403
