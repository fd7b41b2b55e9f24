"""One configured HTTP server: POST a JSON-RPC message, get its answer from a JSON body or an event stream.

Keeps these promises whatever the server does: the budget's wall clock holds, no more than `max_response_bytes` is
held, no redirect is followed, and every failure is a Trouble of the right class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx

from workers.mcp_client.answer_stream import AnswerStream
from workers.mcp_client.budget import Budget, CallCancelled, DeadlinePassed
from workers.mcp_client.channel import Reply, answers, new_request, notification, parse, parts_of, result_of, timed_out
from workers.mcp_client.exchange import Http
from workers.mcp_client.failures import Trouble, of_network_error, of_status, trouble
from workers.mcp_client.plain_answer import Answer
from workers.mcp_client.servers import NOTHING, ServerConfig

_NOTICE_SECONDS = 2.0
_ERROR_BODY_BYTES = 65536
_POST_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


class HttpChannel:
    """Stateless but for one hint; any number of threads may use it at once."""

    def __init__(
        self,
        config: ServerConfig,
        http: Callable[[], Http],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self.config = config
        self.http = http
        self._later = later
        self._headers = {k.lower(): v for k, v in config.headers.items()}
        self.open_streams = 0  # how many streams in a row the server left open after its answer

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
        try:
            return self._post(number, body, {**_POST_HEADERS, **self._headers, **headers}, budget, session)
        except httpx.HTTPError as error:
            raise of_network_error(error, self.config.where, self.config.address) from error
        except (DeadlinePassed, CallCancelled) as ended:
            if session:
                self._later(lambda: self._give_up(number, headers))
            if isinstance(ended, CallCancelled):
                raise
            raise timed_out(budget, self.config.where) from ended

    def notify(
        self, method: str, params: Mapping[str, Any], budget: Budget, *, headers: Mapping[str, str] = NOTHING
    ) -> None:
        """Send a message that has no answer. Raises Trouble, so that a refusal of the session is seen."""
        self.send(notification(method, params), {**_POST_HEADERS, **self._headers, **headers}, budget)

    def fetch(self, verb: str, url: str, budget: Budget, *, headers: Mapping[str, str] = NOTHING) -> tuple[int, bytes]:
        """A plain request (health, end of a session): its status and the beginning of its body."""
        try:
            with self.http().exchange(verb, url, budget, {**self._headers, **headers}) as response:
                return response.status_code, next(response.iter_bytes(), b"")
        except httpx.HTTPError as error:
            raise of_network_error(error, self.config.where, self.config.address) from error
        except DeadlinePassed as error:
            raise timed_out(budget, self.config.where) from error

    def _post(self, number: int, body: bytes, headers: dict[str, str], budget: Budget, session: bool) -> Reply:
        where = self.config.where
        with self.http().exchange("POST", self.config.url, budget, headers, body) as response:
            self._refuse_failure(response)
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                stream = AnswerStream(self, number, headers, budget, session)
                message = stream.read(response)
            else:
                if response.status_code != 200:
                    raise trouble("protocol_error", f"{where} answered HTTP {response.status_code} without a result")
                value = parse(self.body(response), where)
                message = next((part for part in parts_of(value) if answers(part, number)), None)
                if message is None:
                    raise trouble("protocol_error", f"{where} answered another request than the one sent (wrong id)")
            reply_headers = response.headers
        if message is None:
            message = stream.resume()
        return Reply(result_of(message, self.config), reply_headers)

    def _refuse_failure(self, response: Answer) -> None:
        if not 200 <= response.status_code <= 299:
            body = b""
            with suppress(Trouble, httpx.HTTPError):
                body = self.body(response, _ERROR_BODY_BYTES)
            raise self._failure(response, body)

    def _failure(self, response: Answer, body: bytes) -> Trouble:
        codes = self.config.retryable_rpc_codes
        return of_status(response.status_code, response.headers, body, self.config.where, codes)

    def body(self, response: Answer, limit: int | None = None) -> bytes:
        """The whole body. Raises Trouble as soon as it is known to be larger than the limit."""
        most = limit or self.config.max_response_bytes
        declared = response.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise self.too_large()
        pieces, size = [], 0
        for chunk in response.iter_bytes():
            pieces.append(chunk)
            size += len(chunk)
            if size > most:
                raise self.too_large()
        return b"".join(pieces)

    def too_large(self) -> Trouble:
        limit = self.config.max_response_bytes
        return trouble("response_too_large", f"{self.config.where} sent more than {limit} bytes (max_response_bytes)")

    def send(self, body: bytes, headers: Mapping[str, str], budget: Budget) -> None:
        try:
            with self.http().exchange("POST", self.config.url, budget, headers, body) as response:
                self._refuse_failure(response)
                with suppress(Trouble):
                    self.body(response, _ERROR_BODY_BYTES)  # read to the end, so that the connection is kept
        except httpx.HTTPError as error:
            raise of_network_error(error, self.config.where, self.config.address) from error
        except DeadlinePassed as error:
            raise timed_out(budget, self.config.where) from error

    def _give_up(self, number: int, headers: Mapping[str, str]) -> None:
        """Tell a stateful server that nobody waits any more; without it the tool runs to its end."""
        params = {"requestId": number, "reason": "the client stopped waiting"}
        with suppress(Trouble):
            self.notify("notifications/cancelled", params, Budget(_NOTICE_SECONDS), headers=headers)
