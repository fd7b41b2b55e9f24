"""What a workflow definition may say: the models behind the validator, the planner and the published JSON Schema.

Invariant: a key that is not written here is a fault, and an optional key is left out rather than set to null. Types are
strict; only a whole number may also be written as a decimal (`3.0`), because JSON does not tell the two apart.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

MAX_STEPS = 10_000
MAX_NAME = 255
MAX_MS = 2_147_483_647  # what the INTEGER columns for milliseconds hold: a little under 25 days

RESULT = "result"  # what pauseWhen and failWhen call the step's own output

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
TOOL_PATTERN = r"^[a-z][a-z0-9_-]*\.[A-Za-z][A-Za-z0-9_.\-/]*$"

AMOUNT_PATTERN = r"^(?!0+(\.0+)?$)[0-9]{1,6}(\.[0-9]{1,9})?$"  # of dollars, to the nano
LEAST_DOLLARS, MOST_DOLLARS = 1e-9, 999_999

T = TypeVar("T")


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("null", "must not be null")
    return value


def _whole_number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _amount(value: Any) -> str | int | float:
    """As it was written: a decimal text or a number of dollars."""
    if isinstance(value, str) and re.fullmatch(AMOUNT_PATTERN, value):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and LEAST_DOLLARS <= value <= MOST_DOLLARS:
        return value
    raise PydanticCustomError("amount", "must be an amount of dollars above 0, for example 0.5 or “0.50”")


Maybe = Annotated[T | None, BeforeValidator(_refuse_null)]
Integer = Annotated[int, BeforeValidator(_whole_number)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=MAX_NAME)]
Tool = Annotated[str, Field(pattern=TOOL_PATTERN, max_length=512, examples=["github.getIssue", "deploy.updateService"])]
ConditionText = Annotated[str, Field(min_length=1, examples=["${variable}", "${issue.labels[0].name === 'bug'}"])]
InitialDelay = Annotated[int, Field(ge=100, le=MAX_MS), BeforeValidator(_whole_number)]
MaxDelay = Annotated[int, Field(ge=1000, le=MAX_MS), BeforeValidator(_whole_number)]
StepTimeout = Annotated[int, Field(ge=1, le=MAX_MS), BeforeValidator(_whole_number)]
Dollars = Annotated[
    str | int | float,
    PlainValidator(_amount),
    WithJsonSchema(
        {
            "type": ["number", "string"],
            "minimum": LEAST_DOLLARS,
            "maximum": MOST_DOLLARS,
            "pattern": AMOUNT_PATTERN,
            "examples": [0.5, "0.50"],
        }
    ),
]
WorkflowTimeout = Annotated[int, Field(ge=1000, le=MAX_MS), BeforeValidator(_whole_number)]


RetriedKind = Literal[
    "tool_error",
    "rpc_error",
    "http_error",
    "protocol_error",
    "invalid_response",
    "response_too_large",
    "tool_not_found",
]


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
    )


class Retry(_Strict):
    """When and how often a failed step is tried again."""

    max_attempts: Integer = Field(default=3, ge=1, le=10, description="All attempts, the first one included")
    backoff: Literal["fixed", "linear", "exponential"] = Field(
        default="exponential",
        description="How the delay grows from retry to retry: not at all, by the same amount, by the same factor",
    )
    backoff_multiplier: float = Field(
        default=2,
        ge=1,
        allow_inf_nan=False,
        description="How many times the first delay the second one is (linear and exponential)",
    )
    initial_delay_ms: InitialDelay = Field(default=1000, description="Milliseconds before the first retry")
    max_delay_ms: MaxDelay = Field(
        default=60_000,
        description="Milliseconds that no delay exceeds; when left out, never less than initialDelayMs",
    )

    @property
    def longest_delay_ms(self) -> int:
        """The cap of every delay. An initialDelayMs above the default cap raises the cap, an explicit cap stands."""
        if "max_delay_ms" in self.model_fields_set:
            return self.max_delay_ms
        return max(self.max_delay_ms, self.initial_delay_ms)


class Step(_Strict):
    """One tool call, with what decides whether and how it is made."""

    name: Name = Field(description="Unique name of this step within the workflow")
    tool: Tool = Field(description="The MCP tool to call, as 'server.tool'; split at the first dot")
    params: dict[str, Any] = Field(
        description="Arguments of the tool; every text in them may hold ${path} or ${expression}"
    )
    assign: Maybe[Name] = Field(default=None, description="Variable that holds the step's output for later steps")
    if_: Maybe[ConditionText] = Field(default=None, alias="if", description="The step is skipped unless this holds")
    condition: Maybe[ConditionText] = Field(default=None, description="The same as `if`; a step has one of the two")
    pause_when: Maybe[ConditionText] = Field(
        default=None,
        description="After the step, if this holds, the execution is paused; `result` is the step's output",
    )
    fail_when: Maybe[ConditionText] = Field(
        default=None, description="If this holds, the step has failed; `result` is the step's output"
    )
    retry: Maybe[Retry] = Field(default=None, description="Without it, the workflow's config.maxRetries applies")
    timeout_ms: Maybe[StepTimeout] = Field(default=None, description="Milliseconds one attempt may take")
    title: Maybe[str] = Field(
        default=None, min_length=1, max_length=MAX_NAME, description="What people see as its name"
    )
    idempotent: Maybe[bool] = Field(
        default=None, description="Whether calling the tool twice does no more than calling it once"
    )

    retry_on: Maybe[list[RetriedKind]] = Field(
        default=None,
        description="Failures of a call that ran which are worth another attempt; without it, what the tool itself said",
    )
    on_large_output: Literal["truncate", "fail"] = Field(
        default="truncate",
        description="What to do with an output too large to store: keep its size and SHA-256, or fail the step",
    )
    idempotency_argument: Maybe[str] = Field(
        default=None, min_length=1, max_length=MAX_NAME, description="Argument that receives the step's idempotency key"
    )

    @property
    def server(self) -> str:
        """The part of `tool` before its first dot."""
        return self.tool.split(".", 1)[0]

    @property
    def tool_name(self) -> str:
        """The part of `tool` after its first dot; may hold dots itself."""
        return self.tool.split(".", 1)[1]

    @property
    def when(self) -> str | None:
        """The condition, under whichever of its two keys it was written."""
        return self.if_ if self.if_ is not None else self.condition


class Config(_Strict):
    """What holds for the whole workflow."""

    continue_on_error: bool = Field(default=False, description="Whether later steps run although one has failed")
    timeout_ms: Maybe[WorkflowTimeout] = Field(
        default=None, description="Milliseconds the whole execution may take; without it there is no limit"
    )
    max_retries: Integer = Field(
        default=0, ge=0, le=100, description="Retries of each step that has no retry block of its own"
    )
    max_cost: Maybe[Dollars] = Field(
        default=None,
        description="US dollars that the execution may cost: the call that would cross it is not made, and its step fails",
    )


class Workflow(_Strict):
    """A sequence of MCP tool calls whose outputs feed later calls."""

    name: Maybe[Name] = Field(default=None, description="Unique name of the workflow")
    description: Maybe[str] = Field(default=None, description="What the workflow is for, in words for people")
    input_schema: Maybe[dict[str, Any]] = Field(
        default=None,
        description="JSON Schema of the input, for people and for the form that starts it; runs are not held to it",
    )
    steps: list[Step] = Field(min_length=1, max_length=MAX_STEPS, description="The steps, in the order they run")
    config: Maybe[Config] = Field(default=None, description="What holds for the whole workflow")
