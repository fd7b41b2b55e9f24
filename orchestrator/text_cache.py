"""Remembers what short texts compile to. Long ones are compiled again: keeping them would cost more than it saves."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

KEPT_TEXTS = 8192
KEPT_LENGTH = 1000  # characters; so a full cache holds at most some ten megabytes of text

P = ParamSpec("P")
T = TypeVar("T")


def cached_by_text(compile_: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """Caches a pure function of a text. The least recently used results leave."""
    cached: Any = lru_cache(maxsize=KEPT_TEXTS)(compile_)

    def look_up(text: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = (cached if len(text) <= KEPT_LENGTH else compile_)(text, *args, **kwargs)
        return result

    update_wrapper(look_up, compile_)
    return look_up
