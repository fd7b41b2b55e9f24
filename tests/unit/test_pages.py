"""What pages are made of: files that are what they say, and templates that the policy lets work."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import control_center.dashboard
from control_center import timeline
from control_center.dashboard.assets import bundle
from control_center.dashboard.pages import _templates

FOLDER = Path(control_center.dashboard.__file__).parent
VENDORED = json.loads((FOLDER / "vendored" / "manifest.json").read_text())
FORBIDDEN = {  # each would be blocked, some without a word
    "a style attribute": r"\sstyle\s*=",
    "an inline handler": r"\son[a-z]+\s*=\s*[\"']",
    "what htmx evaluates": r"hx-on|hx-live|js:|hx-trigger=\"[^\"]*\[",
    "an inline script": r"<script(?![^>]*\ssrc=)",
    "an inline style": r"<style",
    "another host": r"(?:src|href|action)=\"(?:https?:)?//",
    "text that is not escaped": r"\|\s*safe|autoescape false",
}


def test_what_is_vendored_is_what_the_manifest_says() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FOLDER / "vendored").glob("*.js")}
    assert found == {one["file"]: one["sha256"] for one in VENDORED}


@pytest.mark.parametrize("template", sorted((FOLDER / "templates").glob("*.html")), ids=lambda path: path.stem)
def test_a_template_holds_nothing_that_the_policy_forbids(template: Path) -> None:
    text = template.read_text()
    assert [name for name, pattern in FORBIDDEN.items() if re.search(pattern, text)] == []


def test_what_is_forbidden_is_found() -> None:
    seen = '<p style="x" onclick="y"><b hx-on:click="z"></b><script>1</script><style></style><a href="//x">{{ y | safe }}</a>'
    assert all(re.search(pattern, seen) for pattern in FORBIDDEN.values())


@pytest.mark.parametrize("template", sorted((FOLDER / "templates").glob("*.html")), ids=lambda path: path.stem)
def test_a_region_is_a_block_of_its_template(template: Path) -> None:
    regions = set(re.findall(r"parts\.region\(\"(\w+)\"", template.read_text()))
    assert regions <= set(_templates.get_template(template.name).blocks)


@pytest.mark.parametrize("script", sorted((FOLDER / "scripts").glob("*.js")), ids=lambda path: path.stem)
def test_a_script_makes_no_markup_of_text(script: Path) -> None:
    made = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert not re.search(made, script.read_text())


def test_the_stylesheet_and_the_script_are_small() -> None:
    css, js = (len(bundle(kind)[2]) for kind in ("css", "js"))
    assert css <= 12 * 1024
    assert css + js <= 60 * 1024


SIGNS = set("…·–—‹›✕✓⚠≡−→◐◌↻Δ☑☐●○▲█⊘×”“‖").union(chr(code) for code in range(0x80))


def test_pages_write_only_signs_that_usual_fonts_have() -> None:
    """Others show as a box where no emoji or mathematical font is installed: look at a new one there before it is added."""
    files = [*(FOLDER / "templates").glob("*.html"), *(FOLDER / "scripts").glob("*.js"), *FOLDER.rglob("*.py")]
    used = {sign for path in [*files, Path(timeline.__file__)] for sign in path.read_text()}
    assert used - SIGNS == set("＋－＝＠")  # which exports look for, and no page shows
