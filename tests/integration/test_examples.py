"""The examples do what their texts say: real servers over stdio, working on real git repositories."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp.client.stdio import StdioServerParameters

from orchestrator.builtin_tools import BUILTIN

from .mcp_session import Session, python, sessions

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVERS = EXAMPLES / "servers"
MAIN = {"from": "main"}

ORIGINAL_STEPS = """[
  {"name": "fetch_issue", "tool": "github.getIssue",
   "params": {"owner": "${repo.owner}", "repo": "${repo.name}", "number": "${input.issue_number}"},
   "assign": "issue"},
  {"name": "create_branch", "tool": "github.createBranch",
   "params": {"owner": "${repo.owner}", "repo": "${repo.name}", "branch": "fix/${issue.number}",
              "from": "${repo.default_branch}"},
   "assign": "branch"},
  {"name": "create_pull_request", "tool": "github.createPullRequest",
   "params": {"owner": "${repo.owner}", "repo": "${repo.name}", "title": "Fix: ${issue.title}",
              "body": "Automated fix for #${issue.number}\\n\\n${issue.body}", "head": "fix/${issue.number}",
              "base": "${repo.default_branch}"},
   "assign": "pull_request"}
]"""


@dataclass(frozen=True)
class Shop:
    """The demo repository of one test, and the same server twice on it."""

    path: Path
    github: Session
    other_github: Session

    def git(self, *arguments: str) -> str:
        # A repository that belongs to another user is refused unless it is named with its directory.
        command = ["git", f"--git-dir={self.path}/.git", f"--work-tree={self.path}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def refs(self) -> str:
        return self.git("for-each-ref")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the servers work in, with the demo repository as acme/shop."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run([sys.executable, SERVERS / "demo_repo.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def servers(root: Path) -> Iterator[dict[str, Session]]:
    """Every server of mcp.json, and a second process of the first one."""
    config = (EXAMPLES / "mcp.json").read_text()
    for name, value in {"PYTHON": sys.executable, "CONFIG_DIR": EXAMPLES, "AFU9_DEMO_ROOT": root}.items():
        config = config.replace(f"${{{name}}}", str(value))
    configured = {name: StdioServerParameters(**entry) for name, entry in json.loads(config)["mcpServers"].items()}
    with sessions(**configured, other_github=configured["github"]) as started:
        yield started


@pytest.fixture
def shop(root: Path, servers: dict[str, Session], tmp_path: Path) -> Shop:
    """A copy of the demo repository, of the test's own."""
    owner = tmp_path.name
    shutil.copytree(root / "acme", root / owner)
    ours, other = (servers[name].given(owner=owner, repo="shop") for name in ("github", "other_github"))
    return Shop(root / owner / "shop", ours, other)


def open_pull_request(github: Session, head: str = "fix/1") -> Any:
    github.call("createBranch", branch=head, **MAIN)
    return github.call("createPullRequest", title="Fix: total", body="Over\n\ntwo", head=head, base="main")


def test_an_issue_becomes_a_pull_request_in_git(shop: Shop) -> None:
    """The three steps leave a branch, a commit on it and a record, and the work tree as it was."""
    issue = shop.github.call("getIssue", number="1")
    assert issue == shop.github.call("getIssue", number=1)
    assert (issue["number"], issue["state"], issue["labels"]) == (1, "open", ["bug"])
    branch = shop.github.call("createBranch", branch="fix/1", **MAIN)
    assert branch == {"name": "fix/1", "sha": shop.git("rev-parse", "main"), "base": "main", "created": True}
    pull = open_pull_request(shop.github)
    assert (pull["number"], pull["head"], pull["base"], pull["created"]) == (4, "fix/1", "main", True)
    assert shop.git("rev-list", "main..fix/1") == pull["commit"]
    assert shop.git("log", "-1", "--format=%s", "fix/1") == pull["title"]
    assert "Over\n\ntwo" in shop.git("show", "fix/1:changes/fix/1.md")
    stored = shop.github.call("getPullRequest", number=4)
    assert stored | {"created": True} == pull
    assert shop.github.call("listPullRequests") == {"pull_requests": [stored]}
    assert [tip["name"] for tip in shop.github.call("listBranches")["branches"]] == ["fix/1", "main"]
    assert shop.git("branch", "--list").split() == ["fix/1", "*", "main"]
    assert shop.git("status", "--porcelain") == ""


