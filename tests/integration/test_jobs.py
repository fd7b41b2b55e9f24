"""Controls of many executions: counted first, then worked off as a job that nobody's death does twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from control_center import make_job
from orchestrator import work_off_jobs
from orchestrator.broker import StepBroker
from orchestrator.control import Controller, Wish
from orchestrator.push import STEP_QUEUE
from orchestrator.submit import Request, Submitter
from orchestrator.work_off_jobs import IDLE, work_off
from persistence.errors import Refused, Unreachable
from persistence.executions import create_execution, get_execution_steps
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import drive, drive_some, status_of, submit
from tests.fleet import Fleet, environment, wait_until
from tests.integration.test_api import problem
from tests.integration.test_controls import Breaks, failed_at
from tests.workflows import FunctionTools, echo, sequence

LEASE = 30.0
BULK = "/api/workflow/executions/bulk"


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    opened = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield opened
    opened.close()


def many(pool: Pool, count: int, **request: Any) -> list[UUID]:
    wanted = [Request(input={"n": n}, **request) for n in range(count)]
    return [one.execution_id for one in Submitter(pool, None).submit(sequence(1), wanted)]


def job_of(api: httpx.Client, **bulk: Any) -> dict[str, Any]:
    answer = api.post(BULK, json=bulk)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/workflow/jobs/{found['id']}"
    assert (found["status"], found["done"], found["refused"]) == ("pending", 0, 0)
    return found


def state(api: httpx.Client, job: dict[str, Any]) -> tuple[str, int | None, int, int]:
    found = api.get(f"/api/workflow/jobs/{job['id']}").json()
    return found["status"], found["total"], found["done"], found["refused"]


def controls(pool: Pool) -> Counter[UUID]:
    """How many controls each execution has had."""
    with pool.connection() as connection:
        rows = connection.execute("SELECT execution_id FROM workflow_events WHERE event = 'control'").fetchall()
    return Counter(row["execution_id"] for row in rows)


def work_all(pool: Pool, broker: StepBroker) -> None:
    while work_off(pool, broker, LEASE) != IDLE:
        pass


def test_a_dry_run_counts_exactly_and_changes_nothing(api: httpx.Client, pool: Pool) -> None:
    """By ids or by filter: how many are meant, and how many of them take it."""
    ids = many(pool, 5, labels={"team": "a"})
    many(pool, 3, labels={"team": "b"})
    paused = api.post(f"/api/workflow/execution/{ids[0]}/pause")
    assert paused.status_code == 202
    create_execution(pool, None, {}, {}, triggered_by="caller")
    expected = [
        ({"filter": {"label": ["team:a"]}}, 5, 4),
        ({"filter": {"status": "running,paused"}}, 9, 7),
        ({"filter": {"status": "paused"}}, 1, 0),
        ({"filter": {"workflow": "nobody"}}, 0, 0),
        ({"filter": {"until": "2020-01-01T00:00:00Z"}}, 0, 0),
        ({"filter": {"triggeredBy": "caller"}}, 1, 0),
        ({"ids": [str(one) for one in ids[:2]]}, 2, 1),
    ]
    for meant, total, takes in expected:
        answer = api.post(BULK, json={"action": "pause", "dryRun": True, **meant})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"dryRun": True, "action": "pause", "total": total, "more": False, "takes": takes}
    assert sum(controls(pool).values()) == 1


def test_a_count_says_when_there_are_more(api: httpx.Client, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody counts a whole table; the job then has no total."""
    monkeypatch.setattr(make_job, "COUNTED", 3)
    many(pool, 5)
    bulk = {"action": "pause", "filter": {"status": "running"}}
    answer = api.post(BULK, json=bulk | {"dryRun": True}).json()
    assert (answer["total"], answer["more"]) == (3, True)
    assert job_of(api, **bulk)["total"] is None


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"action": "pause"}, 422, "invalid-request"),
        ({"action": "pause", "filter": {}}, 422, "invalid-request"),
        ({"action": "pause", "filter": {"status": ""}}, 422, "invalid-request"),
        ({"action": "pause", "filter": {"status": "done"}}, 422, "invalid-request"),
        ({"action": "pause", "filter": {"label": ["x"]}}, 422, "invalid-request"),
        ({"action": "pause", "filter": {"q": "text"}}, 422, "invalid-request"),
        ({"action": "pause", "filter": {"since": "2026-01-01T00:00:00"}}, 422, "invalid-request"),
        ({"action": "pause", "ids": []}, 422, "invalid-request"),
        ({"action": "pause", "ids": ["x"]}, 422, "invalid-request"),
        ({"action": "pause", "ids": [str(uuid4())], "filter": {"status": "running"}}, 422, "invalid-request"),
        ({"action": "fork", "filter": {"status": "running"}}, 422, "invalid-request"),
        ({"action": "pause", "filter": {"status": "running"}, "reason": "a\0b"}, 422, "invalid-request"),
        ({"action": "pause", "ids": [str(uuid4())]}, 404, "not-found"),
    ],
)
def test_bad_bulks_are_problems_and_make_no_job(
    api: httpx.Client, pool: Pool, body: dict[str, Any], status: int, slug: str
) -> None:
    """An empty filter would mean everything; faults have their places in the body."""
    found = problem(api.post(BULK, json=body), status, slug)
    assert all(fault["pointer"].startswith(("/filter", "/ids", "/action")) for fault in found.get("errors", ()))
    assert run(pool, "claim_job", {"lease": LEASE}) == []


