"""What deploy/Dockerfile makes: the wheel it builds is whole, and its roles run as the image runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from persistence.migrate import migrate
from persistence.settings import Settings
from tests.fleet import ROOT, environment, wait_until
from tests.integration.test_measure import free_port
from tests.relay import over_tcp

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
NOBODY = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]


def instructions() -> list[tuple[str, str]]:
    """Each with its arguments, continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def told(instruction: str) -> list[str]:
    return [arguments for name, arguments in instructions() if name == instruction]


def image_environment() -> dict[str, str]:
    return dict(word.split("=", 1) for arguments in told("ENV") for word in shlex.split(arguments))


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path at the top of the repository from the build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return f"!{path}" not in lines


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build stage copies, as far as .dockerignore lets it through."""
    folder = tmp_path_factory.mktemp("context")
    for words in (arguments.split() for arguments in told("COPY") if not arguments.startswith("--from")):
        for source in words[:-1]:
            assert not ignored(source), source
            path, target = ROOT / source, folder / words[-1]
            if path.is_dir():
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, target)
    return folder


@pytest.fixture(scope="module")
def wheel(context: Path) -> Path:
    """Built from that alone."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"], cwd=context, check=True)
    (built,) = (context / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """The wheel in a folder which others may read; what it needs is in the environment of the tests."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    with tempfile.TemporaryDirectory(prefix="afu9-image-") as name:
        command = [*install, "--disable-pip-version-check", "--target", name, str(wheel)]
        subprocess.run(command, check=True)
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_wheel_holds_whatever_the_packages_hold(wheel: Path) -> None:
    """Templates, scripts, styles, statements, migrations, scripts for Redis, and the schema; and nothing else."""
    floors = ("control_center", "workers", "orchestrator", "persistence")
    found = (path for floor in floors for path in (ROOT / floor).rglob("*") if path.is_file())
    ours = {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}
    assert {path.rsplit(".", 1)[1] for path in ours} >= {"py", "sql", "html", "css", "js", "lua", "typed"}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == ours | {"persistence/schema.sql"}


def test_the_image_is_what_its_readers_expect() -> None:
    """No root, no shell between the signal and the program, no embedded servers, no secret, settings that exist."""
    assert told("USER") == ["10001:10001"]
    assert [json.loads(word) for word in told("ENTRYPOINT")] == [["afu9"]]
    assert isinstance(json.loads(told("HEALTHCHECK")[0].split("CMD ")[1]), list)
    assert "embedded" not in " ".join(told("RUN"))
    fields = {str(field.validation_alias): field for field in Settings.model_fields.values()}
    said = {
        name: value for name, value in image_environment().items() if name.startswith(("AFU9_", "DATABASE", "REDIS"))
    }
    assert said.keys() <= fields.keys()
    assert not [word for word in said if re.search("PASSWORD|URL|SECRET|KEY", word)]
    assert set(told("EXPOSE")[0].split()) == {str(fields["AFU9_API_PORT"].default), said["AFU9_METRICS_PORT"]}
    assert "-c constraints.txt" in " ".join(told("RUN"))
    (extras,) = re.findall(r"whl\)\[([a-z,]+)\]", " ".join(told("RUN")))
    assert set(extras.split(",")) == {"archive", "otel"}


def as_in_a_container(*program: str) -> list[str]:
    """PID 1 of its own, nobody's account without any right, and not one place to write to, /tmp included."""
    base = Path(sys.base_prefix)
    closed = [path for path in reversed(base.parents) if not path.stat().st_mode & 0o001]
    shell = "set -e; mount --make-rprivate /; "
    if closed:  # the interpreter lies where only its owner may go: an open folder in the same place holds it
        shell += (
            f"mount --bind {base} /media; mount -t tmpfs -o mode=755 none {closed[0]}; "
            f"mkdir -p {base}; mount --bind /media {base}; "
        )
    shell += (
        "cut -d' ' -f5 /proc/self/mountinfo | while read -r place; do "
        "case $place in /proc*|/sys*|/dev*) ;; *) mount -o remount,bind,ro $place 2>/dev/null || : ;; esac; done; "
        "if touch /tmp/afu9-writes 2>/dev/null; then exit 9; fi; "
        f"cd /; exec {shlex.join([*NOBODY, *program])}"
    )
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", shell]


def can_contain() -> bool:
    """Namespaces, and an interpreter and packages that another account may read."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        return False
    command = as_in_a_container(
        sys.executable, "-c", "import click, sys; sys.exit(sys.argv[1] != sys.version)", sys.version
    )
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Container:
    """`afu9 <arguments>` as the image runs it."""

    def __init__(self, installed: Path, variables: Mapping[str, str], log: Path, *arguments: str):
        self.log = log
        with log.open("wb") as file:
            self._outer = subprocess.Popen(
                as_in_a_container(sys.executable, "-P", str(installed / "bin" / "afu9"), *arguments),
                env=dict(variables) | {"PYTHONPATH": str(installed)},
                stdout=file,
                stderr=file,
            )

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        try:
            return self._outer.wait(30)
        finally:
            self.end()

    def end(self) -> None:
        self._outer.kill()
        self._outer.wait()


@contextmanager
def contained(installed: Path, variables: Mapping[str, str], folder: Path) -> Iterator[Mapping[str, Container]]:
    """The three roles, by name."""
    ports = {role: {"AFU9_METRICS_PORT": str(free_port())} for role in ("orchestrator", "worker", "api")}
    started: dict[str, Container] = {}
    try:
        for role, port in ports.items():
            own = {**variables, **port, "AFU9_API_PORT": str(free_port())}
            started[role] = Container(installed, own, folder / f"{role}.log", role)
        wait_until(lambda: all(map(listens, ports.values())), 40, "the start of every role")
        assert all(map(healthy, ports.values()))
        yield started
    finally:
        for one in started.values():
            one.end()
            print(one.log.name, one.log.read_text())


def listens(variables: Mapping[str, str]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(variables["AFU9_METRICS_PORT"]))) == 0


def healthy(variables: Mapping[str, str]) -> bool:
    """What the image's HEALTHCHECK says."""
    command = json.loads(told("HEALTHCHECK")[0].split("CMD ")[1])
    done = subprocess.run([sys.executable, *command[1:]], env=dict(variables), capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not can_contain(), reason="needs root, unshare and setpriv, and an interpreter that others may run")
def test_every_role_runs_without_rights_and_without_a_place_to_write(
    installed: Path, settings: Settings, empty_dsn: str, tmp_path: Path
) -> None:
    """From the wheel, migration first; one execution completes; as PID 1 each ends at SIGTERM, with exit code 0."""
    own = settings.model_copy(update={"database_url": empty_dsn})
    with over_tcp(own) as urls:
        variables = environment(own) | image_environment() | urls
        variables["PATH"] = os.environ["PATH"]
        once = Container(installed, variables, tmp_path / "migrate.log", "migrate")
        assert once.wait() == 0, once.log.read_text()
        assert migrate(empty_dsn) == []
        with contained(installed, variables, tmp_path) as roles:
            flow = installed / "flow.json"
            flow.write_text(json.dumps({"steps": [{"name": "a", "tool": "builtin.echo", "params": {"n": 1}}]}))
            run = Container(installed, variables, tmp_path / "run.log", "run", str(flow))
            assert run.wait() == 0, run.log.read_text()
            assert {role: one.stop() for role, one in roles.items()} == dict.fromkeys(roles, 0)
            assert "Traceback" not in "".join(one.log.read_text() for one in roles.values())
