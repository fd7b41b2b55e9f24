"""`${NAME}`, `${NAME:-default}` and `file:PATH` in configured values, resolved once when the configuration is loaded.

What a reference in a header or an environment value resolves to is remembered as a secret, so that it can be blotted
out of anything that is stored or logged.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_BROKEN = re.compile(r"\$\{[^}]*\}?")


class MissingReference(ValueError):
    """A reference that names nothing; the text says which and what to do."""


class References:
    """Resolves references for one configuration file. `${CONFIG_DIR}` is its folder, `${PYTHON}` this interpreter."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._folder = folder
        self._known = {**environ, "CONFIG_DIR": str(folder), "PYTHON": sys.executable or "python3"}
        self._plain = frozenset(("CONFIG_DIR", "PYTHON"))

    def resolve(self, text: str, secrets: set[str] | None = None) -> str:
        """The text with every reference replaced. Values found are added to `secrets`. Raises MissingReference."""

        def value(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            found = self._known.get(name) or default
            if found is None:
                raise MissingReference(
                    f"the environment variable {name} is not set (set it, or write ${{{name}:-default}})"
                )
            if secrets is not None and name not in self._plain and found:
                secrets.add(found)
            return found

        resolved = _REFERENCE.sub(value, text)
        broken = _BROKEN.search(_REFERENCE.sub("", text))
        if broken:
            raise MissingReference(f"{broken[0]!r} is not a reference (write ${{NAME}} or ${{NAME:-default}})")
        return resolved

    def resolve_secret(self, text: str, secrets: set[str]) -> str:
        """As resolve, and a value that begins with `file:` is the content of that file, without the last line break."""
        if not text.startswith("file:"):
            return self.resolve(text, secrets)
        path = self.path(self.resolve(text.removeprefix("file:")))
        try:
            content = path.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise MissingReference(f"the file {path} cannot be read: {reason}") from error
        if content:
            secrets.add(content)
        return content

    def path(self, text: str) -> Path:
        """A path of the file, relative ones seen from its folder."""
        return (self._folder / Path(text).expanduser()).absolute()