def test_a_job_is_worked_off_in_pages(
    api: httpx.Client, pool: Pool, broker: StepBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that do not take it are counted; what is made later is not meant."""
    monkeypatch.setattr(work_off_jobs, "PAGE", 3)
    ids = sorted(many(pool, 7, labels={"team": "a"}), reverse=True)  # as the job comes to them
    api.post(f"/api/workflow/execution/{ids[3]}/cancel")
    job = job_of(api, action="pause", filter={"label": ["team:a"]}, reason="storm")
    assert (job["total"], job["actor"], job["reason"]) == (7, "anonymous", "storm")
    later = many(pool, 2, labels={"team": "a"})
    assert work_off(pool, broker, LEASE) == 0
    assert state(api, job) == ("running", 7, 3, 0)
    work_all(pool, broker)
    assert state(api, job) == ("completed", 7, 6, 1)
    assert [status_of(pool, one) for one in ids] == ["paused"] * 3 + ["cancelled"] + ["paused"] * 3
    assert [status_of(pool, one) for one in later] == ["running"] * 2
    events = api.get(f"/api/workflow/execution/{ids[0]}/events").json()["events"]
    assert [(event["kind"], event["actor"], event["message"]) for event in events] == [("pause", "anonymous", "storm")]


def test_a_job_of_ids_resumes_cancels_and_retries(api: httpx.Client, pool: Pool, broker: StepBroker) -> None:
    """What becomes runnable is rung for at once."""
    failed, _, _ = failed_at(pool, 0, 2)
    going = submit(pool, sequence(1))
    api.post(f"/api/workflow/execution/{going}/pause")
    kept = create_execution(pool, None, {}, {})
    both = [str(failed), str(going), str(kept)]
    retried = job_of(api, action="retry", ids=both)
    work_all(pool, broker)
    assert state(api, retried) == ("completed", 3, 1, 2)
    assert (status_of(pool, failed), status_of(pool, going)) == ("running", "paused")
    assert broker.client.llen(broker.key(STEP_QUEUE)) == 1
    resumed = job_of(api, action="resume", ids=both)
    work_all(pool, broker)
    assert state(api, resumed) == ("completed", 3, 1, 2)
    assert broker.client.llen(broker.key(STEP_QUEUE)) == 2
    cancelled = job_of(api, action="cancel", ids=both)
    work_all(pool, broker)
    assert state(api, cancelled) == ("completed", 3, 2, 1)
    assert status_of(pool, kept) == "running"
    assert len(api.get(f"/api/workflow/execution/{failed}/results").json()["results"]) == 1


def standing(pool: Pool, status: str, *, goes_on: bool) -> UUID:
    """An execution of three steps, whose middle one has failed if it has begun."""
    tools = FunctionTools(echo=Breaks(1))
    config = {"continueOnError": True} if goes_on else {}
    execution_id = submit(pool, sequence(3, config=config, retry={"maxAttempts": 1}))
    if goes_on or status == "failed":
        drive_some(pool, execution_id, tools, 3 if status == "completed" else 2)
    elif status == "completed":
        drive(pool, execution_id, FunctionTools(echo=echo))
    controller = Controller(pool, None)
    if status in ("paused", "cancelled"):
        controller.carry_out(execution_id, Wish({"paused": "pause", "cancelled": "cancel"}[status], "ada"))
    assert status_of(pool, execution_id) == status
    return execution_id


STANDINGS = [("running", False), ("paused", False), ("completed", False), ("failed", False), ("cancelled", False)]
STANDINGS += [("running", True), ("paused", True), ("completed", True), ("cancelled", True)]


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "retry"])
def test_a_job_does_what_the_control_does(api: httpx.Client, pool: Pool, broker: StepBroker, action: str) -> None:
    """However the execution stands: the same steps, the same results kept, the same refusals."""

    def seen(execution_id: UUID) -> tuple[str, list[str], int]:
        kept = run(pool, "step_results", {"execution_id": execution_id})
        steps = [step["status"] for step in get_execution_steps(pool, execution_id)]
        return status_of(pool, execution_id), steps, len(kept)

    for status, goes_on in STANDINGS:
        alone, among = (standing(pool, status, goes_on=goes_on) for _ in range(2))
        try:
            Controller(pool, None).carry_out(alone, Wish(action, "ada"))
            done = 1
        except Refused:
            done = 0
        job = job_of(api, action=action, ids=[str(among)])
        work_all(pool, broker)
        assert state(api, job) == ("completed", 1, done, 1 - done)
        assert seen(among) == seen(alone), (status, goes_on)


def test_a_job_that_is_taken_over_goes_on_behind_the_last_one(api: httpx.Client, pool: Pool) -> None:
    """Whoever was thought dead and goes on does nothing any more."""
    ids = many(pool, 3)
    job = job_of(api, action="pause", filter={"status": "running"})
    (claimed,) = run(pool, "claim_job", {"lease": LEASE})
    assert str(claimed["id"]) == job["id"]
    assert run(pool, "claim_job", {"lease": LEASE}) == []
    rows = {row["id"]: row["created_at"] for row in run(pool, "get_recent_executions", {"limit": 10})}

    def act(execution_id: UUID) -> dict[str, Any]:
        parameters = {"job": job["id"], "execution_id": execution_id, "created_at": rows[execution_id]}
        return run(pool, "control_for_job", {**parameters, "lease": LEASE})[0]

    newest_first = sorted(ids, reverse=True)
    assert act(newest_first[1])["done"] is True
    assert act(newest_first[1])["recorded"] is False
    assert act(newest_first[0])["recorded"] is False
    with pool.connection() as connection:
        connection.execute("UPDATE control_jobs SET claimed_until = now() - interval '1 s'")
    (again,) = run(pool, "claim_job", {"lease": LEASE})
    assert (again["cursor_id"], again["cursor_at"]) == (newest_first[1], rows[newest_first[1]])
    assert state(api, job)[2:] == (1, 0)


def test_jobs_take_turns(api: httpx.Client, pool: Pool, broker: StepBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one keeps no small one waiting."""
    monkeypatch.setattr(work_off_jobs, "PAGE", 2)
    many(pool, 9, labels={"size": "large"})
    many(pool, 1, labels={"size": "small"})
    large = job_of(api, action="cancel", filter={"label": ["size:large"]})
    small = job_of(api, action="cancel", filter={"label": ["size:small"]})
    for _ in range(2):
        work_off(pool, broker, LEASE)
    assert state(api, small)[0] == "completed"
    assert state(api, large)[0] == "running"


def test_a_filters_times_are_kept(api: httpx.Client, pool: Pool, broker: StepBroker) -> None:
    """`since` too, in whatever zone it was said."""
    ids = many(pool, 2)
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_executions SET created_at = now() - interval '2 h' WHERE id = %s", (ids[0],)
        )
    since = (datetime.now(UTC) - timedelta(hours=1)).astimezone().isoformat()
    job = job_of(api, action="cancel", filter={"since": since, "status": "running", "label": [], "triggeredBy": None})
    work_all(pool, broker)
    assert state(api, job) == ("completed", 1, 1, 0)
    assert status_of(pool, ids[0]) == "running"


