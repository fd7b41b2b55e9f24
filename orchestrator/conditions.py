"""Decides whether a step runs: `${path}`, an expression in `${…}`, or one around `${…}`.

`${issue.labels[0].name === 'bug'}`, `${issue.state} == "open" && ${count} > 3` and `analysis.has_fix` are all
conditions. A lone value counts as in JavaScript (see truthy), and so does a path that is an operand of `!`, `&&`, `||` or
`?`. Where the answer depends on a path that does not exist the condition is false, whatever the operator; `has(path)`
asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.expressions import Expression, compile_expression, truthy
from orchestrator.paths import EvaluationError, Path, PathNotFound, parse_path, resolve
from orchestrator.text_cache import cached_by_text
from orchestrator.tokens import Malformed, Placeholder, split_text


class ConditionError(EvaluationError):
    """A condition that is neither true nor false: text compared with a number, a division by zero, too much work."""

    def __init__(self, text: str, error: EvaluationError):
        self.text = text
        super().__init__(f"the condition cannot be decided: {error}")


class Condition:
    """A compiled condition. `roots`: the top-level names of the scope that it reads."""

    def __init__(self, text: str, rule: Path | Expression):
        self.text = text
        self._rule = rule
        self.roots = frozenset({rule.root}) if isinstance(rule, Path) else rule.roots

    def check(self) -> None:
        """Compiles it to the end. Raises Malformed."""
        if isinstance(self._rule, Expression):
            self._rule.check()

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """Whether it is true of the scope. Raises ConditionError."""
        try:
            if isinstance(self._rule, Path):
                return truthy(resolve(self._rule, scope))
            return truthy(self._rule.evaluate(scope))
        except PathNotFound:
            return False
        except EvaluationError as error:
            raise ConditionError(self.text, error) from None


@cached_by_text
def compile_condition(text: str) -> Condition:
    """Compiles a condition; CEL sees it when it is first used, or checked. Raises Malformed."""
    inner, offset = _unwrap(text)
    if not inner.strip():
        raise Malformed("the condition is empty", 0)
    path = parse_path(inner)
    return Condition(text, path if path is not None else compile_expression(inner, offset, truthiness=True))


def _unwrap(text: str) -> tuple[str, int]:
    """What stands in a lone `${…}`, or the whole text, and where it starts."""
    stripped = text.strip()
    if stripped.startswith("${"):
        match split_text(stripped):
            case [Placeholder(inner=inner, start=start)]:
                return inner, start + text.index(stripped)
    return text, 0
