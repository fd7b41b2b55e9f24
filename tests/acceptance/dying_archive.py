"""`afu9 archive` that dies at a point of its own: `python -m tests.acceptance.dying_archive POINT archive …`."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from control_center.cli import main
from orchestrator import archive


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(name: str, times: int) -> None:
    """Dies when it is called for so many times."""
    called: Callable[..., Any] = getattr(archive, name)
    calls = 0

    def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == times:
            die()
        return called(*arguments)

    setattr(archive, name, dying)


def meet(point: str) -> None:
    archive.AT_ONCE = 2  # type: ignore[misc]
    archive.FILE_EXECUTIONS = 4  # type: ignore[misc]
    match point.split("="):
        case ["begun"]:
            before("write_manifest", 1)
        case ["written"]:
            before("verify", 1)
        case ["verified"]:
            before("write_manifest", 2)
        case ["noted"]:
            archive._Run._delete = die  # type: ignore[method-assign]
        case ["deleting"]:
            archive._Run._kept = die  # type: ignore[method-assign,assignment]
        case ["deleted"]:
            before("write_manifest", 3)
        case ["second"]:
            before("verify", 2)
        case ["ended"]:
            archive._Run._end = die  # type: ignore[method-assign]
        case ["full", size]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))


if __name__ == "__main__":
    meet(sys.argv[1])
    main(sys.argv[2:])
