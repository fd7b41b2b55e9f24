"""Secrets in step parameters: stored and shown as references, resolved just before the call, blotted out of what comes back.

A parameter {"$secret": "NAME"} of a definition (a SecretReference, orchestrator/substitute.py) names a secret; only
the worker knows its value. Pure functions: who looks a name up, and where results are stored, is the caller's
business.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.substitute import SECRET, SecretReference
from persistence.errors import InvalidInput

BLOT = "[redacted]"
_VARIABLE = "AFU9_SECRET_"
_SHORTEST = 4  # a shorter value would blot out ordinary words
_TELLING_KEY = re.compile(
    r"passw(or)?d|passphrase|secret|token|authorization|api[-_]?key|apikey|cookie|credential|private[-_]?key|access[-_]?key",
    re.IGNORECASE,
)
_PAGING_KEY = re.compile(r"page|next|prev|continuation|cursor|sync", re.IGNORECASE)  # nextPageToken opens no door


def resolve_secrets(arguments: Any, lookup: Callable[[str], str | None]) -> Any:
    """The arguments with every {"$secret": NAME} replaced by its value. Raises InvalidInput naming all unknown ones."""
    missing: list[str] = []
    resolved = _resolve(arguments, lookup, missing)
    if missing:
        names = ", ".join(sorted(set(missing)))
        raise InvalidInput(f"no secret is known by the name of {names}: set it where the workers run")
    return resolved


def _resolve(value: Any, lookup: Callable[[str], str | None], missing: list[str]) -> Any:
    if isinstance(value, SecretReference):
        name = value[SECRET]
        found = lookup(name)
        if found is None:
            missing.append(name)
        return found
    if isinstance(value, dict):
        return {key: _resolve(item, lookup, missing) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, lookup, missing) for item in value]
    return value


def redact(value: Any, known_secrets: Iterable[str] = ()) -> Any:
    """A copy of the value without secrets: texts under a telling key, and known secret values wherever they stand.

    References ({"$secret": NAME}) stay: they are what may be seen.
    """
    return _redact(value, _pattern(known_secrets), hidden=False)


def _pattern(known_secrets: Iterable[str]) -> re.Pattern[str] | None:
    """Matches any of the values, also as they look inside a JSON text; the longest first, so that none is cut."""
    known = {secret for secret in known_secrets if len(secret) >= _SHORTEST}
    known |= {json.dumps(secret)[1:-1] for secret in known} | {json.dumps(s, ensure_ascii=False)[1:-1] for s in known}
    return re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True)))) if known else None


def _redact(value: Any, known: re.Pattern[str] | None, *, hidden: bool) -> Any:
    """`hidden`: the value stands under a key that tells it is a secret."""
    if isinstance(value, str):
        if hidden and value:
            return BLOT
        return known.sub(BLOT, value) if known else value
    if isinstance(value, list | tuple):
        return [_redact(item, known, hidden=hidden) for item in value]
    if isinstance(value, dict):
        if set(value) == {SECRET} and isinstance(value[SECRET], str):
            return {SECRET: known.sub(BLOT, value[SECRET])} if known else value
        return {
            _redact(k, known, hidden=False): _redact(item, known, hidden=hidden or tells(k))
            for k, item in value.items()
        }
    return value


def _blot(value: Any, known: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return known.sub(BLOT, value)
    if isinstance(value, list | tuple):
        return [_blot(item, known) for item in value]
    if isinstance(value, dict):
        return {_blot(key, known): _blot(item, known) for key, item in value.items()}
    return value


def tells(key: Any) -> bool:
    """Whether a value under this key is taken for a secret."""
    return isinstance(key, str) and bool(_TELLING_KEY.search(key)) and not _PAGING_KEY.search(key)


class Secrets:
    """What this process knows and nobody may see: values by name, and values that stand in its configuration."""

    def __init__(self, values: Mapping[str, str], configured: Iterable[str] = ()):
        self._values = dict(values)
        self._known = _pattern([*values.values(), *configured])

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], folder: Path | None = None, configured: Iterable[str] = ()
    ) -> Secrets:
        """AFU9_SECRET_<NAME> variables, and the files of `folder` (as containers mount secrets) by their names."""
        values = {
            name.removeprefix(_VARIABLE): value
            for name, value in environ.items()
            if name.startswith(_VARIABLE) and name != _VARIABLE
        }
        try:
            files = [path for path in folder.iterdir() if path.is_file()] if folder else []
            values |= {path.name: path.read_text().rstrip("\n") for path in files}
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"AFU9_SECRETS_DIR cannot be read: {error}") from None
        return cls(values, configured)

    def resolve(self, arguments: Any) -> Any:
        """As resolve_secrets."""
        return resolve_secrets(arguments, self._values.get)

    def redact(self, value: Any) -> Any:
        """As redact, with everything this process knows."""
        return _redact(value, self._known, hidden=False)

    def blot(self, value: Any) -> Any:
        """Known values only, whatever their keys: for outputs, which later steps read."""
        return _blot(value, self._known) if self._known else value

    def redact_text(self, text: str) -> str:
        """Known values only: for log lines."""
        return self._known.sub(BLOT, text) if self._known else text


_TRACEBACK = logging.Formatter()


class RedactingFilter(logging.Filter):
    """Keeps known secret values out of a handler's lines, and of the tracebacks below them."""

    def __init__(self, secrets: Secrets):
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if (shown := self._secrets.redact_text(text)) != text:
            record.msg, record.args = shown, None
        if record.exc_info and not record.exc_text:
            record.exc_text = _TRACEBACK.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._secrets.redact_text(record.exc_text)
        return True
