"""SQL lives in queries/*.sql, one statement per file, named as what runs it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

QUERIES = Path(__file__).parent / "queries"


@cache
def statement(name: str) -> bytes:
    """The text of queries/<name>.sql."""
    return (QUERIES / f"{name}.sql").read_bytes()
