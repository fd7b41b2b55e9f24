"""The worker's watchdog: a process that can no longer do its work ends itself, so that its supervisor starts it anew.

Looked at: the lease's thread, every consumer and worker thread, and a lease that is not written although the database
answers. (While PostgreSQL is away as a whole, nobody's lease can be written and nobody is condemned: the worker waits.)
A process whose interpreter hangs cannot look at itself: a timer of the C library, set again at every look, ends it.
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
        self._thread = threading.Thread(target=self._keep, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The process is stopping by itself."""
        self._stopping.set()
        faulthandler.cancel_dump_traceback_later()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            faulthandler.dump_traceback_later(self._hang_seconds, exit=True)
            if (complaint := self._complaint()) is not None:
                self._end(complaint)
            self._stopping.wait(self._look_seconds)

    def _end(self, complaint: str) -> None:
        """Exit code 1. What cannot be handed back in time is charged to a lost worker."""
        log.critical("this worker ends, so that it is started anew: %s", complaint)
        faulthandler.cancel_dump_traceback_later()
        try:
            self._drain()
        except Exception:
            log.exception("not everything could be handed back")
        finally:
            os._exit(1)
