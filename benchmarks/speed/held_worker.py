"""`afu9 worker`, held back until it is told to go, so that its imports are not measured. The peers' workers do the same."""

from __future__ import annotations

import sys

import workers.serve  # noqa: F401  # what the command would import when it runs
from control_center.cli import main

if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    main(["worker", *sys.argv[1:]])
