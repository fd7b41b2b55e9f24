"""Start a configured command as a child that cannot outlive this process.

Every child leads its own process group, so that what it starts ends with it. A worker that is killed takes nothing
down by itself: a well-behaved server then reads the end of its stdin and leaves. For the others Linux has
PR_SET_PDEATHSIG, which fires when the *thread* that forked ends; so all children of a client are forked by its one
launching thread, which lives as long as the client. The call itself is made between fork and exec by a tiny Python
program: a `preexec_fn` may deadlock in a process with threads. What a server itself has started is killed with it at
close(), but after a kill -9 of the worker it is the server's own to end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from workers.mcp_client.servers import ServerConfig

_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "USER")

# Arguments: the parent's pid, then the command. Python ignores SIGPIPE, and exec would hand that on.
_GUARD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
"""


class Launcher:
    """The one thread that forks."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mcp-launch")

    def start(self, config: ServerConfig) -> Future[subprocess.Popen[bytes]]:
        """Fails with OSError, as subprocess does."""
        return self._thread.submit(_start, config)

    def close(self) -> None:
        """End the thread; the kernel kills what children are left."""
        self._thread.shutdown(wait=True)


def _start(config: ServerConfig) -> subprocess.Popen[bytes]:
    command = [config.command, *config.args]
    if sys.platform == "linux" and sys.executable and os.access(config.command, os.X_OK):
        command = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *command]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=config.cwd,
        env=child_environment(config.env, os.environ),
        start_new_session=True,
        bufsize=0,
    )


def child_environment(configured: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """A small clean environment plus what the operator configured: a server never sees the worker's other secrets."""
    return {name: own[name] for name in _KEPT_VARIABLES if name in own} | dict(configured)