def test_calling_everything_twice_changes_nothing_more(shop: Shop) -> None:
    """A step may run twice, also through another process: the second time finds what the first one made."""
    issue = shop.github.call("createIssue", title="New", body="text", labels=["bug"])
    first = open_pull_request(shop.github)
    before = shop.refs()
    assert shop.other_github.call("createIssue", title="New", body="text", labels=["bug"]) == issue
    assert shop.other_github.call("createBranch", branch="fix/1", **MAIN)["created"] is False
    assert open_pull_request(shop.other_github) == first | {"created": False}
    assert shop.refs() == before


def test_a_pull_request_cut_short_is_finished_without_a_second_commit(shop: Shop) -> None:
    """A crash between the commit and its record leaves a branch that the next call recognises."""
    first = open_pull_request(shop.github)
    shop.git("update-ref", "refs/tracker/records", "refs/tracker/records^")
    assert open_pull_request(shop.github) == first
    assert shop.git("rev-list", "--count", "main..fix/1") == "1"


def test_pull_requests_opened_at_once_get_numbers_of_their_own(shop: Shop) -> None:
    """Two processes with several calls each never share a number, and a head gets one pull request."""
    heads = [f"fix/{number}" for number in range(6)]
    for head in heads:
        shop.github.call("createBranch", branch=head, **MAIN)
    waiting = [
        github.soon("createPullRequest", title=head, body="", head=head, base="main")
        for head in heads
        for github in (shop.github, shop.other_github)
    ]
    pulls = [future.result() for future in waiting]
    numbers = {pull["head"]: pull["number"] for pull in pulls}
    assert sorted(numbers.values()) == [4, 5, 6, 7, 8, 9]
    assert all(numbers[pull["head"]] == pull["number"] for pull in pulls)
    assert sum(pull["created"] for pull in pulls) == len(heads)


def test_unknown_records_and_foreign_paths_are_errors_of_the_tool(shop: Shop, tmp_path: Path) -> None:
    """What does not exist is named, and nothing outside the root can be reached, not even by a link."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (shop.path.parent / "link").symlink_to(tmp_path)
    assert "no issue #99" in shop.github.refused("getIssue", number=99)
    assert "no pull request #1" in shop.github.refused("getPullRequest", number=1)
    assert "not a number" in shop.github.refused("getIssue", number="one")
    for owner in ("..", ".", "", "-x", "a/b", "../demo/acme"):
        assert "valid owner" in shop.github.refused("getIssue", owner=owner, number=1)
    for repo in ("nope", "link"):
        assert "no repository" in shop.github.refused("listBranches", repo=repo)


def test_branches_that_git_would_refuse_are_errors_of_the_tool(shop: Shop) -> None:
    """Bad names, unknown starting points and names that collide are told apart and change nothing."""
    before = shop.refs()
    for name in ("a..b", "-x", "", "a b", "x.lock", "a\0b", "HEAD", "@{-1}"):
        assert "valid branch name" in shop.github.refused("createBranch", branch=name, **MAIN)
    assert "exists" in shop.github.refused("createBranch", branch="main/x", **MAIN)
    for start in ("nope", "-x", "HEAD", "main~0", "0" * 40):
        assert "no branch" in shop.github.refused("createBranch", branch="new", **{"from": start})
    assert shop.refs() == before


def test_pull_requests_that_make_no_sense_are_errors_of_the_tool(shop: Shop) -> None:
    """Branches must exist and differ, and texts must be ones that git can store."""
    pull = {"title": "t", "body": "b", "head": "main", "base": "main"}
    assert "two branches" in shop.github.refused("createPullRequest", **pull)
    assert "no branch 'gone'" in shop.github.refused("createPullRequest", **pull | {"base": "gone"})
    assert "NUL" in shop.github.refused("createPullRequest", **pull | {"title": "a\0"})
    assert "title is empty" in shop.github.refused("createIssue", title=" ", body="")


def test_a_branch_that_went_elsewhere_is_not_taken_for_the_wanted_one(shop: Shop) -> None:
    """createBranch returns an existing branch only if it contains the starting point."""
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.invalid")
    alone = shop.git(*identity, "commit-tree", "-m", "alone", shop.git("rev-parse", "main^{tree}"))
    shop.git("update-ref", "refs/heads/fix/1", alone)
    assert "does not contain main" in shop.github.refused("createBranch", branch="fix/1", **MAIN)


def test_the_checked_out_branch_is_never_moved(shop: Shop) -> None:
    """A commit on the branch in the work tree would make its files look changed, so it is refused."""
    shop.git("branch", "release")
    pull = {"title": "t", "body": "b", "head": "main", "base": "release"}
    assert "is checked out" in shop.github.refused("createPullRequest", **pull)
    assert shop.git("status", "--porcelain") == ""


def test_the_git_settings_of_the_machine_do_not_matter(shop: Shop, root: Path, tmp_path: Path) -> None:
    """No identity, a foreign owner and git's variables from outside are all the same to the server."""
    if os.getuid() == 0:
        for path in (shop.path, *shop.path.rglob("*")):
            os.chown(path, 12345, 12345)
    outside = {"HOME": str(tmp_path), "GIT_DIR": "/nonexistent", "GIT_OBJECT_DIRECTORY": "/nonexistent"}
    server = python(SERVERS / "github.py", "--root", root, **outside)
    with sessions(github=server) as started:
        open_pull_request(started["github"].given(**shop.github.always))
    assert shop.git("log", "-1", "--format=%an", "fix/1") == "AFU-9 example"


