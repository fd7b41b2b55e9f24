"""One git repository, read and written by plumbing.

Invariant: the checked-out files and the index are never touched; every write is a new commit on a ref, and a ref only
moves forward. The machine's git configuration is ignored, so the identity of the commits is always ours.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

IDENTITY = "AFU-9 example <afu9@example.invalid>"


class GitError(Exception):
    """git refused; the message is git's own first line."""


def _environment() -> dict[str, str]:
    # GIT_DIR and its kind are set inside git hooks and would point git at another repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return inherited | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


def git(*arguments: str, stdin: bytes = b"") -> bytes:
    """Runs one git command and returns its output; raises GitError with git's reason."""
    try:
        done = subprocess.run(
            ["git", *arguments], input=stdin, capture_output=True, env=_environment(), timeout=60, check=False
        )
    except FileNotFoundError:
        raise GitError("the program git was not found; install git and start the server again") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]} did not finish within 60 seconds") from None
    except ValueError as error:  # a NUL or a lone surrogate cannot be an argument of a process
        raise GitError(f"a name cannot be given to git: {error}") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"git exited with {done.returncode}"]
        raise GitError(re.sub(r"^(fatal|error): ", "", reason[0]))
    return done.stdout


class Repository:
    """The repository at `path`, which must be a work tree of its own (parents are not searched)."""

    def __init__(self, path: Path):
        self.path = path
        self._git_dir = path / ".git"

    def exists(self) -> bool:
        return self._git_dir.is_dir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, over threads and processes; the kernel lets go when a holder dies."""
        with (self._git_dir / "afu9-example.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def resolve(self, name: str) -> str | None:
        """The commit id that a full ref name or a commit id stands for, or None."""
        try:
            found = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except GitError:
            return None
        return found.decode().strip()

    def contains(self, descendant: str, ancestor: str) -> bool:
        """Whether commit `ancestor` is part of the history of commit `descendant`."""
        try:
            self._git("merge-base", "--is-ancestor", ancestor, descendant)
        except GitError:
            return False
        return True

    def checked_out(self) -> str:
        """The full ref name of the branch in the work tree, or HEAD."""
        return self._git("rev-parse", "--symbolic-full-name", "HEAD").decode().strip()

    def branches(self) -> dict[str, str]:
        """Branch name to commit id, in the order of the names."""
        lines = self._git("for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads").decode()
        return {name: sha for sha, name in (line.split(" ", 1) for line in lines.splitlines())}

    def create_branch(self, name: str, commit: str) -> None:
        """Adds a branch; fails if it exists."""
        self._git("update-ref", f"refs/heads/{name}", commit, "0" * len(commit))

    def files(self, commit: str, folder: str) -> dict[str, bytes]:
        """Path to content of every file below `folder` in a commit."""
        listed = self._git("ls-tree", "-r", "-z", commit, "--", folder).split(b"\0")[:-1]
        entries = [(line.split()[2], line.split(b"\t", 1)[1].decode()) for line in listed]
        answer = self._git("cat-file", "--batch", stdin=b"".join(blob + b"\n" for blob, _ in entries))
        contents: dict[str, bytes] = {}
        at = 0
        for _, path in entries:
            start = answer.index(b"\n", at) + 1
            size = int(answer[at:start].split()[2])
            contents[path] = answer[start : start + size]
            at = start + size + 1
        return contents

    def commit(self, ref: str, parent: str | None, message: str, files: Mapping[str, bytes]) -> str:
        """Adds one commit with `files` changed on top of `parent`, moves `ref` to it, and returns its id."""
        stream = [b"feature done\nfeature get-mark\ncommit " + ref.encode() + b"\nmark :1\n"]
        stream.append(f"committer {IDENTITY} {int(time.time())} +0000\n".encode())
        stream.append(_data(message.encode()))
        stream.append(f"from {parent}\n".encode() if parent else b"")
        stream.extend(f"M 100644 inline {path}\n".encode() + _data(content) for path, content in files.items())
        stream.append(b"\nget-mark :1\ndone\n")
        return self._git("fast-import", "--quiet", stdin=b"".join(stream)).decode().strip()

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        # Naming the directory keeps git from searching parents, and from refusing a repository of another owner.
        return git(f"--git-dir={self._git_dir}", *arguments, stdin=stdin)


def is_branch_name(name: str) -> bool:
    """Whether git accepts `name` as the name of a branch."""
    if name.startswith("-") or name == "HEAD":
        return False
    try:
        git("check-ref-format", f"refs/heads/{name}")
    except GitError:
        return False
    return True


def _data(content: bytes) -> bytes:
    return b"data %d\n" % len(content) + content + b"\n"
