"""deploy/README.md: commands, variables and files that exist, and figures that were measured or stand in the code."""

from __future__ import annotations

import json
import re
from typing import Any

from control_center.api import app
from tests.deployed import DEPLOY, unknown_commands, unknown_words
from tests.fleet import ROOT
from workers import process

GUIDE = (DEPLOY / "README.md").read_text()
SIZING = " ".join(GUIDE.split("## Sizing")[1].split("\n## ")[0].split())


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")


def test_what_the_guide_names_exists() -> None:
    """Commands, variables (those of the Compose file are its own), files and headings."""
    commands = re.findall(r"\bafu9 ([a-z][a-z-]+)", GUIDE.replace("afu9 deploy/helm", ""))
    assert unknown_commands([word] for word in commands) == []
    compose = (DEPLOY / "docker-compose.yml").read_text()
    assert [word for word in unknown_words(GUIDE) if f"${{{word}:-" not in compose] == []
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", GUIDE, re.M)}
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        path, _, place = link.partition("#")
        assert (DEPLOY / path).exists(), link
        assert path or place in headings, link


def test_every_way_is_in_the_guide() -> None:
    """Every overlay, every Secret that somebody has to make, every file that a unit reads."""
    links = set(re.findall(r"\]\(([^)#]+)\)", GUIDE))
    assert links >= {"docker-compose.yml", "systemd", "kubernetes", "helm", "Dockerfile"}
    assert links >= {f"kubernetes/overlays/{path.name}" for path in (DEPLOY / "kubernetes" / "overlays").iterdir()}
    for name in ("afu9", "afu9-owner", "afu9-tools"):
        assert f"kubectl create secret generic {name} " in GUIDE
    units = "".join(path.read_text() for path in (DEPLOY / "systemd").rglob("*.*") if path.is_file())
    assert [word for word in re.findall(r"/etc/afu9/[\w.]+", units) if f"`{word}`" not in GUIDE] == []


def test_connections_are_those_of_the_pools() -> None:
    """And the sums that are made of them."""
    worker, api = process.CONNECTIONS + 1, 2 * app.THREADS
    orchestrator = int(re.findall(r"max_size=(\d+)\)", (ROOT / "orchestrator" / "__main__.py").read_text())[0])
    limit = int(re.findall(r"max_connections=(\d+)", (DEPLOY / "docker-compose.yml").read_text())[0])
    for words in (
        f"a worker {worker} (its pool {process.CONNECTIONS}, its lease 1), an orchestrator {orchestrator}, an API {api} |",
        f"{worker} × workers + {orchestrator} × orchestrators + {api} × APIs",
        f"of those {worker + orchestrator + api} |",
        f"are {20 * worker + 2 * orchestrator + 2 * api}.",
        f"The Compose file's {limit} carry {(limit - orchestrator - api) // worker} workers",
    ):
        assert words in SIZING


def measured(workload: str, variant: str, executions: int, figure: str) -> float:
    results: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    (case,) = [
        case
        for case in results["cases"]
        if (case["workload"], case["system"], case["variant"], case["executions"])
        == (workload, "afu9", variant, executions)
    ]
    return float(case["figures"][figure]["median"])


def rounded(value: float) -> str:
    """Two digits, and zeros."""
    return f"{int(float(f'{value:.2g}')):,}"


def test_speed_is_what_was_measured() -> None:
    """benchmarks/results.json, as docs/performance.md has it."""
    one, two = (measured("W2", f"{name} x 32 threads", 3000, "steps_per_s") for name in ("1 process", "2 processes"))
    assert f"| {rounded(one)}; two on the same two cores {rounded(two)} |" in SIZING
    calls = measured("W6", "2 processes x 32 threads", 200, "steps_per_s")
    per_second = measured("W6", "2 processes x 32 threads", 200, "steps_per_cpu_s")
    assert f"| {rounded(calls)} by two processes; {rounded(per_second)} per processor second" in SIZING


def test_memory_is_what_was_measured() -> None:
    """Of a worker, and of one more step at once."""
    worker = measured("W2", "1 process x 32 threads", 500, "peak_mb.workers")
    slot = json.loads((ROOT / "benchmarks" / "results.json").read_text())["memory_per_slot_mb"]
    assert f"| {worker:.0f} MB with 32 threads, {slot:.2f} MB for each further step" in SIZING