def test_a_job_outlives_killed_orchestrators_and_does_nothing_twice(
    api: httpx.Client, settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    """Killed in the middle, again and again; the next one goes on where the job's row says."""
    (tmp_path / "logs").mkdir()
    ids = many(pool, 600)
    variables = environment(settings.model_copy(update={"lease_seconds": 1.0}))
    fleet = Fleet(variables, tmp_path / "logs")
    job = job_of(api, action="cancel", filter={"status": "running"}, reason="all of it")
    seen = 0
    try:
        for _ in range(2):
            process = fleet.start("orchestrator")
            wait_until(lambda: state(api, job)[2] > seen, 30, "the job's progress")  # noqa: B023
            process.kill()
            process.wait()
            seen = state(api, job)[2]
        assert 0 < seen < 600, "it was killed in the middle"
        fleet.start("orchestrator")
        fleet.start("orchestrator")
        wait_until(lambda: state(api, job)[0] == "completed", 60, "the end of the job")
    finally:
        fleet.end()
        print(fleet.log())
    assert state(api, job) == ("completed", 600, 600, 0)
    assert controls(pool) == Counter(ids)


def break_control(pool: Pool, execution_id: UUID, raised: str) -> None:
    """Whatever changes this execution does this instead."""
    with pool.connection() as connection:
        connection.execute(
            f"""CREATE OR REPLACE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN {raised}; RETURN NEW; END $$;
                CREATE OR REPLACE TRIGGER broken BEFORE UPDATE ON workflow_executions FOR EACH ROW
                WHEN (NEW.id = '{execution_id}') EXECUTE FUNCTION broken()""".encode()
        )


def mend_control(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute("DROP FUNCTION broken CASCADE")


def look_again(pool: Pool) -> None:
    """The pause between two tries is over."""
    with pool.connection() as connection:
        connection.execute("UPDATE control_jobs SET claimed_until = now() - interval '1 ms'")


def tries(pool: Pool) -> int:
    with pool.connection() as connection:
        (row,) = connection.execute("SELECT sum(tries) AS tries FROM control_jobs").fetchall()
    return int(row["tries"])


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("RAISE 'nobody knew of this'", "nobody knew of this (SQLSTATE P0001)"),
        ("PERFORM 1 / 0", "division by zero (SQLSTATE 22012)"),
        ("PERFORM * FROM nowhere", 'relation "nowhere" does not exist (SQLSTATE 42P01)'),
        ("RAISE 'both wait' USING ERRCODE = '40P01'", "both wait (SQLSTATE 40P01)"),
        ("RAISE 'too slow' USING ERRCODE = '57014'", "too slow (SQLSTATE 57014)"),
        ("RAISE 'lock' USING ERRCODE = '55P03', DETAIL = 'password: hunter22'", "lock (SQLSTATE 55P03)"),
    ],
)
def test_an_execution_that_meets_an_error_counts_as_refused(
    api: httpx.Client, pool: Pool, broker: StepBroker, raised: str, told: str
) -> None:
    """After some tries with pauses, in which other jobs go on; then so does this one. Its report says why."""
    newest, bad, oldest = sorted(many(pool, 3, labels={"team": "a"}), reverse=True)
    break_control(pool, bad, raised)
    job = job_of(api, action="pause", filter={"label": ["team:a"]})
    assert work_off(pool, broker, LEASE) == 0
    assert (state(api, job), tries(pool)) == (("running", 3, 1, 0), 1)
    assert work_off(pool, broker, LEASE) == IDLE, "it pauses"
    other = job_of(api, action="cancel", ids=[str(newest)])
    work_all(pool, broker)
    assert state(api, other)[0] == "completed"
    for _ in range(work_off_jobs.TRIES - 1):
        assert state(api, job) == ("running", 3, 1, 0)
        look_again(pool)
        work_off(pool, broker, LEASE)
    assert state(api, job) == ("completed", 3, 2, 1)
    assert [status_of(pool, one) for one in (newest, bad, oldest)] == ["cancelled", "running", "paused"]
    report = api.get(f"/api/workflow/jobs/{job['id']}").json()
    assert (report["failed"], report["errors"]) == (1, [{"executionId": str(bad), "error": told}])


