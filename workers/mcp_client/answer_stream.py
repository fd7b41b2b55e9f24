"""The search for one answer in an event stream, over reconnections where the server keeps a session.

Everything that is not the answer is passed over, except a request of the server, which is answered on the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx

from workers.mcp_client.budget import Budget, CallCancelled, DeadlinePassed
from workers.mcp_client.channel import answers, parse, parts_of
from workers.mcp_client.failures import METHOD_NOT_FOUND, Trouble, trouble
from workers.mcp_client.plain_answer import Answer
from workers.mcp_client.sse import Event, EventReader, EventTooLarge

if TYPE_CHECKING:
    from workers.mcp_client.http_channel import HttpChannel

_RESUMES = 2
_DRAIN_SECONDS = 0.01
_OPEN_STREAMS = 3


class AnswerStream:
    """One request's stream. `session`: the server keeps state, so a broken stream is resumed."""

    def __init__(
        self, channel: HttpChannel, number: int, headers: dict[str, str], budget: Budget, session: bool
    ) -> None:
        self._channel, self._number, self._headers = channel, number, headers
        self._budget, self._session = budget, session
        self._last_id, self._retry_ms = "", 0

    def read(self, response: Answer) -> dict[str, Any] | None:
        """The answer, or None when the stream ended without it but can be resumed."""
        channel = self._channel
        reader = EventReader(channel.config.max_response_bytes)
        chunks = response.iter_bytes()
        try:
            for chunk in chunks:
                for event in reader.feed(chunk):
                    message = self._message(event)
                    if message is not None:
                        self._drain(response, chunks)
                        return message
        except EventTooLarge as error:
            raise channel.too_large() from error
        except httpx.TransportError:
            if not (self._session and (reader.last_id or self._last_id)):
                raise
        self._last_id = reader.last_id or self._last_id
        self._retry_ms = reader.retry_ms if reader.retry_ms is not None else self._retry_ms
        if self._session and self._last_id:
            return None
        raise trouble("transport", f"{channel.config.where} ended the stream before the answer", "unknown")

    def resume(self) -> dict[str, Any]:
        """Ask for the rest of a broken stream, at most twice."""
        headers = {k: v for k, v in self._headers.items() if k != "content-type"} | {"accept": "text/event-stream"}
        channel = self._channel
        for _ in range(_RESUMES):
            self._budget.sleep(self._retry_ms / 1000)
            headers["last-event-id"] = self._last_id
            with (
                suppress(httpx.TransportError),  # even a refused connection now: the request itself was sent long ago
                channel.http().exchange("GET", channel.config.url, self._budget, headers) as response,
            ):
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    break
                message = self.read(response)
                if message is not None:
                    return message
        where = channel.config.where
        raise trouble("transport", f"{where} ended the stream before the answer and could not resume it", "unknown")

    def _message(self, event: Event) -> dict[str, Any] | None:
        """The answer if the event holds it; a request of the server is answered on the way."""
        if not event.data:
            return None
        message = parse(event.data, self._channel.config.where)
        for part in parts_of(message):
            if answers(part, self._number):
                return dict(part)
            if self._session and isinstance(part, dict) and "method" in part and part.get("id") is not None:
                self._answer_server(part)
        return None

    def _answer_server(self, request: dict[str, Any]) -> None:
        """A ping is answered, anything else refused: a server left without answer would wait until our deadline."""
        with suppress(Trouble):
            self._channel.send(answer_to(request), self._headers, self._budget)

    def _drain(self, response: Answer, chunks: Iterator[bytes]) -> None:
        """Read to the end of a stream that ends with its answer, so that its connection is kept. A server that leaves
        its streams open is not waited for again and again."""
        if self._channel.open_streams >= _OPEN_STREAMS:
            return
        try:
            response.obey(self._budget.part(_DRAIN_SECONDS))
            for _ in chunks:
                pass
            self._channel.open_streams = 0
        except DeadlinePassed:
            self._channel.open_streams += 1
        except (CallCancelled, httpx.HTTPError):
            pass  # the answer is there all the same


def answer_to(request: Mapping[str, Any]) -> bytes:
    """What this client says to a server's own request: it is alive, and it offers nothing."""
    head = {"jsonrpc": "2.0", "id": request.get("id")}
    if request.get("method") == "ping":
        return json.dumps(head | {"result": {}}).encode()
    refusal = f"this client does not offer {request.get('method')}"
    return json.dumps(head | {"error": {"code": METHOD_NOT_FOUND, "message": refusal}}).encode()
