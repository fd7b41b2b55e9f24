"""The servers of the demo: what their tools answer is made up, from a seed. Nothing is called."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from orchestrator.outcome import Cancelled, Failed, Succeeded
from orchestrator.paths import make_path
from orchestrator.price import FieldPrice, Price, Prices

READS, ADDS = {"readOnlyHint": True}, {"readOnlyHint": False, "destructiveHint": False}
CHANGES = {"readOnlyHint": False, "destructiveHint": True}
# server -> tool -> (what it does, its annotations, how long it usually takes in ms, how often it fails)
SERVERS: dict[str, dict[str, tuple[str, dict[str, bool], int, float]]] = {
    "github": {
        "getIssue": ("Read an issue", READS, 350, 0.01),
        "createBranch": ("Make a branch", ADDS, 500, 0.02),
        "createPullRequest": ("Open a pull request", ADDS, 900, 0.18),
        "createTag": ("Tag a version", ADDS, 400, 0.01),
        "deploy": ("Put a version into production", CHANGES, 8000, 0.0),
    },
    "llm": {"complete": ("Continue a text", READS, 4200, 0.06)},
    "chat": {"post": ("Write a message", ADDS, 150, 0.01)},
    "warehouse": {"query": ("Ask the data warehouse", READS, 1200, 0.08)},
    "shop": {"ping": ("Ask whether the shop answers", READS, 90, 0.03)},
}
TOKEN = FieldPrice("usage.tokens", make_path("answer.usage.tokens", ["answer", "usage", "tokens"]), Decimal("0.000004"))
PRICES: dict[str, dict[str, Price]] = {
    "llm": {"complete": Price(Decimal(0), Decimal(0), (TOKEN,))},
    "warehouse": {"query": Price(Decimal("0.0005"), Decimal("0.0002"))},
    "github": {tool: Price() for tool in SERVERS["github"]},
    "chat": {"post": Price()},
}  # the shop's calls have none, so that there are unpriced ones
FAULTS = {
    "llm": ("rate_limited", "429: too many requests, try again later", "not_executed"),
    "warehouse": ("timeout", "no answer after 30 s", "unknown"),
    "github": ("tool_error", "HTTP 503 from api.github.com", "definite"),
    "chat": ("transport", "connection reset by peer", "not_executed"),
    "shop": ("tool_error", "HTTP 502 Bad Gateway", "definite"),
}
SPEED = 100  # times: a tool that takes 4 s is waited for 40 ms, and its times are stretched afterwards


class ScriptedTools:
    """A ToolCaller."""

    max_output_bytes = 262_144
    longest_call_seconds = 30.0

    def __init__(self, chance: random.Random):
        self._chance = chance
        self.unlucky = 1.0  # how much likelier than usual a failure is

    def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None = None,
        idempotency_key: str = "",
        meta: Mapping[str, Any] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Succeeded | Failed | Cancelled:
        if server == "builtin":
            return Succeeded(dict(arguments))
        _, _, usual, failing = SERVERS[server][tool]
        taken = usual * self._chance.lognormvariate(0, 0.45)
        threading.Event().wait(taken / 1000 / SPEED)
        if self._chance.random() < failing * self.unlucky:
            kind, message, failure = FAULTS[server]
            return Failed(kind, message, failure)  # type: ignore[arg-type]
        if tool == "deploy" and self._chance.random() < 0.2:
            return Failed("transport", "the connection was lost after the request was sent", "unknown")
        return Succeeded(self._answer(tool, arguments, taken))

    def _answer(self, tool: str, arguments: Mapping[str, Any], taken: float) -> dict[str, Any]:
        match tool:
            case "getIssue":
                title = self._chance.choice(TITLES)
                return {"number": arguments["number"], "title": title, "urgent": self._chance.random() < 0.3}
            case "complete":
                text = " ".join(self._chance.choice(WORDS) for _ in range(40))
                return {"text": text, "usage": {"tokens": self._chance.randint(300, 5000)}}
            case "createBranch":
                return {"name": arguments["branch"]}
            case "createPullRequest":
                number = self._chance.randint(100, 999)
                return {"number": number, "url": f"https://github.example/shop/pull/{number}"}
            case "createTag":
                return {"name": arguments["tag"]}
            case "deploy":
                return {"url": "https://shop.example", "version": arguments["tag"]}
            case "query":
                most = 60 if "returns" in arguments["sql"] else 900
                return {"count": self._chance.randint(most // 40, most)}
            case "ping":
                return {"milliseconds": round(taken), "slow": taken > 160}
        return {"ok": True}

    def may_repeat(self, server: str, tool: str, idempotent: bool | None) -> bool:
        return idempotent is not False

    def prices(self, server: str) -> Prices:
        return PRICES.get(server, {})

    def shown(self, params: Any) -> Any:
        return params


def catalogue(server: str) -> list[dict[str, Any]]:
    """A server's tools as `store_tools` takes them."""
    rows = []
    for tool, (description, hints, _, _) in SERVERS[server].items():
        schema = {"type": "object"}
        judged = json.dumps([schema, None, hints], sort_keys=True)
        rows.append(
            {
                "tool": tool,
                "description": description,
                "input_schema": schema,
                "output_schema": None,
                "annotations": hints,
                "repeatable": hints is READS,
                "hash": hashlib.sha256(judged.encode()).hexdigest(),
            }
        )
    return rows


TITLES = (
    "Total is wrong for vouchers",
    "Checkout button does nothing on phones",
    "Order confirmation is sent twice",
    "Search ignores umlauts",
    "Cart forgets its items after a day",
    "Prices without tax for guests",
    "Slow list of orders",
)
WORDS = ("the cart", "keeps", "a voucher", "until", "its order", "is paid", "and adds", "tax", "once", "more")
