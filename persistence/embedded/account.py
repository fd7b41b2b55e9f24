"""PostgreSQL refuses to run as root: choose the account it runs as, and places that account can reach.

Invariant: no account is created, and no mode or owner is changed outside folders this code made itself.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persistence.embedded.find import EmbeddedUnavailable

SHARED = Path("/var/lib/afu9")


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs PostgreSQL. uid None: whoever runs this process."""

    uid: int | None = None
    gid: int | None = None

    def popen_options(self) -> dict[str, Any]:
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def give(self, folder: Path) -> None:
        """Hand one of our own folders over to this account."""
        if self.uid is not None and self.gid is not None:
            os.chown(folder, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Ask the kernel, as this account, whether it may enter the folder or run the program."""
        if self.uid is None:
            return True
        try:
            return subprocess.run(["test", "-x", path], check=False, cwd="/", **self.popen_options()).returncode == 0
        except OSError as error:
            raise EmbeddedUnavailable(
                f"PostgreSQL does not run as root, and this process may not become uid {self.uid} ({error}); "
                "run it as a normal user, or set DATABASE_URL to a server of your own"
            ) from None


def choose_account(data: Path) -> Account:
    """As root: whoever owns the data already, else AFU9_PG_USER, else the caller of sudo, else nobody."""
    if os.geteuid() != 0:
        return Account()
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid)
    name, sudo_uid = os.environ.get("AFU9_PG_USER"), os.environ.get("SUDO_UID", "")
    try:
        if not name and sudo_uid.isdecimal() and int(sudo_uid) != 0:
            entry = pwd.getpwuid(int(sudo_uid))
        else:
            entry = pwd.getpwnam(name or "nobody")
    except KeyError:
        raise EmbeddedUnavailable(
            f"PostgreSQL does not run as root, and there is no account {name or sudo_uid or 'nobody'!r} to run it as; "
            "name an existing one in AFU9_PG_USER"
        ) from None
    if entry.pw_uid == 0:
        raise EmbeddedUnavailable("AFU9_PG_USER is root, but PostgreSQL does not run as root; name another account")
    return Account(entry.pw_uid, entry.pw_gid)


def place_data(state_dir: Path) -> Path:
    """Where the cluster lies: `state_dir/pg`, or the place a link of that name points to."""
    place = state_dir / "pg"
    if not os.path.lexists(place) and not choose_account(place).reaches(state_dir):
        SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        prefix = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12] + "-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=SHARED))
        folder.chmod(0o711)
        place.symlink_to(folder / "pg")
    return place.resolve()


def within_reach(programs: Path, account: Account) -> Path:
    """The bin folder itself, or that of a copy when the account cannot run it (a virtualenv below a 0700 folder)."""
    if account.reaches(programs / "postgres"):
        return programs
    tree = programs.parent
    stamp = f"{tree}:{(programs / 'postgres').stat().st_mtime_ns}:{(programs / 'postgres').stat().st_size}"
    copy = SHARED / f"bin-{hashlib.sha256(os.fsencode(stamp)).hexdigest()[:12]}"
    there = copy / tree.parent.name / tree.name / "bin"
    if not copy.is_dir():
        if not ((tree / "lib").is_dir() and (tree / "share").is_dir()):
            raise EmbeddedUnavailable(f"uid {account.uid} cannot run {programs / 'postgres'}; make it readable for all")
        _copy_tree(tree, copy)
    if not account.reaches(there / "postgres"):
        raise EmbeddedUnavailable(f"uid {account.uid} can run neither {programs / 'postgres'} nor its copy in {copy}")
    return there


def _copy_tree(tree: Path, copy: Path) -> None:
    """A wheel's programs find their libraries relative to themselves, so the copy keeps the layout around them."""
    SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix="new-", dir=SHARED))
    try:
        shutil.copytree(tree, new / tree.parent.name / tree.name, ignore=shutil.ignore_patterns("include"))
        libraries = tree.parent.parent / f"{tree.parent.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, new / libraries.name)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
        new.rename(copy)
    except OSError:
        # Another start may have made the same copy first; its folder is not empty, so our rename failed.
        if not copy.is_dir():
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
