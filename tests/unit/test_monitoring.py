"""Rules, alerts, dashboard and runbooks speak of metrics that exist, and of each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.metrics import DESCRIBED

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus"
ALERTS = 16
NO_METRICS = {"afu9_start_workflow", "afu9_app", "afu9_reader", "afu9_worker"}  # words of the same form
SPEAKING = sorted(
    path
    for path in [
        *RULES.glob("*.yml"),
        *(DEPLOY / "grafana").rglob("*.json"),
        *(path for folder in ("compose", "kubernetes", "helm") for path in (DEPLOY / folder).rglob("*.y*ml")),
        ROOT / "docs" / "metrics.md",
        ROOT / "docs" / "runbooks.md",
    ]
    if path.is_file()
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: Debian's package prometheus"
)


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules("recording.yml")}


def described(name: str, *, told: bool) -> str | None:
    """The metric that a series belongs to. A histogram's own name is no series; `told`: a text may say it all the same."""
    base = re.sub("_(bucket|sum|count)$", "", name)
    if base in DESCRIBED and DESCRIBED[base].kind == "histogram":
        return base if told or base != name else None
    return name if name in DESCRIBED or name in NO_METRICS else None


def faults(text: str, *, told: bool = False) -> list[str]:
    """Series that nobody serves or records, and labels that they do not have."""
    series = re.findall(r"(?<![\w/@.-])(afu9_[a-z0-9_]+)(?:\{([^}]*)\})?", text)
    found = [name for name, _ in series if described(name, told=told) is None]
    found += [name for name in re.findall(r"\b(afu9:[a-z0-9_:]+)", text) if name not in recorded()]
    for name, selector in series:
        metric = described(name, told=told)
        if metric in DESCRIBED:
            labels = {*DESCRIBED[metric].labels, "le", "instance", "job", "namespace", "pod"}
            asked = re.findall(r"(\w+)\s*[!=]=?~?\\?\"", selector)
            found += [f"{name}: {label}" for label in asked if label not in labels]
    return found


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_metric_that_is_spoken_of_exists(path: Path) -> None:
    """With the labels that it is asked for."""
    assert faults(path.read_text(), told=path.suffix == ".md") == []


def test_a_metric_that_does_not_exist_is_seen() -> None:
    """A typing error, a counter's bucket, a histogram's own name, a rule that nobody records, a foreign label."""
    wrong = ["afu9_stepz_total", "afu9_drains_total_bucket", "afu9_message_wait_seconds", "afu9:nothing:max"]
    right = 'afu9_queue_depth afu9_message_wait_seconds_bucket{le="1.0"} afu9:queue_depth:max'
    foreign = 'afu9_drains_total{server="x",cause="y"}'
    assert faults(" ".join([*wrong, right, foreign])) == [*wrong, "afu9_drains_total: server"]


def test_everything_is_looked_at() -> None:
    """Rules, dashboard and both documents."""
    seen = {path.name for path in SPEAKING}
    assert seen >= {
        "recording.yml",
        "alerts.yml",
        "tests.yml",
        "afu9.json",
        "metrics.md",
        "runbooks.md",
        "scaledobject.yaml",
    }


def test_figures_of_the_fleet_are_read_once_whatever_the_number_of_replicas() -> None:
    """Alerts and dashboard read the recorded maximum; only whether it is there at all is asked of the metric itself."""
    fleet = {name for name, one in DESCRIBED.items() if one.where == "fleet"} - {"afu9_fleet_scrape_ok"}
    read = {name for path in ("prometheus/alerts.yml", "grafana/afu9.json") for name in names_in(DEPLOY / path)}
    assert read & fleet == set()
    assert all(rule["expr"].startswith("max") for rule in rules("recording.yml") if names(rule["expr"]) & fleet)


def names_in(path: Path) -> set[str]:
    return names(path.read_text())


def names(text: str) -> set[str]:
    return set(re.findall(r"\bafu9_[a-z0-9_]+", text))


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """docs/runbooks.md, in the same order; pages and tickets only."""
    alerts = rules("alerts.yml")
    assert len(alerts) == ALERTS
    text = (ROOT / "docs" / "runbooks.md").read_text()
    assert re.findall(r"^## (\w+)$", text, re.M) == [alert["alert"] for alert in alerts]
    for alert in alerts:
        assert alert["annotations"]["runbook"] == f"docs/runbooks.md#{alert['alert'].lower()}"
        section = text.split(f"## {alert['alert']}\n")[1].strip()
        assert section.startswith(f"*{alert['labels']['severity']}.*"), alert["alert"]


def test_every_alert_is_seen_firing() -> None:
    """In a scene of tests.yml, beside scenes in which nothing fires."""
    scenes = [scene for path in RULES.glob("tests*.yml") for scene in yaml.safe_load(path.read_text())["tests"]]
    fired = [
        re.findall(r'alertname="(\w+)"', sample["labels"])[0]
        for scene in scenes
        for check in scene["promql_expr_test"]
        for sample in check["exp_samples"]
    ]
    assert sorted(fired) == sorted(alert["alert"] for alert in rules("alerts.yml"))
    assert any(all(not check["exp_samples"] for check in scene["promql_expr_test"]) for scene in scenes)


def promtool(*arguments: str) -> str:
    answer = subprocess.run(["promtool", *arguments], cwd=RULES, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


@needs_promtool
def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    """As it would at its start."""
    assert f"{ALERTS} rules found" in promtool("check", "rules", "recording.yml", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


@needs_promtool
@pytest.mark.slow
def test_each_alert_fires_once_and_not_otherwise() -> None:
    """`promtool test rules`: it plays hours and days."""
    assert promtool("test", "rules", "tests.yml", "tests_week.yml").count("SUCCESS") == 2


def test_the_dashboard_can_be_provisioned() -> None:
    """Its source is a variable, its rows are there, no panel has another's number or place."""
    board = json.loads((DEPLOY / "grafana" / "afu9.json").read_text())
    panels = board["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Now", "Flow", "Quality", "Tools", "Workers", "API and live updates", "Stores", "Cost"]
    assert board["templating"]["list"][0]["type"] == "datasource"
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] == "row" or {target["datasource"]["uid"] for target in panel["targets"]} == {
            "${datasource}"
        }