def test_tries_are_counted_for_one_execution(api: httpx.Client, pool: Pool, broker: StepBroker) -> None:
    """One that succeeds in the end leaves none to the next, and whoever comes late counts nothing."""
    first, second = sorted(many(pool, 2), reverse=True)
    job = job_of(api, action="pause", filter={"status": "running"})
    break_control(pool, first, "RAISE 'not now'")
    for number in range(1, work_off_jobs.TRIES):
        look_again(pool)
        work_off(pool, broker, LEASE)
        assert tries(pool) == number
    mend_control(pool)
    break_control(pool, second, "RAISE 'not now'")
    look_again(pool)
    work_off(pool, broker, LEASE)
    assert (state(api, job), tries(pool)) == (("running", 2, 1, 0), 1)
    late = {"job": job["id"], "execution_id": first, "created_at": created(pool, first)}
    (told,) = run(pool, "fail_for_job", {**late, "error": "late", "tries": 1, "lease": LEASE})
    assert (told["recorded"], told["given_up"], tries(pool)) == (False, False, 1)
    mend_control(pool)
    look_again(pool)
    work_all(pool, broker)
    assert state(api, job) == ("completed", 2, 2, 0)
    assert api.get(f"/api/workflow/jobs/{job['id']}").json()["errors"] == []


