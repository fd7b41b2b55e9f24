"""`make demo`: an issue becomes a pull request, on real parts, and every call is a row.

Makes a git repository below .afu9/demo, runs examples/issue_to_pr.yaml with `afu9 run`, and then looks at what was left:
the timeline from the database, the branches in the repository.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).parent
AFU9 = [sys.executable, "-m", "control_center"]


def main() -> int:
    started = time.monotonic()
    folder = Path(os.environ.get("AFU9_STATE_DIR", ".afu9")) / "demo"
    environment = os.environ | {
        "AFU9_MCP_CONFIG": str(EXAMPLES / "mcp.json"),
        "AFU9_DEMO_ROOT": str(folder.absolute()),
    }
    subprocess.run([sys.executable, EXAMPLES / "servers" / "demo_repo.py", folder], check=True, stdout=subprocess.PIPE)
    context = folder / "context.json"
    repository = json.loads(context.read_text())["repo"]["path"]

    say("afu9 run examples/issue_to_pr.yaml -i issue_number=1 --context .afu9/demo/context.json")
    command = [
        *AFU9,
        "run",
        str(EXAMPLES / "issue_to_pr.yaml"),
        "-i",
        "issue_number=1",
        "--context",
        str(context),
        "--json",
    ]
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    if not answer.stdout:
        return answer.returncode
    execution = json.loads(answer.stdout)["executionId"]
    print(f"exit code {answer.returncode}")

    say(f"afu9 show {execution}")
    subprocess.run([*AFU9, "show", execution], env=environment, check=True)
    say("git branch", "the demo's repository")
    subprocess.run(["git", "-c", "safe.directory=*", "-C", repository, "branch", "--list"], check=True)

    say(f"done in {time.monotonic() - started:.1f} s. Next:", prompt="")
    print(f"""\
  export AFU9_MCP_CONFIG=examples/mcp.json AFU9_DEMO_ROOT={folder.absolute()}
  .venv/bin/afu9 dev                                    # servers, API, orchestrator and a worker, until Ctrl-C
  .venv/bin/afu9 demo-data                              # a week of executions to look at
  .venv/bin/afu9 run examples/flaky.yaml                # a step that fails twice, and one that is skipped
  .venv/bin/afu9 ls
  .venv/bin/afu9 show {execution}
  .venv/bin/afu9 doctor

While `afu9 dev` runs, a browser shows what just ran:
  http://127.0.0.1:{os.environ.get("AFU9_API_PORT", "3000")}/ui/executions/{execution}""")
    return answer.returncode


def say(text: str, comment: str = "", *, prompt: str = "$ ") -> None:
    print(f"\n{prompt}{text}" + (f"    # {comment}" if comment else ""), flush=True)


if __name__ == "__main__":
    sys.exit(main())
