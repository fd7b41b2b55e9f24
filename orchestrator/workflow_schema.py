"""The JSON Schema of the definition language, made from the models. `python -m orchestrator.workflow_schema` prints it.

It says what the structure may be. What it cannot say, such as a variable that no step assigns, is for validate().
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from orchestrator.definition import Workflow

_EXAMPLES: list[dict[str, Any]] = [
    {
        "name": "greet_reporter",
        "steps": [
            {
                "name": "read_issue",
                "tool": "github.getIssue",
                "params": {"owner": "${repo.owner}", "repo": "${repo.name}", "number": "${input.issue_number}"},
                "assign": "issue",
            },
            {
                "name": "greet",
                "tool": "github.addComment",
                "if": "${issue.state === 'open'}",
                "params": {"number": "${issue.number}", "body": "Thank you for “${issue.title}”."},
                "retry": {"maxAttempts": 5, "backoff": "exponential", "initialDelayMs": 2000},
            },
        ],
        "config": {"timeoutMs": 600000},
    }
]


class Untitled(GenerateJsonSchema):
    """Without a title for every key, which would only repeat it."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The schema as a JSON value, draft 2020-12."""
    generated = Workflow.model_json_schema(by_alias=True, schema_generator=Untitled)
    schema: dict[str, Any] = _without_null(generated)
    schema["$defs"]["Step"]["not"] = {"required": ["if", "condition"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "AFU-9 workflow",
        "examples": _EXAMPLES,
    }


def _without_null(node: Any) -> Any:
    """A key that may be left out may not be null: `anyOf: [X, null], default: null` is `X`."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _without_null(value) for key, value in node.items()}
    match made.get("anyOf"):
        case [only, {"type": "null"}]:
            rest = {key: value for key, value in made.items() if key not in ("anyOf", "default")}
            return {**only, **rest}
    return made


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
