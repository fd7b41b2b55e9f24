"""The end of an attempt: which outcomes the ledger takes as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.outcome import Cancelled, Failed, Outcome, Skipped, Succeeded
from orchestrator.plan import PlannedStep, plan
from orchestrator.settle import settle
from orchestrator.validate import validate


def step(**more: Any) -> PlannedStep:
    return plan(validate({"steps": [{"name": "a", "tool": "t.x", "params": {}, **more}]})).steps[0]


def settled(outcome: Outcome, *, may_repeat: bool = True, limit: int = 1000, **more: Any) -> tuple[Outcome, str]:
    return settle(outcome, step(**more), may_repeat=lambda: may_repeat, max_output_bytes=limit)


@pytest.mark.parametrize("outcome", [Failed("timeout", "no answer", "unknown"), Cancelled("stopped")])
def test_a_call_that_may_have_run_and_must_not_run_twice_is_for_a_person(outcome: Outcome) -> None:
    """It fails as outcome_unknown, definitely: nobody retries it."""
    result, _ = settled(outcome, may_repeat=False)
    assert isinstance(result, Failed)
    assert (result.kind, result.failure) == ("outcome_unknown", "definite")
    assert "may have run" in result.message
    assert settled(outcome, may_repeat=True) == (outcome, "")


@pytest.mark.parametrize(
    "outcome",
    [
        Failed("transport", "refused", "not_executed"),
        Failed("tool_error", "no", "definite"),
        Cancelled("stopped", "not_executed"),
        Skipped(),
        Succeeded(1),
    ],
)
def test_nobody_asks_about_a_call_whose_outcome_is_known(outcome: Outcome) -> None:
    """The annotations need not be looked up."""

    def unasked() -> bool:
        raise AssertionError("asked")

    assert settle(outcome, step(), may_repeat=unasked, max_output_bytes=1000)[0] == outcome


def test_an_output_is_encoded_once_and_exactly() -> None:
    """The text is what the row gets."""
    assert settled(Succeeded({"ü": 2**70})) == (Succeeded({"ü": 2**70}), '{"ü":1180591620717411303424}')


def test_a_large_output_is_reduced_to_size_and_digest_or_fails_the_step() -> None:
    """As the step wishes; bytes count, not characters."""
    large = Succeeded("ü" * 600, {"kept": True})
    result, text = settled(large)
    assert isinstance(result, Succeeded)
    assert result.output == json.loads(text)
    assert (result.output["truncated"], result.output["size"], len(result.output["sha256"])) == (True, 1202, 64)
    assert result.meta == {"kept": True}
    failed, _ = settled(large, onLargeOutput="fail")
    assert isinstance(failed, Failed)
    assert failed.kind == "output_too_large"
    assert "1202" in failed.message


@pytest.mark.parametrize("output", ["a\0b", float("nan"), {"x": "\ud800"}])
def test_what_jsonb_cannot_hold_fails_the_step(output: Any) -> None:
    """Instead of being altered."""
    result, _ = settled(Succeeded(output))
    assert isinstance(result, Failed)
    assert (result.kind, result.failure) == ("invalid_response", "definite")
