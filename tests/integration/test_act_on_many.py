"""Acting on many executions from a page, over HTTP: what the question showed is what the deed means, and no more."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from uuid import UUID, uuid4

import httpx
import pytest

from control_center.dashboard import act_on_many, filter_executions
from control_center.keys import Trust, create_key
from orchestrator.outcome import Failed
from persistence.executions import require_execution
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import drive, submit
from tests.fill import audited, make_failed, make_many_failed, make_rows, work_off_all
from tests.integration.test_tools_page import listed
from tests.workflows import FunctionTools, sequence


@pytest.fixture
def site(settings: Settings) -> Iterator[httpx.Client]:
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def send(site: httpx.Client, *fields: tuple[str, str]) -> httpx.Response:
    body = httpx.QueryParams(list(fields))
    return site.post("/ui/bulk", content=str(body), headers={"Content-Type": "application/x-www-form-urlencoded"})


def ask(site: httpx.Client, query: str, *ids: UUID, action: str = "retry") -> httpx.Response:
    """With those that are ticked, or all that match."""
    ticked = [("id", str(one)) for one in ids] or [("all", "1")]
    return send(site, ("action", action), ("query", query), *ticked)


def confirm(site: httpx.Client, question: httpx.Response, **typed: str) -> httpx.Response:
    """Sends the question's form as it is, with what was typed."""
    form = question.text.partition('class="edit"')[2].partition("</form>")[0]
    hidden = [
        (name, html.unescape(value)) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    ]
    return send(site, *hidden, *typed.items(), ("do", "confirm"))


def heading(answer: httpx.Response) -> str:
    found = re.search(r"<h1>(.*?)</h1>", answer.text)
    assert found is not None, answer.text
    return found[1]


def numbers(answer: httpx.Response) -> list[str]:
    """Found, takes, refused; of a job: done, refused, errors."""
    return re.findall(r"<dd>(.*?)</dd>", answer.text.partition('class="counts"')[2].partition("</dl>")[0])


def jobs(pool: Pool) -> int:
    return len(run(pool, "list_jobs", {"status": None, "at": None, "id": None, "limit": 9}))


