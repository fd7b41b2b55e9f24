"""The page of servers and tools, over HTTP."""

from __future__ import annotations

import re

import httpx

from control_center.dashboard.show_tools import LONGEST_SCHEMA, ROWS, hints
from orchestrator.submit import Submitter
from orchestrator.validate import validate
from persistence.json_value import encode_json
from persistence.pool import Pool, run
from tests.integration.test_api import api as api
from tests.read_page import words

SCRIPT = "<script>alert(1)</script>"


def listed(pool: Pool, server: str, *tools: str, digest: str = "one", **more: object) -> None:
    """What a server offers."""
    run(pool, "claim_refresh", {"server": server, "repeat_unannotated": False, "ttl": 0})
    rows = [{"tool": tool, "repeatable": False, "hash": digest, **more} for tool in tools]
    run(pool, "store_tools", {"server": server, "era": "2025-06-18", "tools": encode_json(rows)})


def test_servers_are_shown_as_they_were_when_last_looked_at(api: httpx.Client, pool: Pool) -> None:
    assert "No worker has looked at a server yet" in words(api.get("/ui/tools"))
    listed(pool, "good", "echo", "tell")
    listed(pool, "bad", "echo")
    run(pool, "note_server_error", {"server": "bad", "error": f"refused {SCRIPT}"})
    run(pool, "claim_refresh", {"server": "new", "repeat_unannotated": False, "ttl": 0})
    answer = api.get("/ui/tools")
    assert "good ✓ reachable 2025-06-18 2 " in words(answer)
    assert f"bad ✕ not reachable refused {SCRIPT} its tools are those of" in words(answer)
    assert "new ○ asked now – 0 " in words(answer)
    assert SCRIPT not in answer.text


def test_a_tool_tells_what_it_is_and_who_calls_it(api: httpx.Client, pool: Pool) -> None:
    """Newest versions only. A schema is shown as it is: its `token` is no secret; what is long is cut."""
    schema = {"properties": {"token": {"type": "string", "description": f"a {SCRIPT}"}}}
    listed(
        pool, "srv", "a/b?c", input_schema=schema, output_schema={"x": "y" * 99_999}, description=f"It {SCRIPT}",
        annotations={"readOnlyHint": False, "destructiveHint": True},
    )  # fmt: skip
    submitter = Submitter(pool, None)
    for name, tools in (
        ("old", ["srv.a", "srv.b"]),
        ("old", ["srv.b"]),
        ("one", ["srv.a", "srv.a"]),
        ("two", ["srv.a"]),
    ):
        steps = [{"name": f"s{place}", "tool": tool, "params": {}} for place, tool in enumerate(tools)]
        submitter.register(validate({"name": name, "steps": steps}))
    answer = api.get("/ui/tools")
    assert f"srv.a/b?c It {SCRIPT} changes things · may destroy · not called again if" in words(answer)
    assert '"token": { "type": "string"' in words(answer)
    assert f'"description": "a {SCRIPT}"' in words(answer)
    assert SCRIPT not in answer.text
    assert len(answer.content) < 2 * LONGEST_SCHEMA
    assert 'action="/ui/holds/tool/srv.a/b%3Fc"' in answer.text
    assert "No registered workflow calls it." in words(answer)
    listed(pool, "srv", "a", "b")
    shown = words(api.get("/ui/tools"))
    assert "Called by one , two" in shown
    assert re.search(r"srv\.b .*Called by old", shown)


def test_tools_are_held_and_released_where_they_stand(api: httpx.Client, pool: Pool) -> None:
    listed(pool, "srv", "a/b?c")
    action = "/ui/holds/tool/srv.a/b%3Fc"
    back = "/ui/tools?q=srv.a"
    held = api.post(action, data={"do": "hold", "reason": f"why {SCRIPT}", "back": back})
    assert (held.status_code, held.headers["location"]) == (303, back)
    answer = api.get(back)
    assert "held by anonymous since" in words(answer)
    assert f"why {SCRIPT}" in words(answer)
    assert [row["name"] for row in run(pool, "list_holds")] == ["srv.a/b?c"]
    assert f'name="back" value="{back}"' in answer.text
    assert api.post(action, data={"do": "release", "back": back}).status_code == 303
    assert run(pool, "list_holds") == []


def test_many_tools_come_in_pages_and_are_searched(api: httpx.Client, pool: Pool) -> None:
    listed(pool, "a", *(f"tool_{number:02}" for number in range(ROWS)))
    listed(pool, "b", "x.y", "x%y", description="finds things")
    first = api.get("/ui/tools")
    assert first.text.count("<article") == ROWS
    (following,) = re.findall(r'href="([^"]*)">more', first.text)
    assert re.findall(r'<article[^>]*id="([^"]*)"', api.get(following).text) == ["b.x%y", "b.x.y"]
    for query, found in (
        ({"q": "B.X"}, ["b.x%y", "b.x.y"]),
        ({"q": "%"}, ["b.x%y"]),
        ({"q": "FINDS"}, ["b.x%y", "b.x.y"]),
        ({"server": "b", "after": "b.x%y"}, ["b.x.y"]),
        ({"q": f"no {SCRIPT}"}, []),
    ):
        answer = api.get("/ui/tools", params=query)
        assert re.findall(r'<article[^>]*id="([^"]*)"', answer.text) == found, query
        assert ("No tool fits." in words(answer)) == (not found)
        assert SCRIPT not in answer.text
    assert api.get("/ui/tools", params={"q": "\0"}).status_code == 422


def test_annotations_are_told_in_words() -> None:
    """What reads only destroys nothing; what is not said is not told."""
    assert hints({"readOnlyHint": True, "destructiveHint": True}, True) == ["reads only", "may be called again"]
    told = hints({"destructiveHint": False, "idempotentHint": True, "openWorldHint": "yes", "title": SCRIPT}, False)
    assert told == ["does not destroy", "twice is as once", "not called again if its outcome is unknown"]
    assert hints(["odd"], True) == hints(None, True) == ["may be called again"]
