"""What is installed is what constraints.txt says, and it says everything: two machines build the same."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
EXTRAS = {"", "embedded", "demo", "archive", "otel", "dev"}
OURS = "afu9"
WITH_PYTHON = {"pip", "setuptools"}  # of the virtual environment, not of the project


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)==(\S+)$", text, re.M)
    return {canonicalize_name(name): version for name, version in found}


def needed(extras: set[str]) -> set[str]:
    """Everything that installing us with these extras brings onto this Python, directly or not."""
    seen: set[tuple[str, str]] = set()
    left = [(OURS, extra) for extra in extras]
    while left:
        if (item := left.pop()) in seen:
            continue
        seen.add(item)
        name, extra = item
        for text in metadata.requires(name) or []:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(wanted.name), found) for found in {"", *wanted.extras}]
    return {name for name, _ in seen} - {OURS} - WITH_PYTHON


def unpinned(names: set[str], text: str) -> list[str]:
    """What is not pinned, or not to the version that is installed."""
    pinned = pins(text)
    installed = {name: metadata.version(name) for name in names}
    return [f"{name}=={version}" for name, version in sorted(installed.items()) if pinned.get(name) != version]


def test_everything_that_is_needed_is_pinned_to_what_is_installed() -> None:
    """At run time, in the demo and in development."""
    assert unpinned(needed(EXTRAS), CONSTRAINTS.read_text()) == []


def test_the_pins_have_one_form_and_no_double() -> None:
    """name==version, so that the audit reads every one of them."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(pins("\n".join(lines))) == len(lines)


def test_what_is_missing_or_differs_is_named() -> None:
    """On a doctored file."""
    text = CONSTRAINTS.read_text()
    missing = re.sub(r"^redis==.*\n", "", text, flags=re.M)
    other = re.sub(r"^httpcore==.*$", "httpcore==0.0.1", missing, flags=re.M)
    assert [line.split("==")[0] for line in unpinned(needed({""}), other)] == ["httpcore", "redis"]


def test_what_others_need_is_looked_at_too() -> None:
    """A dependency of a dependency, and one that only an extra brings."""
    assert {"redis", "httpcore", "psycopg-binary", "pydantic-core"} <= needed({""})
    assert "ruff" not in needed({""})
    assert "pathspec" in needed({"dev"})