def job_of(site: httpx.Client, answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 303, answer.text
    return site.get(answer.headers["location"])


def test_a_filter_means_what_the_question_showed(site: httpx.Client, pool: Pool, settings: Settings) -> None:
    """Not what matches later: what failed since, was made since, or is of another filter."""
    *shown, left = make_failed(pool, 3, triggered_by="ada")
    others = make_failed(pool, 1, triggered_by="grace")
    joined = submit(pool, sequence(1), triggered_by="ada")
    make_rows(pool, 1, "failed")  # of another system: it takes no control
    question = ask(site, "status=failed&triggeredBy=ada&window=24h")
    assert heading(question) == "Retry 3 executions?"
    assert numbers(question) == ["4", "3", "1"]
    assert [words in question.text for words in ("status: failed", "trigger: ada", "broken 0")] == [True] * 3
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET status = 'paused' WHERE id = %s", (left,))
        connection.execute("UPDATE workflow_executions SET status = 'failed' WHERE id = %s", (joined,))
    others += [joined, *make_failed(pool, 1, triggered_by="ada")]
    job = job_of(site, confirm(site, question, reason="the service is back"))
    work_off_all(pool, settings)
    assert numbers(site.get(job.url)) == ["2", "2", "0"]
    assert [require_execution(pool, one)["status"] for one in shown] == ["running", "running"]
    assert {require_execution(pool, one)["status"] for one in others} == {"failed"}
    assert audited(pool) == [("executions.bulk", str(job.url).rpartition("/")[2])]
    assert "the service is back" in job.text


@pytest.mark.parametrize("query", ["needs=decision&triggeredBy=ada", "q=broken&triggeredBy=ada"])
def test_what_is_no_column_filters_together_with_the_rest(
    site: httpx.Client, pool: Pool, settings: Settings, query: str
) -> None:
    (mine,) = make_failed(pool, 1, "outcome_unknown", triggered_by="ada")
    (theirs,) = make_failed(pool, 1, "outcome_unknown", triggered_by="grace")
    question = ask(site, query)
    assert numbers(question)[0] == "1"
    assert f'value="{mine}"' in question.text
    assert f'value="{theirs}"' not in question.text


def test_more_than_were_shown_are_asked_about_again(site: httpx.Client, pool: Pool) -> None:
    failed = make_failed(pool, 2)
    waits = submit(pool, sequence(1))
    question = ask(site, "", *failed, waits)
    assert numbers(question) == ["3", "2", "1"]
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET status = 'failed' WHERE id = %s", (waits,))
    again = confirm(site, question)
    assert (again.status_code, "3 take it now, and 2 were shown" in again.text) == (422, True)
    assert (jobs(pool), audited(pool)) == (0, [])
    assert job_of(site, confirm(site, again)).status_code == 200  # of three, as shown now


def test_fewer_than_were_shown_are_done_and_none_is_told(site: httpx.Client, pool: Pool) -> None:
    failed = make_failed(pool, 2)
    question = ask(site, "status=failed&window=24h")
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET status = 'paused' WHERE id = %s", (failed[0],))
    assert job_of(site, confirm(site, question)).status_code == 200
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET status = 'completed'")
    none = confirm(site, question)
    assert (none.status_code, "none of them takes it any more" in none.text) == (422, True)
    assert jobs(pool) == 1


def test_above_a_hundred_the_number_is_typed(site: httpx.Client, pool: Pool) -> None:
    make_many_failed(pool, 120)
    question = ask(site, "status=failed&window=24h")
    assert "Type 120 to confirm" in question.text
    for typed in ({}, {"number": "12"}, {"number": "120", "shown": "121"}):
        answer = confirm(site, question, **typed)
        assert (answer.status_code, jobs(pool)) == (422, 0)
    for shown in ("99", "0", "", "x", "9" * 5000):  # a form that was made by hand gets no further
        answer = send(
            site, ("action", "retry"), ("query", "status=failed"), ("all", "1"), ("shown", shown), ("do", "confirm")
        )
        assert (answer.status_code, jobs(pool)) == (422, 0)
    assert job_of(site, confirm(site, question, number="120")).status_code == 200


def test_more_than_ids_can_say_are_a_filter_whose_times_are_fixed(
    site: httpx.Client, pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(act_on_many, "IDS", 2)
    make_failed(pool, 3)
    question = ask(site, "status=failed&until=2999-01-01T00:00")
    assert (numbers(question), 'name="id"' in question.text) == (["3", "3", "0"], False)
    later = make_failed(pool, 1)
    job = job_of(site, confirm(site, question))
    work_off_all(pool, settings)
    assert numbers(site.get(job.url)) == ["3", "0", "0"]
    assert require_execution(pool, later[0])["status"] == "failed"
    make_failed(pool, 3)
    refused = ask(site, "q=broken")
    assert (refused.status_code, "narrow it" in refused.text) == (422, True)


def test_when_not_all_that_need_a_decision_were_looked_at_none_is_acted_on(
    site: httpx.Client, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_executions, "UNDECIDED", 1)
    make_failed(pool, 2, "outcome_unknown")
    assert (
        "More steps may need a decision than are looked at: the newest "
        in site.get("/ui/executions?needs=decision").text
    )
    refused = ask(site, "needs=decision")
    assert (refused.status_code, "narrow it" in refused.text) == (422, True)


def test_it_is_told_how_many_steps_may_destroy(site: httpx.Client, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that take the action, and of steps that would be called: not of what is done or only reads."""
    listed(pool, "test", "echo", annotations={"destructiveHint": True})
    failed = make_failed(pool, 2)
    longer = submit(pool, sequence(3))
    assert (
        drive(pool, longer, FunctionTools(echo=lambda **given: Failed("no", "no") if given["value"] else 1)) == "failed"
    )
    waits = submit(pool, sequence(5))
    question = ask(site, "", *failed, longer, waits)
    assert "4 steps of 3 of them may destroy" in question.text
    assert "may destroy" not in ask(site, "", waits, action="pause").text
    run(pool, "pause_execution", {"execution_id": waits, "actor": "ada", "reason": None})
    assert "<strong>5 steps of 1 of them may destroy" in ask(site, "", waits, action="resume").text
    with monkeypatch.context() as patch:
        patch.setattr(act_on_many, "LOOKED", 3)
        assert "<strong>at least 3 steps of 1 of them may destroy" in ask(site, "", waits, action="resume").text
    listed(pool, "test", "echo", digest="two", annotations={"destructiveHint": True, "readOnlyHint": True})
    assert "may destroy" not in ask(site, "", *failed, longer).text


def test_what_means_nothing_or_everything_is_refused_in_words(site: httpx.Client, pool: Pool) -> None:
    (broken,) = make_failed(pool, 1)
    for answer, words in (
        (ask(site, ""), "which would mean every execution"),
        (ask(site, "status=paused"), "no execution matches"),
        (ask(site, "status=%22&statsu=1"), "the filter cannot be read"),
        (send(site, ("action", "retry"), ("query", "")), "nothing was ticked"),
        (send(site, ("action", "csv"), ("query", "")), "nothing was ticked"),
        (send(site, ("action", "delete"), ("id", str(broken))), "no such action"),
        (send(site, ("action", "compare"), ("id", str(broken))), "tick two"),
        (send(site, ("action", "retry"), ("id", "x")), "an id is not one"),
        (ask(site, "", broken, uuid4()), "name no execution"),
        (ask(site, "", *[uuid4() for _ in range(1001)]), "1001 ids"),
        (send(site, *[("id", str(uuid4()))] * 2001), "the form cannot be read"),
    ):
        assert answer.status_code in (404, 422), answer.text
        assert words in html.unescape(answer.text)
    paused = ask(site, "", broken, action="pause")
    assert "None of them takes it" in paused.text
    assert 'value="confirm"' not in paused.text
    assert jobs(pool) == 0


def test_who_may_only_look_acts_on_nothing(settings: Settings, pool: Pool) -> None:
    (broken,) = make_failed(pool, 1)
    key = create_key(pool, "vera", "viewer", None)
    with (
        running_api(settings, Trust(keys=True)) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as site,
    ):
        listed = site.get("/ui/executions").text
        assert listed.count('disabled title="it needs the role operator, and vera has viewer"') == 4
        fields = [("action", "retry"), ("id", str(broken)), ("shown", "1"), ("do", "confirm")]
        assert send(site, *fields).status_code == 403
        assert send(site, *fields[1:], ("action", "csv")).status_code == 200
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert site.post(f"/ui/jobs/{uuid4()}/cancel", headers=form).status_code == 403
        foreign = site.post("/ui/bulk", headers=form | {"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403
    assert (jobs(pool), audited(pool)) == (0, [])


def test_a_job_is_stopped_with_a_reason(site: httpx.Client, pool: Pool, settings: Settings) -> None:
    (broken,) = make_failed(pool, 1)
    job = job_of(site, confirm(site, ask(site, "", broken)))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    stopped = job_of(site, site.post(f"{job.url}/cancel", content="reason=not+these", headers=form))
    assert "Stopped by anonymous: not these" in stopped.text
    work_off_all(pool, settings)
    assert require_execution(pool, broken)["status"] == "failed"
    assert [action for action, _ in audited(pool)] == ["executions.bulk", "job.cancel"]
