"""The API's document: committed, true, and readable without another host."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import httpx

from control_center.api.__main__ import document
from control_center.api.problems import PROBLEMS
from persistence.settings import Settings
from tests.api_server import running_api

ROOT = Path(__file__).parents[2]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_the_committed_document_is_current() -> None:
    """`python -m control_center.api > docs/openapi.json` makes it."""
    assert (ROOT / "docs" / "openapi.json").read_text() == document()


def test_every_problem_is_documented() -> None:
    """docs/api.md: clients match on the type."""
    text = (ROOT / "docs" / "api.md").read_text()
    assert [slug for slug in PROBLEMS if f"`{slug}`" not in text] == []


def test_whatever_is_sent_is_answered_as_documented(settings: Settings) -> None:
    """Schemathesis makes requests of the document, valid and not: no 5xx, and no answer that it does not tell of."""
    program = Path(sys.executable).with_name("schemathesis")
    with running_api(settings) as url:
        command = [program, "run", f"{url}/openapi.json", "--checks", CHECKS, "--max-examples", "5", "--seed", "9"]
        answer = subprocess.run(
            [*command, "--phases", "coverage,fuzzing", "--exclude-path", "/api/workflow/events"],  # it does not end
            capture_output=True,
            text=True,
            check=False,
            cwd=settings.state_dir.parent,
        )
    assert answer.returncode == 0, answer.stdout[-4000:]
    assert re.search(r"\d{3,} generated", answer.stdout)


class Links(HTMLParser):
    """What a page would load, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.anchors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "link", "iframe"):
            self.loaded.append(tag)
        if tag == "h2":
            self.anchors.append(found["id"] or "")


def test_the_reference_page_loads_nothing(settings: Settings) -> None:
    """And has a heading for every route."""
    with running_api(settings) as url:
        page = httpx.get(f"{url}/api")
        routes = httpx.get(f"{url}/openapi.json").json()["paths"]
    links = Links()
    links.feed(page.text)
    assert links.loaded == []
    assert len(links.anchors) == sum(len(item) for item in routes.values())
    assert "default-src 'none'" in page.headers["content-security-policy"]
