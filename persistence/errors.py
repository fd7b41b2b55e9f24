"""The one error tree.

Afu9Error
├── InvalidDefinition      a definition with its faults, all of them            exit 2
├── InvalidInput           a file, an argument or a setting that cannot be used  exit 2
├── NotFound               an id or a name that names nothing                    exit 3
│   └── Archived           an execution that is in a file, and no longer here
├── NotAllowed             a key that is missing, wrong, or of a lesser role      exit 5
├── Disabled               a workflow that an operator has switched off          exit 1
├── Refused                a control that does not fit how things stand          exit 4
├── Unreachable            PostgreSQL, Redis or a server does not answer         exit 6
│   └── TooSlow            a statement took longer than it may
└── SchemaMismatch         the database is older or newer than this code         exit 1

A message says what happened, why, and what to do next; nobody needs a stack trace to act on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class Afu9Error(Exception):
    """Anything this project raises on purpose."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a definition: where (JSON pointer, RFC 6901), what, and what to do."""

    pointer: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.pointer or "(the whole document)"
        return f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidDefinition(Afu9Error):
    """A workflow definition that cannot run. `faults` holds every fault found, in document order."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault]):
        self.faults = tuple(faults)
        noun = "fault" if len(self.faults) == 1 else "faults"
        super().__init__(f"the definition has {len(self.faults)} {noun}:\n" + "\n".join(f"  {f}" for f in self.faults))


class InvalidInput(Afu9Error):
    """An argument, a file or a setting that cannot be used as it is."""

    exit_code = 2


class NotFound(Afu9Error):
    """No row, file or server by that name."""

    exit_code = 3


class Archived(NotFound):
    """An execution that was moved into a file; the message says which."""


class Disabled(Afu9Error):
    """A workflow that an operator has switched off."""


class Refused(Afu9Error):
    """A control that does not fit how an execution stands: nothing was changed. `status` is the execution's, `allowed` the
    actions that it takes now."""

    exit_code = 4

    def __init__(self, message: str, status: str = "", allowed: Sequence[str] = ()):
        self.status = status
        self.allowed = tuple(allowed)
        super().__init__(message)


class NotAllowed(Afu9Error):
    """The API refuses the key, or its role."""

    exit_code = 5


class Unreachable(Afu9Error):
    """PostgreSQL, Redis or an MCP server does not answer."""

    exit_code = 6


class TooSlow(Unreachable):
    """A statement took longer than it may."""


class SchemaMismatch(Afu9Error):
    """The database's schema is not the one this code was written for."""
