"""Issues, branches and pull requests of the git repositories below one folder (`<root>/<owner>/<name>`).

Issues and pull requests share one sequence of numbers and live as `issues/<n>.json` and `pulls/<n>.json` in the commits
of one ref, RECORDS. It is no branch, so `git branch` shows only the branches of the work itself; look at a record with
`git show refs/tracker/records:issues/1.json`.

Invariant: asking for what is already there returns it. Steps run at least once, so every call may come twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from repository import Repository, is_branch_name

RECORDS = "refs/tracker/records"


class TrackerError(Exception):
    """The request cannot be met; the message says why and what would help."""


@dataclass(frozen=True)
class Issue:
    number: int
    title: str
    body: str
    state: str
    labels: list[str]


@dataclass(frozen=True)
class Branch:
    """`sha` is the tip; `created` tells a new branch from one that was there already."""

    name: str
    sha: str
    base: str
    created: bool


@dataclass(frozen=True)
class PullRequest:
    """`commit` is the commit that opening the request put on `head`."""

    number: int
    title: str
    body: str
    state: str
    labels: list[str]
    head: str
    base: str
    commit: str
    url: str


class Tracker:
    """What a hosting service keeps about one repository."""

    def __init__(self, root: Path, owner: str, name: str):
        for what, part in (("owner", owner), ("repo", name)):
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", part):
                raise TrackerError(f"{part!r} is not a valid {what}: use letters, digits, '.', '_' and '-'")
        folder = (root / owner / name).resolve()
        self.slug = f"{owner}/{name}"
        self._repository = Repository(folder)
        if not folder.is_relative_to(root.resolve()) or not self._repository.exists():
            raise TrackerError(f"there is no repository {self.slug}")

    def get_issue(self, number: int) -> Issue:
        return Issue(**self._record("issues", "issue", number))

    def create_issue(self, title: str, body: str, labels: Sequence[str]) -> Issue:
        """Opens an issue. An open one with the same title and body is returned as it is."""
        _check_text(title, body)
        with self._repository.locked():
            for known in self._records("issues").values():
                if (known["title"], known["body"], known["state"]) == (title, body, "open"):
                    return Issue(**known)
            issue = Issue(self._next_number(), title, body, "open", list(labels))
            self._save("issues", issue, f"Open issue #{issue.number}")
        return issue

    def list_branches(self) -> dict[str, str]:
        return self._repository.branches()

    def create_branch(self, name: str, base: str) -> Branch:
        """Creates a branch at `base`. One that contains `base` already is returned with created=False."""
        if not is_branch_name(name):
            raise TrackerError(f"{name!r} is not a valid branch name; see git help check-ref-format")
        with self._repository.locked():
            start = self._commit_of(base)
            tip = self._repository.branches().get(name)
            if tip is None:
                self._repository.create_branch(name, start)
                return Branch(name, start, base, created=True)
            if self._repository.contains(tip, start):
                return Branch(name, tip, base, created=False)
        raise TrackerError(
            f"branch {name} exists at {tip[:10]} and does not contain {base} ({start[:10]}); "
            "delete it or choose another name"
        )

    def get_pull_request(self, number: int) -> PullRequest:
        return PullRequest(**self._record("pulls", "pull request", number))

    def list_pull_requests(self) -> list[PullRequest]:
        return [PullRequest(**record) for _, record in sorted(self._records("pulls").items())]

    def create_pull_request(
        self, title: str, body: str, head: str, base: str, labels: Sequence[str]
    ) -> tuple[PullRequest, bool]:
        """Opens a pull request and says whether it is new; an open one from `head` to `base` is returned as it is."""
        _check_text(title, body)
        if head == base:
            raise TrackerError(f"head and base are both {head}: a pull request needs two branches")
        with self._repository.locked():
            self._branch_tip(base)
            tip = self._branch_tip(head)
            for known in self.list_pull_requests():
                if (known.head, known.base, known.state) == (head, base, "open"):
                    return known, False
            commit = self._describe_change(title, body, head, tip)
            number = self._next_number()
            url = f"{self._repository.path.as_uri()}#pull-{number}"
            pull = PullRequest(number, title, body, "open", list(labels), head, base, commit, url)
            self._save("pulls", pull, f"Open pull request #{number}")
        return pull, True

    def _describe_change(self, title: str, body: str, head: str, tip: str) -> str:
        """Puts the commit of a pull request on its branch; a second call after a crash finds the first one's."""
        path = f"changes/{head}.md"
        text = f"# {title}\n\n{body}\n".encode()
        if self._repository.files(tip, path).get(path) == text:
            return tip
        if self._repository.checked_out() == f"refs/heads/{head}":
            raise TrackerError(f"branch {head} is checked out in {self.slug}; check out another branch first")
        subject = " ".join(title.split())
        return self._repository.commit(f"refs/heads/{head}", tip, f"{subject}\n\n{body}\n", {path: text})

    def _branch_tip(self, name: str) -> str:
        tip = self._repository.branches().get(name)
        if tip is None:
            raise TrackerError(f"{self.slug} has no branch {name!r}")
        return tip

    def _commit_of(self, base: str) -> str:
        if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", base):
            commit = self._repository.resolve(base)
            if commit is not None:
                return commit
        return self._branch_tip(base)

    def _records(self, kind: str) -> dict[int, dict[str, Any]]:
        newest = self._repository.resolve(RECORDS)
        stored = self._repository.files(newest, f"{kind}/") if newest else {}
        return {int(Path(path).stem): json.loads(content) for path, content in stored.items()}

    def _record(self, kind: str, noun: str, number: int) -> dict[str, Any]:
        try:
            return self._records(kind)[number]
        except KeyError:
            raise TrackerError(f"{self.slug} has no {noun} #{number}") from None

    def _next_number(self) -> int:
        return max([0, *self._records("issues"), *self._records("pulls")]) + 1

    def _save(self, kind: str, record: Issue | PullRequest, message: str) -> None:
        content = json.dumps(asdict(record), indent=2, ensure_ascii=False).encode() + b"\n"
        newest = self._repository.resolve(RECORDS)
        self._repository.commit(RECORDS, newest, message, {f"{kind}/{record.number}.json": content})


def _check_text(title: str, body: str) -> None:
    if not title.strip():
        raise TrackerError("the title is empty")
    if "\0" in title or "\0" in body:
        raise TrackerError("title and body must not contain NUL characters: git cannot store them")
