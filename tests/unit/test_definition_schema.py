"""The published JSON Schema says what the models say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.definition import Config, Retry, Step, Workflow
from orchestrator.validate import validate
from orchestrator.workflow_schema import json_schema
from persistence.errors import InvalidDefinition

ROOT = Path(__file__).parent.parent.parent
COMMITTED = ROOT / "docs" / "workflow-schema.json"
ORIGINALS = sorted((ROOT / "tests" / "fixtures" / "original").glob("*.json"))


def test_the_committed_schema_is_the_generated_one() -> None:
    """After a change of the models: python -m orchestrator.workflow_schema > docs/workflow-schema.json."""
    assert json.loads(COMMITTED.read_text()) == json_schema()


def test_the_module_prints_what_is_committed() -> None:
    """Byte for byte, so that the command above leaves no difference behind."""
    printed = subprocess.run(
        [sys.executable, "-m", "orchestrator.workflow_schema"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert printed.stdout.decode() == COMMITTED.read_text()


def test_every_key_is_described() -> None:
    """Whoever reads the schema in an editor sees what a key is for; no optional key admits null."""
    schema = json_schema()
    objects = {"Workflow": schema, **schema["$defs"]}
    for model in (Workflow, Step, Retry, Config):
        properties = objects[model.__name__]["properties"]
        assert set(properties) == {field.alias or name for name, field in model.model_fields.items()}
        assert all(member["description"] for member in properties.values())
    assert '"null"' not in json.dumps(schema)


def test_its_examples_are_valid() -> None:
    """They pass the validator that knows more than the schema."""
    for example in json_schema()["examples"]:
        validate(example, context_keys=["repo"])


def changed(**changes: Any) -> dict[str, Any]:
    return {"steps": [{"name": "a", "tool": "b.c", "params": {}, **changes}]}


@pytest.mark.parametrize(
    "document",
    [
        *[json.loads(path.read_text()) for path in ORIGINALS],
        *json_schema()["examples"],
        changed(retry={"maxAttempts": 10, "backoffMultiplier": 1.5}, timeoutMs=1, title="x", idempotent=True),
        changed(timeoutMs=5.0),
        {},
        [],
        {"steps": []},
        {"steps": [{"name": "a", "tool": "b.c"}]},
        {**changed(), "config": {"timeoutMs": 999}},
        {**changed(), "config": {"maxRetries": 101}},
        {**changed(), "x": 1},
        *[
            changed(**{key: value})
            for key, values in {
                "name": ["A", "", "a b", 1, None, "a" * 256],
                "tool": ["b", ".c", "b.", "B.c", "b.1", "b.c d"],
                "params": [[], None, "x"],
                "assign": ["A", None, 5],
                "if": ["", None, True],
                "retry": [
                    None,
                    [],
                    {"maxAttempts": 0},
                    {"maxAttempts": 1.5},
                    {"backoff": "x"},
                    {"y": 1},
                    {"maxDelayMs": 1},
                ],
                "timeoutMs": [0, "5", 2**31, None, 1.5],
                "title": ["", None, "x" * 256],
                "idempotent": [None, 1, "true"],
                "nmae": [1],
            }.items()
            for value in values
        ],
        changed(**{"if": "${x}", "condition": "${x}"}),
    ],
    ids=lambda document: json.dumps(document)[:60],
)
def test_schema_and_validator_agree_on_structure(document: Any) -> None:
    """What one takes the other takes, as far as a schema can tell."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    try:
        validate(document)
    except InvalidDefinition:
        valid = False
    else:
        valid = True
    assert jsonschema.Draft202012Validator(schema).is_valid(document) is valid
