"""The pages of registered workflows, over HTTP: the list, the grid of runs, versions, warnings, the form that starts one."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import httpx
import pytest

from control_center.dashboard.show_workflow import WINDOW
from control_center.keys import Trust, create_key
from orchestrator.outcome import Failed
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import require_execution
from persistence.json_value import encode_json
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import drive
from tests.integration.test_api import api as api
from tests.read_page import field, words
from tests.workflows import FunctionTools, echo

SCRIPT = "<script>alert(1)</script>"
STEPS = [
    {"name": "fetch", "tool": "test.echo", "params": {"n": "${input.n}"}, "assign": "found"},
    {"name": "tell", "tool": "test.tell", "params": {"text": "${found}"}},
]
SCHEMA = {
    "type": "object",
    "required": ["n"],
    "additionalProperties": False,
    "maxProperties": 4,
    "properties": {
        "n": {"type": "integer", "description": f"the number {SCRIPT}"},
        "mode": {"enum": ["fast", "slow"], "default": "slow"},
        "dry": {"type": "boolean"},
        "tags": {"type": "array"},
        f"odd {SCRIPT}": {"type": "string", "default": "two\nlines"},
    },
}
PAGE = "/ui/workflows/greet"


def register(pool: Pool, steps: Any = STEPS, **more: Any) -> UUID:
    document = {"name": "greet", "description": f"Says {SCRIPT}", "steps": steps, **more}
    found: UUID = Submitter(pool, None).register(validate(document))["id"]
    return found


def start(pool: Pool, tools: FunctionTools | None = None, **request: Any) -> UUID:
    wish = Request(**{"input": {"n": 7}, **request})
    execution_id = Submitter(pool, None).submit_named("greet", [wish])[1][0].execution_id
    if tools is not None:
        drive(pool, execution_id, tools)
    return execution_id


def good() -> FunctionTools:
    return FunctionTools(echo=echo, tell=echo)


def bad() -> FunctionTools:
    return FunctionTools(echo=echo, tell=lambda **_: Failed("tool_error", f"HTTP 503 {SCRIPT}"))


def catalogue(pool: Pool, *tools: str, digest: str = "one", **more: Any) -> None:
    """What the server `test` offers."""
    run(pool, "claim_refresh", {"server": "test", "repeat_unannotated": False, "ttl": 0})
    hints = {"readOnlyHint": False}
    rows = [{"tool": tool, "repeatable": True, "hash": digest, "annotations": hints, **more} for tool in tools]
    run(pool, "store_tools", {"server": "test", "era": "2025-06-18", "tools": encode_json(rows)})


def audited(pool: Pool) -> list[tuple[str, str, str]]:
    with pool.connection() as connection:
        rows = connection.execute("SELECT principal, action, target FROM audit_log ORDER BY id").fetchall()
    return [(row["principal"], row["action"], row["target"]) for row in rows]


def executions(pool: Pool) -> int:
    with pool.connection() as connection:
        return len(connection.execute("SELECT id FROM workflow_executions").fetchall())


def key_of(answer: httpx.Response) -> str:
    found = re.search(r'name="key" value="(\w+)"', answer.text)
    assert found is not None
    return found[1]


def test_workflows_are_listed_with_their_newest_runs(api: httpx.Client, pool: Pool) -> None:
    assert "curl --json" in words(api.get("/ui/workflows"))
    register(pool)
    start(pool, good())
    start(pool, bad(), title=f"Bad {SCRIPT}")
    answer = api.get("/ui/workflows")
    assert "greet ✓ enabled 1 ✕ ✓ " in words(answer)
    assert f"Says {SCRIPT}" in words(answer)
    assert 'aria-label="Bad &lt;script&gt;alert(1)&lt;/script&gt;: failed"' in answer.text
    assert SCRIPT not in answer.text
    for q, status in (("gre_", 200), ("%", 200), ("\0", 422), ("x" * 256, 422)):
        found = api.get("/ui/workflows", params={"q": q})
        assert (found.status_code, ">greet<" in found.text) == (status, False), q
    assert ">greet<" in api.get("/ui/workflows", params={"q": "REE"}).text


def test_a_workflow_shows_its_runs_by_step(api: httpx.Client, pool: Pool) -> None:
    """A cell is that step of that run; what is drawn is a table too, and the sums are of these runs."""
    register(pool)
    empty = api.get(PAGE)
    assert "It has not run yet" in words(empty)
    start(pool, good(), title="First")
    failed = start(pool, bad(), title=f"Second {SCRIPT}")
    start(pool)
    with pool.connection() as connection:  # whose worker has not heard of it yet
        connection.execute(
            "UPDATE workflow_steps SET status = 'running', dispatch_after = NULL WHERE status = 'pending'"
        )
        connection.execute("UPDATE workflow_executions SET status = 'cancelled' WHERE status = 'running'")
    answer = api.get(PAGE)
    assert len(re.findall('class="cell cancelled"', answer.text)) == 2
    assert len(re.findall(r'<a href="[^"]*" class="(?:cell|bar) ', answer.text)) == 3 * 3
    cell = re.search(r'<a href="([^"]*)" class="cell failed"><title>([^<]*)', answer.text)
    assert cell is not None
    assert cell[1] == f"/ui/executions/{failed}/steps/1"
    assert cell[2].startswith("tell of Second &lt;script")
    assert "of these 3: success 50 %" in words(answer)
    assert "tell test.tell 2 50 %" in words(answer)
    assert f'href="/ui/compare?b={failed}&previousGood=1"' in answer.text
    assert SCRIPT not in answer.text
    region = api.get(PAGE, params={"region": "runs"})
    assert ("Newest runs" in region.text, "Definition, version" in region.text) == (True, False)


@pytest.mark.parametrize(
    "path", ["nothing", "nothing/run", "greet?version=2", "greet?against=7", "%00", "greet?window=0"]
)
def test_what_there_is_not_is_a_page_that_says_so(api: httpx.Client, pool: Pool, path: str) -> None:
    register(pool)
    answer = api.get(f"/ui/workflows/{path}")
    assert answer.status_code in (404, 422)
    assert '<section class="fault"' in answer.text
    for deed in ("run", "enable", "disable"):
        assert api.post(f"/ui/workflows/nothing/{deed}", data={"do": "x"}).status_code == 404


def test_versions_are_compared(api: httpx.Client, pool: Pool) -> None:
    register(pool)
    register(pool, [{**STEPS[0], "params": {"n": "${input.n}", "token": "hunter2"}}, STEPS[1]])
    register(pool, [STEPS[0]])
    assert "What became other from version 2 to 3" in words(api.get(PAGE))
    answer = api.get(PAGE, params={"version": 2, "against": 1})
    assert "What became other from version 1 to 2" in words(answer)
    assert "/steps/0/params/token" in words(answer)
    assert '"n": "${input.n}"' in words(answer)
    assert "hunter2" not in answer.text


def test_tools_that_are_gone_changed_or_held_are_warned_of(api: httpx.Client, pool: Pool) -> None:
    register(pool)
    assert "test.echo : no worker has reached its server" in words(api.get(PAGE))
    catalogue(pool, "echo", "tell")
    register(pool, [*STEPS, {**STEPS[1], "name": "again"}])
    assert 'aria-label="Warnings"' not in api.get(PAGE).text
    catalogue(pool, "echo", digest="two")
    run(pool, "hold_calls", {"kind": "server", "name": "test", "actor": "ada", "reason": f"broken {SCRIPT}"})
    told = words(api.get(PAGE))
    assert "test.echo : its schema became another" in told
    assert "test.tell : its server does not offer it" in told
    assert "server test ‖ held by ada since" in told
    assert f"broken {SCRIPT}" in told


def test_thousands_of_steps_are_shown_in_windows(api: httpx.Client, pool: Pool) -> None:
    register(pool, [{"name": f"s{number}", "tool": "test.echo", "params": {}} for number in range(2000)])
    start(pool)
    answer = api.get(PAGE)
    assert len(re.findall('class="cell pending"', answer.text)) == WINDOW
    assert "steps 1 and on, page 1 of 50" in words(answer)
    assert len(answer.content) < 150_000
    assert ">s1999<" in api.get(PAGE, params={"window": 99}).text


def test_who_may_not_is_told_why_and_what_is_done_is_audited(settings: Settings, pool: Pool) -> None:
    """Also across sites."""
    register(pool)
    deeds = (("disable", {}), ("enable", {}), ("run", {"input": '{"n": 1}', "do": "start"}))
    holds = [("/ui/holds/workflow/greet", {"do": do, "reason": "it moves", "back": PAGE}) for do in ("hold", "release")]
    with running_api(settings, Trust(keys=True)) as url:
        for role, told in (("viewer", "viewer"), ("operator", "")):
            key = create_key(pool, "ada", role, None)  # type: ignore[arg-type]
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as api:
                page = api.get(PAGE)
                assert (f"it needs the role operator, and ada has {told}" in words(page)) == bool(told)
                assert len(re.findall(r"<button[^>]*disabled", page.text)) == (3 if told else 0)
                form = api.get(f"{PAGE}/run")
                assert ("Not possible: it needs the role submitter" in words(form)) == bool(told)
                for path, given in [(f"{PAGE}/{deed}", given) for deed, given in deeds] + holds:
                    foreign = api.post(path, data=given, headers={"Origin": "https://evil.example"})
                    assert foreign.status_code == 403
                    assert api.post(path, data=given).status_code == (403 if told else 303), path
    done = ["workflow.disable", "workflow.enable", "execution.start", "workflow.hold", "workflow.release"]
    assert audited(pool) == [("ada", action, "greet") for action in done]
    assert run(pool, "list_holds") == []


def test_a_hold_leads_back_to_its_page_and_nowhere_else(api: httpx.Client, pool: Pool) -> None:
    for back, there in ((PAGE, PAGE), ("https://evil.example/ui/", "/ui/inbox"), ("//evil.example", "/ui/inbox")):
        answer = api.post("/ui/holds/tool/test.echo", data={"do": "hold", "back": back})
        assert answer.headers["location"] == there
    assert api.post("/ui/holds/person/ada", data={"do": "hold"}).status_code == 422
    assert api.post("/ui/holds/tool/test.other", data={"do": "release"}).status_code == 404


def test_the_form_starts_what_was_typed(api: httpx.Client, pool: Pool) -> None:
    """Integers exact, texts as they are; first it says what would be called."""
    catalogue(pool, "echo", "tell")
    register(pool, inputSchema=SCHEMA)
    form = api.get(f"{PAGE}/run")
    assert f"the number {SCRIPT}" in words(form)
    assert SCRIPT not in form.text
    assert 'name="input"' not in form.text
    assert "two\nlines</textarea>" in form.text
    sent = {"key": key_of(form), "in.n": "9007199254740993", "in.mode": '"fast"', "in.dry": "true", "in.tags": '["a"]'}
    sent |= {"title": f"By form {SCRIPT}", "labels": "team: shop\r\nkind:test"}
    preview = api.post(f"{PAGE}/run", data=sent | {"do": "preview"})
    assert "It would call 2 tools Nothing was started. fetch: test.echo changes things" in words(preview)
    assert field(preview, "in.n") == ("9007199254740993", "")
    assert executions(pool) == 0
    answer = api.post(f"{PAGE}/run", data=sent | {"do": "start"})
    row = require_execution(pool, UUID(answer.headers["location"].rpartition("/")[2]))
    assert row["input"] == {"n": 2**53 + 1, "mode": "fast", "dry": True, "tags": ["a"]}
    assert (row["title"], row["labels"]) == (f"By form {SCRIPT}", {"team": "shop", "kind": "test"})


def test_faults_stand_beside_their_fields_and_what_was_typed_stays(api: httpx.Client, pool: Pool) -> None:
    register(pool, inputSchema=SCHEMA)
    odd = f"in.odd {SCRIPT}"
    for typed, faults in (
        ({"in.n": f"seven {SCRIPT}", "in.tags": "{"}, {"in.n": "not a number", "in.tags": "not JSON"}),
        ({"in.n": "1.5", "in.tags": "{}"}, {"in.n": "not of type 'integer'", "in.tags": "not of type 'array'"}),
        ({"in.n": "", "labels": f"nothing {SCRIPT}"}, {"in.n": "it is needed", "labels": "NAME:VALUE"}),
        ({"in.n": "1", "title": "x" * 501}, {"title": "at most 500 characters"}),
        ({"in.n": "1", "labels": "x" * 256 + ":y"}, {"labels": "at most 255 characters"}),
        ({"in.n": "1e999"}, {"in.n": "not of type 'integer'"}),
        ({"in.n": "[redacted]"}, {"in.n": "stands for what may not be shown"}),
        ({"in.n": "1", "odd": "\0"}, {}),
    ):
        sent = {"in.n": "1", "do": "start"} | {odd if name == "odd" else name: text for name, text in typed.items()}
        answer = api.post(f"{PAGE}/run", data=sent)
        if typed.get("odd"):
            assert "NUL" in words(answer)
        assert answer.status_code == 422, words(answer)
        assert SCRIPT not in answer.text
        for name, told in faults.items():
            value, fault = field(answer, name)
            assert (value, told in fault) == (typed[name], True), (name, value, fault)
    whole = {"in.n": "1", "in.mode": '"fast"', "in.dry": "true", "in.tags": "[]", odd: "x"}
    assert "has too many properties" in words(api.post(f"{PAGE}/run", data=whole))  # which is no one field's fault
    assert api.post(f"{PAGE}/run", content=b"\xff=\xff&&", headers={"Content-Type": "text/plain"}).status_code == 415
    assert executions(pool) == 0


def test_sending_a_form_twice_starts_one_run(api: httpx.Client, pool: Pool) -> None:
    register(pool)
    form = api.get(f"{PAGE}/run")
    assert "Its steps read input.n ." in words(form)
    sent = {"key": key_of(form), "version": "1", "input": '{"n": 1}', "do": "start"}
    answers = [api.post(f"{PAGE}/run", data=sent) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    other = api.post(f"{PAGE}/run", data=sent | {"input": '{"n": 2}'})
    assert (other.status_code, "that one stands" in words(other)) == (422, True)
    again = api.post(f"{PAGE}/run", data=sent | {"input": '{"n": 2}', "key": key_of(other)})
    assert again.status_code == 303
    assert executions(pool) == 2


def test_what_changed_since_the_form_was_shown_is_told_first(api: httpx.Client, pool: Pool) -> None:
    """Another version, or that nothing of it is to be started."""
    register(pool)
    sent = {"version": "1", "input": '{"n": 1}', "do": "start"}
    register(pool, STEPS[:1])
    answer = api.post(f"{PAGE}/run", data=sent)
    assert (answer.status_code, "Version 2 was registered meanwhile" in words(answer)) == (409, True)
    assert field(answer, "version")[0] == "2"
    run(pool, "enable_workflow", {"name": "greet", "enabled": False})
    answer = api.post(f"{PAGE}/run", data=sent | {"version": "2"})
    assert (answer.status_code, "greet is disabled" in words(answer)) == (409, True)
    assert field(answer, "input") == ('{"n": 1}', "")
    assert executions(pool) == 0
