"""A role whose clock is wrong: `python -m tests.acceptance.shifted_role SECONDS worker|orchestrator`."""

from __future__ import annotations

import sys
import time

_right = time.time
_shift = float(sys.argv[1])
time.time = lambda: _right() + _shift

from control_center.cli import main  # noqa: E402  # after the clock has been moved

if __name__ == "__main__":
    main(sys.argv[2:])
