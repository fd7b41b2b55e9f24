"""What docs/client.md and the client's docstring show is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import control_center.client
from persistence.settings import Settings
from tests.api_server import running_api
from tests.fleet import ROOT, Fleet, bare_server, environment, mcp_config


@pytest.fixture
def url(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An API with a worker behind it; AFU9_URL says where."""
    (tmp_path / "logs").mkdir()
    with bare_server() as server, running_api(settings) as address:
        config = mcp_config(tmp_path, bare={"url": server, "protocol": "jsonrpc"})
        fleet = Fleet(environment(settings, config), tmp_path / "logs")
        try:
            fleet.start("worker")
            monkeypatch.setenv("AFU9_URL", address)
            monkeypatch.delenv("AFU9_API_KEY", raising=False)
            yield address
        finally:
            fleet.end()


def test_the_guide_does_what_it_says(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its blocks, one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)
    assert len(blocks) == 9
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/client.md", "exec"), names)  # noqa: S102  # our own documentation
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "{'said': {'to': 'Ada'}}"
    assert "completed ['completed']" in said
    assert "['say'] ['bare.echo']" in said
    assert "{'said': {'to': 'Grace'}}" in said
    assert "invalid-definition ['/steps/0/name', '/steps/0/tool']" in said
    assert "404 not-found" in said
    assert any(re.fullmatch(r"steps 0 0 \d+ .*", line) for line in said), said
    assert any(line.startswith("failed call ") for line in said)
    assert said[-1] == "[{'said': {'to': 'Flo'}}, {'said': {'to': 'Gus'}}]"


def test_the_client_is_a_pytest_fixture(url: str, tmp_path: Path) -> None:
    """The lines of the package's docstring, in a file of somebody else's tests."""
    text = control_center.client.__doc__ or ""
    fixture = textwrap.dedent(text[text.index("    @pytest.fixture") : text.index("docs/client.md")])
    assert len(fixture.strip().splitlines()) == 4
    (tmp_path / "test_flow.py").write_text(
        "import pytest\nfrom control_center.client import Client\n\n"
        f"{fixture}\n"
        "def test_it(afu9):\n"
        "    definition = {'steps': [{'name': 'say', 'tool': 'bare.echo', 'params': {'a': 1}, 'assign': 'said'}]}\n"
        "    assert afu9.result(afu9.submit(definition=definition).execution_id, timeout=60) == {'said': {'a': 1}}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_flow.py"]
    kept = {"PYTHONPATH": str(ROOT), "AFU9_URL": url, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=kept, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
