"""A directory of files, local or in an object store (s3://, gs://, az://), through obstore: the extra `archive`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from persistence.errors import Afu9Error, InvalidInput, NotFound, Unreachable

SCHEMES = ("file", "s3", "gs", "az")
PART = 8 * 2**20  # bytes that are sent or read at once
RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}


def location_of(text: str) -> str:
    """A directory or a URL as a URL without a slash at its end. Raises InvalidInput."""
    if "://" not in text:
        return Path(text).absolute().as_uri().rstrip("/")
    if urlsplit(text).scheme not in SCHEMES:
        raise InvalidInput(f"{text}: an archive is a directory, or a URL that begins with {', '.join(SCHEMES)}")
    return text.rstrip("/")


class Store:
    """The files of one directory. A file is there whole or not at all. Raises Unreachable for a place that does not take or
    give them, NotFound for a file that is not there, and InvalidInput for a place that cannot be one."""

    def __init__(self, location: str):
        """`location`: as location_of gives it."""
        self.location = location
        self._obstore = _load()
        split = urlsplit(location)
        self._folder = Path(unquote(split.path)) if split.scheme == "file" else None
        self._opened: Any = None

    def put(self, name: str, content: bytes | IO[bytes]) -> None:
        """Writes the file, durably."""
        with self._told("write", name):
            self._obstore.put(self._open(make=True), name, content, chunk_size=PART)
            if self._folder is not None:
                _flush(self._folder / name)
                _flush(self._folder)

    def read(self, name: str) -> Iterator[bytes]:
        """The file, piece by piece."""
        with self._told("read", name):
            yield from self._obstore.get(self._open(), name).stream(min_chunk_size=PART)

    def names(self) -> list[str]:
        """Of all files."""
        with self._told("list", ""):
            return sorted(one["path"] for batch in self._obstore.list(self._open()) for one in batch)

    def delete(self, name: str) -> None:
        with self._told("delete", name):
            self._obstore.delete(self._open(), name)

    def _open(self, make: bool = False) -> Any:
        if self._opened is None:
            from obstore.store import LocalStore, from_url

            if self._folder is not None:
                if make:
                    self._folder.mkdir(parents=True, exist_ok=True)
                elif not self._folder.exists():
                    raise NotFound(f"there is no {self._folder}")
                self._opened = LocalStore(self._folder)
            else:
                self._opened = from_url(self.location, retry_config=RETRIES)
        return self._opened

    @contextmanager
    def _told(self, act: str, name: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (Afu9Error, GeneratorExit):
            raise
        except (OSError, ValueError, BaseError) as error:
            if isinstance(error, FileNotFoundError) and act == "read":
                raise NotFound(f"there is no {self.location}/{name}") from None
            reason = " ".join(str(error).partition("\n")[0].split())[:300] or type(error).__name__
            raise Unreachable(f"cannot {act} {self.location}/{name}: {reason}") from error


def _flush(path: Path) -> None:
    """What the operating system holds of it goes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load() -> Any:
    try:
        import obstore
    except ImportError:
        raise Afu9Error(
            "archives need the extra `archive`, which is not installed: pip install 'afu9[archive]'"
        ) from None
    return obstore
