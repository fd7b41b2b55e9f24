"""The peers, each in a virtual environment (or npm folder) of its own below .bench/, made on demand with pinned versions.

A peer that cannot be installed is not measured, and the results say so with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".bench"
PROGRAMS = Path(__file__).with_name("peers")
REQUIREMENTS = {
    "dbos": ("dbos==3.4.0", "mcp==2.3.0"),
    "dramatiq": ("dramatiq==2.2.1", "redis==8.1.0", "hiredis==3.5.0", "orjson==3.13.0"),
    "restate": ("restate_sdk==1.3.0", "hypercorn==0.18.0"),
}
RESTATE_SERVER = "@restatedev/restate-server@1.7.12"
SECONDS = 600


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    python: Path
    server: Path | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def command(self, role: str, options: str) -> list[str]:
        return [str(self.python), str(PROGRAMS / f"run_{self.name}.py"), role, options]


def install(names: Sequence[str]) -> tuple[dict[str, Peer], dict[str, str]]:
    """Those that are there now, and why the others are not."""
    peers: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            peers[name] = _install(name)
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or "").strip().splitlines()
            reason = (said[-1] if said else str(error)).replace(f"{ROOT}/", "")
            missing[name] = f"it could not be installed: {reason}"
    return peers, missing


def _install(name: str) -> Peer:
    folder = HOME / name
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["-c", str(ROOT / "constraints.txt"), *REQUIREMENTS[name]]
    _once(folder, REQUIREMENTS[name], [sys.executable, "-m", "venv", str(folder)], pip)
    versions = dict(requirement.split("==") for requirement in REQUIREMENTS[name])
    if name != "restate":
        return Peer(name, python, versions=versions)
    folder = HOME / "restate-server"
    npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), RESTATE_SERVER]
    _once(folder, (RESTATE_SERVER,), npm)
    found = sorted(folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
    if not found:
        raise OSError("npm has no restate-server for this platform")
    return Peer(name, python, found[0], versions | {"restate-server": RESTATE_SERVER.rpartition("@")[2]})


def _once(folder: Path, what: Sequence[str], *commands: Sequence[str]) -> None:
    """Unless the folder's note says that it holds just this."""
    note = folder / "installed.txt"
    if note.is_file() and note.read_text() == "\n".join(what):
        return
    print(f"installing {' '.join(what)}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS, cwd=folder)
    note.write_text("\n".join(what))
