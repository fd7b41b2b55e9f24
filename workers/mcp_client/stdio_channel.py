"""One configured command as a channel: requests of many threads over one child, matched to answers by their id.

When the child ends, the calls in flight fail with an unknown outcome (those not yet written: not executed), and the
owner starts another child for the next call; a channel lives exactly as long as its child.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from workers.mcp_client.answer_stream import answer_to
from workers.mcp_client.budget import Budget, CallCancelled, DeadlinePassed
from workers.mcp_client.channel import Reply, new_request, notification, parse, parts_of, result_of, timed_out
from workers.mcp_client.child import Child, Outgoing
from workers.mcp_client.failures import Trouble, clip, trouble
from workers.mcp_client.launch import Launcher
from workers.mcp_client.servers import NOTHING, ServerConfig

_ID_AT_START = re.compile(rb'\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*"?(\d{1,18})')
_ID_AT_END = re.compile(rb'"id"\s*:\s*"?(\d{1,18})"?\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')
_STOP_GRACE_SECONDS = 1.5


class _Waiting:
    """One request without an answer yet. Whoever sets `ended` has filled one of the others."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.message: dict[str, Any] | None = None
        self.trouble: Trouble | None = None
        self.outgoing: Outgoing | None = None


class StdioChannel:
    """Started with `open`; any number of threads may use it at once."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._child: Child | None = None
        self._noise = ""  # the last line on stdout that was no message

    @classmethod
    def open(cls, config: ServerConfig, launcher: Launcher, budget: Budget) -> StdioChannel:
        """Start the command. Raises Trouble if it cannot run."""
        channel = cls(config)
        future = launcher.start(config)
        started = threading.Event()
        future.add_done_callback(lambda _: started.set())
        try:
            budget.wait(started)
        except (DeadlinePassed, CallCancelled):
            future.add_done_callback(
                lambda late: channel._adopt_and_end(late.result()) if not late.exception() else None
            )
            raise
        try:
            channel._adopt(future.result())
        except OSError as error:
            message = f"{config.where} cannot be started: {config.command}: {error.strerror or error}"
            raise trouble("server_start_failed", message, "not_executed") from error
        return channel

    @property
    def alive(self) -> bool:
        return self._child is not None and not self._child.ended.is_set()

    def request(
        self,
        method: str,
        params: Mapping[str, Any],
        budget: Budget,
        *,
        headers: Mapping[str, str] = NOTHING,
        session: bool = False,
    ) -> Reply:
        number, body = new_request(method, params, self.config)
        waiting = _Waiting()
        with self._lock:
            if not self.alive or self._child is None:
                raise self._end_trouble("not_executed")
            self._waiting[number] = waiting
            waiting.outgoing = self._child.send(body)
        try:
            budget.wait(waiting.ended)
        except (DeadlinePassed, CallCancelled) as ended:
            unsent = waiting.outgoing.drop()
            if not unsent:
                self._send(
                    notification("notifications/cancelled", {"requestId": number, "reason": "nobody waits any more"})
                )
            if isinstance(ended, CallCancelled) or unsent:
                raise
            raise timed_out(budget, self.config.where) from ended
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if waiting.message is None:
            raise waiting.trouble or self._end_trouble("unknown")
        return Reply(result_of(waiting.message, self.config))

    def notify(
        self,
        method: str,
        params: Mapping[str, Any],
        budget: Budget,
        *,
        headers: Mapping[str, str] = NOTHING,
    ) -> None:
        self._send(notification(method, params))

    def end(self) -> None:
        """Ask the child to leave; join() waits for it."""
        if self._child is not None:
            self._child.end(_STOP_GRACE_SECONDS)

    def join(self) -> None:
        if self._child is not None:
            self._child.join()

    def _adopt(self, process: Any) -> None:
        self._child = Child(
            process,
            line_limit=self.config.max_response_bytes,
            on_line=self._on_line,
            on_end=self._on_end,
            name=self.config.name,
        )
        self._child.start()

    def _adopt_and_end(self, process: Any) -> None:
        self._adopt(process)
        self.end()

    def _send(self, data: bytes) -> None:
        if self._child is not None:
            self._child.send(data)

    def _on_line(self, line: bytes, whole: bool) -> None:
        """One line of the child's stdout, on the reader's thread."""
        if not whole:
            limit = self.config.max_response_bytes
            text = f"{self.config.where} sent more than {limit} bytes (max_response_bytes)"
            self._fail_sender(line, trouble("response_too_large", text))
            return
        try:
            value = parse(line, self.config.where)
        except Trouble as error:
            if line.lstrip().startswith(b"{"):
                self._fail_sender(line, error)
            else:
                self._noise = clip(line.decode("utf-8", "replace"), 200)
            return
        for message in parts_of(value):
            if isinstance(message, dict):
                self._deliver(message)

    def _deliver(self, message: dict[str, Any]) -> None:
        if "method" in message:
            if message.get("id") is not None:
                self._send(answer_to(message))
            return
        with self._lock:
            waiting = self._waiting.pop(_number(message.get("id")), None)
            if waiting is None and message.get("id") is None and "error" in message and len(self._waiting) == 1:
                waiting = self._waiting.popitem()[1]
        if waiting is not None:
            waiting.message = message
            waiting.ended.set()

    def _fail_sender(self, line: bytes, error: Trouble) -> None:
        """Fail the request that an unusable line answers; if nothing tells which one, all of them."""
        found = _ID_AT_START.match(line.lstrip()) or _ID_AT_END.search(line)
        with self._lock:
            if found:
                one = self._waiting.pop(int(found[1]), None)
                failed = [one] if one else []
            else:
                failed = list(self._waiting.values())
                self._waiting.clear()
        for waiting in failed:
            waiting.trouble = error
            waiting.ended.set()

    def _on_end(self) -> None:
        with self._lock:
            left = list(self._waiting.values())
            self._waiting.clear()
        for waiting in left:
            unsent = waiting.outgoing is not None and waiting.outgoing.drop()
            waiting.trouble = self._end_trouble("not_executed" if unsent else "unknown")
            waiting.ended.set()

    def _end_trouble(self, failure: Any) -> Trouble:
        child = self._child
        code = child.exit_code if child is not None else None
        words = (child.last_words() if child is not None else "") or self._noise
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        said = f"; its last words: {clip(words, 1000)}" if words else ""
        return trouble("transport", f"{self.config.where} {how}{said}", failure)


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return -1
    with suppress(ValueError):
        return int(value)
    return -1
