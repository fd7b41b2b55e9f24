"""Documentation that can fail: what code accepts is named where people look for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from control_center.cli import COMMANDS
from control_center.dashboard.pages import NAVIGATION
from orchestrator import trace_names
from orchestrator.builtin_tools import TOOLS, Fail
from orchestrator.definition import Config, RetriedKind, Retry, Step, Workflow
from orchestrator.judge_control import ACTIONS, DECISIONS
from orchestrator.metrics import DESCRIBED
from persistence.settings import Settings
from workers.mcp_client import server_entry

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("model", [Workflow, Step, Retry, Config])
def test_every_key_of_the_language_is_documented(model: type[Workflow]) -> None:
    """docs/definition-language.md."""
    text = (ROOT / "docs" / "definition-language.md").read_text()
    missing = [field.alias for field in model.model_fields.values() if f"{field.alias}`" not in text]
    assert missing in ([], ["config"])


def test_every_failure_that_may_be_retried_is_documented() -> None:
    """The words of retryOn."""
    text = (ROOT / "docs" / "definition-language.md").read_text()
    assert [kind for kind in RetriedKind.__args__ if f"`{kind}`" not in text] == []


def test_every_key_of_a_server_is_documented() -> None:
    """docs/servers.md."""
    text = (ROOT / "docs" / "servers.md").read_text()
    assert [key for key in server_entry._OURS if f"`{key}`" not in text] == []


def test_every_builtin_tool_is_documented() -> None:
    """docs/builtin.md: its arguments, and the ways to fail."""
    text = (ROOT / "docs" / "builtin.md").read_text()
    words = {*TOOLS, *Fail.model_fields["kind"].annotation.__args__}
    words |= {name for tool in TOOLS.values() for name in tool["inputSchema"]["properties"]}
    assert [word for word in sorted(words) if f"`{word}`" not in text] == []


def test_every_setting_is_documented() -> None:
    """README.md; the companions of DATABASE_HOST by their endings."""
    text = (ROOT / "README.md").read_text()
    for field in Settings.model_fields.values():
        alias = str(field.validation_alias)
        short = alias.removeprefix("DATABASE") if alias.startswith("DATABASE_") else alias
        assert alias in text or f"`{short}`" in text, alias


def test_every_command_is_documented() -> None:
    """README.md."""
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"afu9 {name}" not in text] == []


def test_every_control_is_documented() -> None:
    """docs/controls.md: its table is what is judged by."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs" / "controls.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    statuses = ("running", "paused", "completed", "failed", "cancelled")
    table = {
        row[0].strip("`"): frozenset(status for status, mark in zip(statuses, row[1:6], strict=True) if mark == "✓")
        for row in rows
        if len(row) == 7
    }
    assert table == dict(ACTIONS)


def test_every_decision_is_documented() -> None:
    """docs/controls.md."""
    text = (ROOT / "docs" / "controls.md").read_text()
    assert [word for word in DECISIONS if f"| `{word}" not in text] == []


def test_every_metric_is_documented() -> None:
    """docs/metrics.md: its tables are what the registry has, with type, labels and meaning."""
    lines = (ROOT / "docs" / "metrics.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `afu9_")]
    assert [tuple(row) for row in rows] == [
        (f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.meaning)
        for one in DESCRIBED.values()
    ]


def test_every_span_and_attribute_is_documented() -> None:
    """docs/traces.md."""
    text = (ROOT / "docs" / "traces.md").read_text()
    names = {value for name, value in vars(trace_names).items() if name.isupper() and name != "SCOPE"}
    assert [name for name in sorted(names) if f"`{name.split('{')[0]}" not in text] == []


def test_architecture_fits_one_sitting() -> None:
    """At most 150 lines, and every file it names exists."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert len(text.splitlines()) <= 150
    import re

    for name in re.findall(r"`((?:control_center|workers|orchestrator|persistence|tests)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_tour_shows_every_page_and_every_picture() -> None:
    """docs/dashboard.md; `make screenshots` takes the pictures."""
    text = (ROOT / "docs" / "dashboard.md").read_text()
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "screenshots").glob("*.png")}
    assert set(re.findall(r"screenshots/([a-z-]+\.png)", text)) == set(pictures)
    assert sum(pictures.values()) < 1_500_000
    assert max(pictures.values()) < 200_000
    headings = " ".join(line for line in text.splitlines() if line.startswith("## "))
    assert [name for name, _ in NAVIGATION if name.removesuffix("s") not in headings] == []
