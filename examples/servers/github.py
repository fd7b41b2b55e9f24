"""An MCP server with the tools of a code-hosting service, on git repositories below a folder; it needs no network.

    python examples/servers/github.py --root DIR        DIR/<owner>/<name> is a git work tree

Written with the official `mcp` SDK and spoken to over stdin and stdout. Tool and argument names are those of GitHub's
API as the workflows use them. What the tools do is in tracker.py; this file is only how they are offered.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field
from repository import GitError
from tracker import Branch, Issue, PullRequest, Tracker, TrackerError

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
# Nothing here overwrites or deletes, and a repeated call finds what the first one made.
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

# A template may deliver a number as text.
Number = Annotated[int | str, Field(description="Number of the issue or pull request, as a number or as digits")]
# `from` is a word of Python, so the argument has one name in JSON and another one here.
From = Annotated[str, Field(validation_alias="from", description="Branch or commit id to start at")]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class OpenedPullRequest(PullRequest):
    created: bool


@dataclass(frozen=True)
class BranchTip:
    name: str
    sha: str


@dataclass(frozen=True)
class Branches:
    branches: list[BranchTip]


@dataclass(frozen=True)
class PullRequests:
    pull_requests: list[PullRequest]


def create_server(root: Path) -> MCPServer:
    """The server for the repositories below `root`."""
    server = MCPServer("github", version="1.0.0", log_level="WARNING", subscriptions=False)
    offer_issues(server, root)
    offer_branches(server, root)
    offer_pull_requests(server, root)
    return server


def offer_issues(server: MCPServer, root: Path) -> None:
    @server.tool(annotations=READS)
    @explains_failure
    def getIssue(owner: str, repo: str, number: Number) -> Issue:
        """Reads one issue."""
        return Tracker(root, owner, repo).get_issue(whole(number))

    @server.tool(annotations=ADDS)
    @explains_failure
    def createIssue(owner: str, repo: str, title: str, body: str = "", labels: list[str] | None = None) -> Issue:
        """Opens an issue; an open one with the same title and body is returned instead."""
        return Tracker(root, owner, repo).create_issue(title, body, labels or [])


def offer_branches(server: MCPServer, root: Path) -> None:
    @server.tool(annotations=READS)
    @explains_failure
    def listBranches(owner: str, repo: str) -> Branches:
        """Lists the branches with the commit at each tip."""
        tips = Tracker(root, owner, repo).list_branches()
        return Branches([BranchTip(name, sha) for name, sha in tips.items()])

    @server.tool(annotations=ADDS)
    @explains_failure
    def createBranch(owner: str, repo: str, branch: str, start: From) -> Branch:
        """Creates a branch; one that already contains the starting point is returned with created=false."""
        return Tracker(root, owner, repo).create_branch(branch, start)


def offer_pull_requests(server: MCPServer, root: Path) -> None:
    @server.tool(annotations=READS)
    @explains_failure
    def getPullRequest(owner: str, repo: str, number: Number) -> PullRequest:
        """Reads one pull request."""
        return Tracker(root, owner, repo).get_pull_request(whole(number))

    @server.tool(annotations=READS)
    @explains_failure
    def listPullRequests(owner: str, repo: str) -> PullRequests:
        """Lists all pull requests by number."""
        return PullRequests(Tracker(root, owner, repo).list_pull_requests())

    @server.tool(annotations=ADDS)
    @explains_failure
    def createPullRequest(
        owner: str, repo: str, title: str, head: str, base: str, body: str = "", labels: list[str] | None = None
    ) -> OpenedPullRequest:
        """Commits the change to `head` and opens a pull request; an open one is returned with created=false."""
        pull, created = Tracker(root, owner, repo).create_pull_request(title, body, head, base, labels or [])
        return OpenedPullRequest(**asdict(pull), created=created)


def explains_failure(tool: Callable[P, R]) -> Callable[P, R]:
    """Hands the reason of an expected failure to the caller; the SDK hides the text of any other exception."""

    @functools.wraps(tool)
    def explained(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return tool(*args, **kwargs)
        except (TrackerError, GitError) as error:
            raise ToolError(str(error)) from error

    return explained


def whole(number: int | str) -> int:
    """The number of a record from JSON's number or from its digits."""
    if not re.fullmatch(r"[0-9]{1,9}", str(number)):
        raise TrackerError(f"{number!r} is not a number of an issue or pull request")
    return int(number)


def main() -> None:
    parser = argparse.ArgumentParser(description="MCP server: issues, branches and pull requests of git repositories")
    parser.add_argument("--root", type=Path, required=True, help="folder that holds <owner>/<name>")
    root: Path = parser.parse_args().root
    if not root.is_dir():
        parser.error(f"--root {root} is not a folder; python examples/servers/demo_repo.py {root} makes one")
    create_server(root.resolve()).run("stdio")


if __name__ == "__main__":
    main()
