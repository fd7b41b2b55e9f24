"""A page as its reader sees it."""

from __future__ import annotations

import re
from html import unescape

import httpx


def words(answer: httpx.Response) -> str:
    """Its text without markup, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def field(answer: httpx.Response, name: str) -> tuple[str, str]:
    """What stands in a field of a form, and the fault beside it."""
    found = re.search(rf'<(input|textarea)\b[^>]*\bname="{re.escape(name)}"[^>]*>([^<]*)', answer.text)
    assert found is not None, name
    value = re.search(r'value="([^"]*)"', found[0]) if found[1] == "input" else None
    told = re.search(r'aria-describedby="([^"]*)"', found[0])
    fault = re.search(rf'id="{told[1]}"[^>]*>([^<]*)', answer.text) if told else None
    return unescape(value[1] if value else found[2]), unescape(fault[1]) if fault else ""
