"""A real browser before a real API. What a page must never do fails its test: a policy violated, an error on the console, a
request to another host.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from control_center.keys import Trust
from orchestrator.outcome import Failed
from persistence.pool import Pool
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import drive, submit
from tests.workflows import FunctionTools, sequence

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
AXE = Path(AXE_FILE_PATH).read_text()
SCRIPT = "<script>alert(1)</script>"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is not None:
        return
    for item in items:
        if "tests/browser" in str(item.path):
            item.add_marker(pytest.mark.skip(reason="no Chromium on PATH: install the package chromium"))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """For these tests only: while it is open, Playwright's event loop runs in this thread, and no test can start its own."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@dataclass
class Site:
    """The pages' address without a slash at its end, and what pages did that they must not do."""

    address: str
    new_page: Callable[..., Page]
    faults: list[str] = field(default_factory=list)

    def open(self, path: str, **options: object) -> Page:
        """A page in a context of its own. `options`: of the context, such as color_scheme or viewport."""
        opened = self.new_page(self, **options)
        opened.goto(self.address + path)
        return opened


@pytest.fixture(params=["", "/x/flow"], ids=["at-root", "under-prefix"])
def site(request: pytest.FixtureRequest, settings: Settings, browser: Browser) -> Iterator[Site]:
    """The dashboard of this test's database, at the root of its host and under a path of a proxy."""
    with serve(settings, browser, request.param) as served:
        yield served


@contextmanager
def serve(settings: Settings, browser: Browser, prefix: str = "", trust: Trust | None = None) -> Iterator[Site]:
    """Serves and watches; raises AssertionError at the end for what a page did that it must not do."""
    with ExitStack() as stack:
        address = stack.enter_context(running_api(settings.model_copy(update={"api_root": prefix}), trust))
        faults: list[str] = []

        def new_page(site: Site, **options: object) -> Page:
            context = stack.enter_context(browser.new_context(**options))  # type: ignore[arg-type]
            opened = context.new_page()
            _watch(opened, site)
            return opened

        site = Site(address + prefix, new_page, faults)
        yield site
    assert not site.faults, "\n".join(site.faults)


def _watch(page: Page, site: Site) -> None:
    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            site.faults.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(site.address).netloc:
            site.faults.append(f"request to another host: {request.url}")

    page.on("console", on_console)
    page.on("request", on_request)
    page.on("pageerror", lambda error: site.faults.append(f"script: {error}"))


def accessibility_faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical: rule and place."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def accessibility_faults_by_day_and_night(page: Page) -> list[str]:
    """The same in light and dark."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found += accessibility_faults(page)
    return found


def failing(**arguments: Any) -> Any:
    """The second step's tool."""
    return Failed("tool_error", f"HTTP 503 {SCRIPT}") if arguments["value"] == 1 else arguments


@pytest.fixture
def failed(pool: Pool) -> UUID:
    """Three steps, of which the second failed."""
    execution_id = submit(pool, sequence(3), title=f"A {SCRIPT} title")
    assert drive(pool, execution_id, FunctionTools(echo=failing)) == "failed"
    return execution_id
