"""Who sits at this machine: what rows and the history say of what was done from the command line."""

from __future__ import annotations

import getpass


def user_name() -> str:
    """The operating system's user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        return "unknown"