def created(pool: Pool, execution_id: UUID) -> datetime:
    moment: datetime = next(
        row["created_at"] for row in run(pool, "get_recent_executions", {"limit": 10}) if row["id"] == execution_id
    )
    return moment


@pytest.mark.parametrize(
    "raised",
    [
        *(f"RAISE 'away' USING ERRCODE = '{code}'" for code in ("08006", "25006", "53100", "53300", "57P01", "58030")),
        "PERFORM pg_terminate_backend(pg_backend_pid())",
    ],
)
def test_an_outage_uses_up_no_tries(api: httpx.Client, pool: Pool, broker: StepBroker, raised: str) -> None:
    """However long it lasts."""
    (only,) = many(pool, 1)
    break_control(pool, only, raised)
    job = job_of(api, action="pause", ids=[str(only)])
    for _ in range(work_off_jobs.TRIES + 1):
        with pytest.raises((Unreachable, psycopg.InternalError)):
            work_off(pool, broker, LEASE)
        with pool.connection() as connection:
            connection.execute("UPDATE control_jobs SET claimed_until = NULL")
    assert (state(api, job), tries(pool)) == (("running", 1, 0, 0), 0)
    mend_control(pool)
    work_all(pool, broker)
    assert state(api, job) == ("completed", 1, 1, 0)


def test_a_report_keeps_the_first_hundred_errors(api: httpx.Client, pool: Pool, broker: StepBroker) -> None:
    """All of them are counted."""
    many(pool, 103)
    with pool.connection() as connection:
        connection.execute(
            """CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'none of you'; END $$;
               CREATE TRIGGER broken BEFORE UPDATE ON workflow_executions FOR EACH ROW EXECUTE FUNCTION broken()"""
        )
    job = job_of(api, action="cancel", filter={"status": "running"})
    for _ in range(103 * work_off_jobs.TRIES):
        look_again(pool)
        work_off(pool, broker, 5)
    report = api.get(f"/api/workflow/jobs/{job['id']}").json()
    assert (report["status"], report["done"], report["refused"], report["failed"]) == ("completed", 0, 103, 103)
    assert len(report["errors"]) == 100
