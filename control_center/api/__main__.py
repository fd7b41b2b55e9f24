"""Prints the OpenAPI document: `python -m control_center.api > docs/openapi.json`."""

from __future__ import annotations

import json

from control_center.api.app import make_app
from control_center.keys import Trust
from persistence.settings import Settings


def document() -> str:
    """The text of docs/openapi.json."""
    return json.dumps(make_app(Settings(), Trust(keys=True)).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(document(), end="")