def test_making_the_demo_repository_again_keeps_it(tmp_path: Path) -> None:
    """The script adds what is missing and nothing else, whatever git is set to, and writes the workflow's context."""
    (tmp_path / ".gitconfig").write_text("[user]\n\tuseConfigOnly = true\n[commit]\n\tgpgsign = true\n")
    environment = os.environ | {"HOME": str(tmp_path)}
    shop = tmp_path / "acme" / "shop"
    states = []
    for _ in range(2):
        subprocess.run([sys.executable, SERVERS / "demo_repo.py", tmp_path], check=True, env=environment)
        states.append(subprocess.check_output(["git", "-C", shop, "for-each-ref"]))
    assert states[0] == states[1]
    assert json.loads((tmp_path / "context.json").read_text()) == {
        "repo": {"owner": "acme", "name": "shop", "default_branch": "main", "path": str(shop)}
    }


def test_issue_to_pr_keeps_the_original_definition() -> None:
    """Name, description and the first three steps are the original's, word for word and in its order."""
    workflow = yaml.safe_load((EXAMPLES / "issue_to_pr.yaml").read_text())
    original = json.loads(ORIGINAL_STEPS)
    assert workflow["name"] == "issue_to_pr"
    assert workflow["description"] == "Convert a GitHub issue into a pull request with automated fix"
    assert workflow["steps"][:3] == original
    assert [list(step) for step in workflow["steps"][:3]] == [list(step) for step in original]


def test_the_examples_call_tools_that_exist_with_arguments_they_take(servers: dict[str, Session]) -> None:
    """Every step names a server of mcp.json, a tool of that server, all it requires and nothing it does not know."""
    for file in EXAMPLES.glob("*.yaml"):
        for step in yaml.safe_load(file.read_text())["steps"]:
            server, _, tool = step["tool"].partition(".")
            if server == BUILTIN:
                continue  # validation knows it: test_builtin.py
            schema = servers[server].tools()[tool].input_schema
            assert set(schema.get("required", ())) <= set(step["params"]) <= set(schema["properties"]), step["name"]


def test_published_servers_see_what_ours_did(shop: Shop, servers: dict[str, Session]) -> None:
    """mcp-server-git lists the branch and shows the commit, mcp-server-time tells the time."""
    commit = open_pull_request(shop.github)["commit"]
    git = servers["git"].given(repo_path=str(shop.path))
    assert "fix/1" in git.call("git_branch", branch_type="local")
    assert "changes/fix/1.md" in git.call("git_show", revision=commit)
    assert servers["time"].call("get_current_time", timezone="UTC")["timezone"] == "UTC"


def test_tools_tell_whether_a_call_may_be_repeated(servers: dict[str, Session]) -> None:
    """Retries rest on these hints: reading tools say so, and no tool of the github server breaks when repeated."""
    hints = {name: tool.annotations for name, tool in servers["github"].tools().items()}
    reading = {"getIssue", "getPullRequest", "listPullRequests", "listBranches"}
    assert {name for name, hint in hints.items() if hint.read_only_hint} == reading
    assert all(hint.idempotent_hint and hint.destructive_hint is False for hint in hints.values())


def test_a_server_without_its_folder_says_what_to_do(tmp_path: Path) -> None:
    """A wrong --root is one line on stderr that names the remedy."""
    command: list[str | Path] = [sys.executable, SERVERS / "github.py", "--root", tmp_path / "gone"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "demo_repo.py" in done.stderr
    assert "Traceback" not in done.stderr
