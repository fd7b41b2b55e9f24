"""The worker's watchdog: a process that can no longer do its work ends itself, so that its supervisor starts it anew.

Looked at: the lease's thread, every consumer and worker thread, and a lease that is not written although the database
answers. (While PostgreSQL is away as a whole, nobody's lease can be written and nobody is condemned: the worker waits.)
A process whose interpreter hangs cannot look at itself: a timer beside the interpreter, wound up again and again, ends it.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Watchdog:
    """`complaint` answers what is wrong, None if nothing; `drain` hands back what can be handed back."""

    def __init__(
        self,
        complaint: Callable[[], str | None],
        drain: Callable[[], None],
        *,
        look_seconds: float,
        hang_seconds: float,
    ):
        self._complaint = complaint
        self._drain = drain
        self._look_seconds = look_seconds
        self._hang_seconds = hang_seconds
        self._stopping = threading.Event()

    def start(self) -> None:
        for name, loop in (("watchdog", self._look), ("pulse", self._wind)):
            threading.Thread(target=loop, name=name, daemon=True).start()

    def stop(self) -> None:
        """The process is stopping by itself."""
        self._stopping.set()

    def _look(self) -> None:
        while not self._stopping.wait(self._look_seconds):
            if (complaint := self._complaint()) is not None:
                self._end(complaint)

    def _wind(self) -> None:
        """A thread of its own: a look may have to wait for the database."""
        while not self._stopping.is_set():
            faulthandler.dump_traceback_later(self._hang_seconds, exit=True)
            self._stopping.wait(self._hang_seconds / 4)
        faulthandler.cancel_dump_traceback_later()

    def _end(self, complaint: str) -> None:
        """Exit code 1. What cannot be handed back in time is charged to a lost worker."""
        log.critical("this worker ends, so that it is started anew: %s", complaint)
        try:
            self._drain()
        except Exception:
            log.exception("not everything could be handed back")
        finally:
            os._exit(1)
