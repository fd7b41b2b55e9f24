"""Which tools a control will call, and whether they change things, as far as the catalogue says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persistence.pool import Pool, run


@dataclass(frozen=True, slots=True)
class CalledTool:
    """A tool that will be called. `changes`: whether it changes things, None if the catalogue does not say. `conditional`:
    only if the step's condition holds."""

    step: str
    index: int
    tool: str
    changes: bool | None
    conditional: bool


def called_tools(pool: Pool, definition: Mapping[str, Any], indexes: Sequence[int]) -> tuple[CalledTool, ...]:
    """Those of the definition's steps with these indexes."""
    known = {
        f"{row['server']}.{row['tool']}": row["annotations"] or {} for row in run(pool, "list_tools", {"server": None})
    }
    steps = definition.get("steps", [])
    return tuple(
        CalledTool(
            step=steps[index]["name"],
            index=index,
            tool=steps[index]["tool"],
            changes=_changes(known.get(steps[index]["tool"])),
            conditional="if" in steps[index] or "condition" in steps[index],
        )
        for index in indexes
    )


def _changes(annotations: Mapping[str, Any] | None) -> bool | None:
    if annotations is None or not ({"readOnlyHint", "destructiveHint"} & annotations.keys()):
        return None
    return not annotations.get("readOnlyHint", False)
