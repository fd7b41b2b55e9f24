"""deploy/systemd: units that systemd takes, which start what exists, may do little and have time to end."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deployed import DEPLOY, FIELDS, unknown_commands, wrong_settings

FOLDER = DEPLOY / "systemd"
PROGRAM = "/opt/afu9/bin/afu9"
UNITS = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.service"))}
COMMON = (FOLDER / "afu9-.service.d" / "common.conf").read_text()
ROLES = ("afu9-api.service", "afu9-orchestrator.service", "afu9-worker@.service")
EXPOSED = 2.0  # of 10, by `systemd-analyze security`: the network, and what systemd 252 has no word for
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: Linux, systemd"
)


def said(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.M)


def variables(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in said(text, "Environment"))


def test_units_start_what_exists_with_settings_that_exist() -> None:
    """A port stands for any worker's."""
    assert UNITS.keys() == {*ROLES, "afu9-migrate.service"}
    commands = {name: said(text, "ExecStart")[0].split() for name, text in UNITS.items()}
    assert {words[0] for words in commands.values()} == {PROGRAM}
    assert {name: words[1:] for name, words in commands.items()} == {
        name: [re.sub(r"afu9-(\w+)@?\.service", r"\1", name)] for name in UNITS
    }
    assert unknown_commands(words[1:] for words in commands.values()) == []
    for text in (COMMON, *UNITS.values()):
        assert wrong_settings({name: value.replace("%i", "1") for name, value in variables(text).items()}) == []


def test_a_stop_takes_longer_than_the_drain_and_spares_the_servers() -> None:
    """SIGTERM to the process alone; SIGKILL to all when the time is over."""
    assert float(said(COMMON, "TimeoutStopSec")[0].removesuffix("s")) >= FIELDS["AFU9_DRAIN_SECONDS"].default + 5
    assert said(COMMON, "KillMode") == ["mixed"]


def test_credentials_are_what_the_settings_read() -> None:
    """Each NAME_FILE names a credential of its unit, and only the migration is handed the owner's."""
    for name, text in UNITS.items():
        both = COMMON + text
        loaded = {word.split(":")[0] for word in said(both, "LoadCredential")}
        files = {value.removeprefix("%d/") for key, value in variables(both).items() if key.endswith("_FILE")}
        assert files == loaded
        assert "AFU9_SECRETS_DIR" not in variables(both)  # a step may ask for what is there
        assert ("owner_url" in loaded) == (name == "afu9-migrate.service")


def test_prometheus_example_scrapes_the_units() -> None:
    """Ports of deploy/prometheus/prometheus.yml, by role."""
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = {
        static["labels"]["role"]: static["targets"] for static in configuration["scrape_configs"][0]["static_configs"]
    }
    ports = {name: variables(text)["AFU9_METRICS_PORT"] for name, text in UNITS.items() if name in ROLES}
    assert targets == {
        "api": [f"127.0.0.1:{ports['afu9-api.service']}"],
        "orchestrator": [f"127.0.0.1:{ports['afu9-orchestrator.service']}"],
        "worker": [f"127.0.0.1:{ports['afu9-worker@.service'].replace('%i', number)}" for number in "12"],
    }
    assert (
        configuration["scrape_configs"][1]["static_configs"][0]["targets"] == targets["orchestrator"] + targets["api"]
    )


@pytest.fixture
def placed(tmp_path: Path) -> Path:
    """The units beside their drop-in, with a program that is there, and one worker."""
    shutil.copytree(FOLDER, tmp_path / "units")
    for name, text in UNITS.items():
        (tmp_path / "units" / name).write_text(text.replace(PROGRAM, "/bin/true"))
    (tmp_path / "units" / "afu9-worker@.service").rename(tmp_path / "units" / "afu9-worker@1.service")
    return tmp_path / "units"


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_systemd
def test_systemd_takes_every_unit(placed: Path) -> None:
    """Without a word; the drop-in is read, for a fault in it is told."""
    units = sorted(path.name for path in placed.glob("*.service"))
    done = analyze(placed, "verify", "--man=no", *(f"./{name}" for name in units))
    assert (done.returncode, done.stderr) == (0, "")
    with (placed / "afu9-.service.d" / "common.conf").open("a") as common:
        common.write("KillMod=mixed\n")
    assert "KillMod" in analyze(placed, "verify", "--man=no", f"./{units[0]}").stderr


@needs_systemd
@pytest.mark.parametrize("name", ["afu9-api", "afu9-migrate", "afu9-orchestrator", "afu9-worker@1"])
def test_units_may_do_little(placed: Path, name: str) -> None:
    """By systemd's own measure: the network, and little more."""
    done = analyze(
        placed, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSED * 10:.0f}", f"./{name}.service"
    )
    assert done.returncode == 0, done.stdout + done.stderr
