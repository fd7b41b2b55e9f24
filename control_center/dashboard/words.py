"""How the pages write what they are given: times, spans, sizes, dollars, statuses. Jinja filters; everything else is text."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from markupsafe import Markup, escape

from control_center.progress import dollars, iso
from control_center.timeline import glyph
from workers.secrets import redact

PREVIEW = 64 * 1024  # characters of a payload that a page holds; the rest is a download


def moment(at: datetime | None, absent: str = "–") -> Markup:
    """A time that the reader's zone switch reaches: UTC unless a script writes it anew."""
    if at is None:
        return escape(absent)
    at = at.astimezone(UTC)
    shape = "%m-%d %H:%M:%S" if at.year == datetime.now(UTC).year else "%Y-%m-%d %H:%M"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso(at), iso(at), at.strftime(shape))


def span(milliseconds: float | None, absent: str = "–") -> str:
    """3 ms, 1.25 s, 4 min 10 s, 3 h 5 min, 2 d 4 h."""
    if milliseconds is None:
        return absent
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, name, smaller, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {small}" if rest else "")
    return absent


def size(characters: int) -> str:
    for unit, name in ((1 << 20, "MB"), (1 << 10, "KB")):
        if characters >= unit:
            return f"{characters / unit:.1f} {name}"
    return f"{characters} B"


def money(nanos: int | None, absent: str = "–") -> str:
    """Nano-dollars as dollars."""
    text = dollars(nanos)
    return absent if text is None else f"${text}"


def number(count: int) -> str:
    return f"{count:,}"


def percent(share: float | None, absent: str = "–") -> str:
    """96.8 %; never 100 % for what is less."""
    if share is None:
        return absent
    return f"{min(share * 100, 99.9) if share < 1 else 100:.1f} %".replace("100.0", "100")


@lru_cache(1000)  # a page of steps says the same few a thousand times
def status(name: str, word: str | None = None) -> Markup:
    """Glyph, word and colour: none of them alone."""
    shown = word or name
    return Markup('<span class="status {}"><span aria-hidden="true">{}</span> {}</span>').format(
        name, glyph(name), shown
    )


def json_text(value: Any) -> str:
    """A payload as its readers may see it: secrets hidden, numbers as they are stored, indented."""
    return json.dumps(redact(value), indent=2, ensure_ascii=False, default=str)


def preview(value: Any, limit: int = PREVIEW) -> tuple[str, int]:
    """A payload's text cut to `limit` characters, and how long all of it is."""
    text = json_text(value)
    return text[:limit], len(text)


def short(identifier: Any) -> str:
    """The first part of an id."""
    return str(identifier)[:8]


def attributes(**given: Any) -> Markup:
    """HTML attributes; what is None or False is left out, True stands alone, `_` is written `-`."""
    parts = [
        Markup(" {}").format(name.replace("_", "-"))
        if value is True
        else Markup(' {}="{}"').format(name.replace("_", "-"), value)
        for name, value in given.items()
        if value is not None and value is not False
    ]
    return escape("").join(parts)


FILTERS: dict[str, Callable[..., Any]] = {
    "moment": moment,
    "span": span,
    "size": size,
    "money": money,
    "number": number,
    "percent": percent,
    "status": status,
    "sign": glyph,
    "json_text": json_text,
    "preview": preview,
    "short": short,
}
