"""Judges a document: a workflow that can run, or every fault it has, structure and meaning in one answer.

The checks of meaning read the raw document, so that a misspelt key does not hide an unknown variable three steps on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any, TypeGuard

from pydantic import ValidationError

from orchestrator.check_input import KEY, schema_findings
from orchestrator.check_tools import ToolSchemas, tool_findings
from orchestrator.conditions import compile_condition
from orchestrator.definition import MAX_STEPS, RESULT, TOOL_PATTERN, Workflow
from orchestrator.describe import shown
from orchestrator.explain import explain, suggest
from orchestrator.plain import MAX_IMPURITIES, Finding, Location, find_impurities, pointer_to
from orchestrator.substitute import compile_text
from orchestrator.tokens import Malformed
from persistence.errors import InvalidDefinition

RESERVED = frozenset({"input", "variables", "true", "false", "null"})
MAX_SUGGESTIONS = 50  # a document with more wrong names than this has another problem

_TOOL = re.compile(TOOL_PATTERN)


def validate(
    document: Any,
    *,
    servers: Collection[str] | None = None,
    context_keys: Collection[str] | None = None,
    tools: ToolSchemas | None = None,
) -> Workflow:
    """The workflow in `document`. Raises InvalidDefinition with all faults, in document order.

    servers: the names of the configured servers; None accepts any.
    context_keys: the top-level keys of the initial context beside `input`; None accepts every name that no step assigns.
    tools: the input schemas of the tools that are known, by server and tool; a server that is missing is not judged.
    """
    impurities = list(islice(find_impurities(document), MAX_IMPURITIES))
    if any(finding.blocks for finding in impurities):
        raise InvalidDefinition([finding.as_fault() for finding in impurities])
    impure = {finding.location for finding in impurities}
    findings = list(impurities)
    workflow: Workflow | None = None
    try:
        workflow = Workflow.model_validate(document)
    except ValidationError as error:
        findings += [finding for finding in explain(error) if finding.location not in impure]
    if isinstance(document, dict) and isinstance(document.get(KEY), dict):
        findings += schema_findings(document[KEY])
    if isinstance(document, dict) and isinstance(document.get("steps"), list):
        check = _MeaningCheck(document["steps"], servers, context_keys, tools or {})
        findings += [finding for finding in check.findings() if finding.location not in impure]
    if findings or workflow is None:
        place = _Places(document)
        raise InvalidDefinition([finding.as_fault() for finding in sorted(findings, key=place.of)])
    return workflow


class _Places:
    """Where a location stands in the document, as something to sort by."""

    def __init__(self, document: Any):
        self._document = document
        self._orders: dict[int, dict[str, int]] = {}

    def of(self, finding: Finding) -> tuple[int, ...]:
        place: list[int] = []
        value = self._document
        for part in finding.location:
            if isinstance(value, dict):
                order = self._orders.setdefault(id(value), {})
                if not order:
                    order.update((key, number) for number, key in enumerate(value))
                place.append(order.get(str(part), len(order)))
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int):
                place.append(part)
                value = value[part] if part < len(value) else None
        return tuple(place)


class _MeaningCheck:
    """What a step means beside the others: names, variables, servers, templates and conditions."""

    def __init__(
        self,
        steps: list[Any],
        servers: Collection[str] | None,
        context_keys: Collection[str] | None,
        tools: ToolSchemas,
    ):
        self._tools = tools
        self._steps = [step if isinstance(step, dict) else {} for step in steps[:MAX_STEPS]]
        self._servers = servers
        self._context_keys = context_keys
        self._names: dict[str, int] = {}
        self._assigned: dict[str, int] = {}
        self._assigners: dict[str, int] = {}
        for index, step in enumerate(self._steps):
            if isinstance(step.get("assign"), str):
                self._assigners.setdefault(step["assign"], index)
        self._suggestions = 0

    def findings(self) -> Iterator[Finding]:
        for index, step in enumerate(self._steps):
            yield from self._name(index, step.get("name"))
            yield from self._tool(index, step.get("tool"))
            if isinstance(step.get("tool"), str):
                yield from tool_findings(index, step["tool"], step.get("params"), self._tools)
            yield from self._params(index, step.get("params"))
            yield from self._condition(index, step)
            yield from self._retry(index, step.get("retry"))
            yield from self._assign(index, step.get("assign"))

    def _name(self, index: int, name: Any) -> Iterator[Finding]:
        if isinstance(name, str) and (first := self._names.setdefault(name, index)) != index:
            yield Finding(("steps", index, "name"), f"“{shown(name)}” is already the name of /steps/{first}")

    def _tool(self, index: int, tool: Any) -> Iterator[Finding]:
        if self._servers is None or not isinstance(tool, str) or not _TOOL.fullmatch(tool):
            return
        server = tool.partition(".")[0]
        if server not in self._servers:
            names = ", ".join(sorted(self._servers)[:20])
            hint = self._suggest(server, self._servers)
            listed = f"configured: {names}" if names else "no server is configured"
            yield Finding(
                ("steps", index, "tool"),
                f"the server “{server}” is not configured",
                f"{hint} {listed}".strip(),
            )

    def _params(self, index: int, params: Any) -> Iterator[Finding]:
        stack: list[tuple[Location, Any]] = [(("steps", index, "params"), params)]
        while stack:
            location, value = stack.pop()
            if isinstance(value, dict):
                stack.extend(((*location, key), member) for key, member in value.items())
            elif isinstance(value, list):
                stack.extend(((*location, number), item) for number, item in enumerate(value))
            elif isinstance(value, str) and "${" in value:
                yield from self._template(index, location, value)

    def _template(self, index: int, location: Location, text: str) -> Iterator[Finding]:
        try:
            template = compile_text(text)
            template.check()
        except Malformed as error:
            yield _malformed(location, error)
        else:
            yield from self._roots(index, location, template.roots)

    def _condition(self, index: int, step: Mapping[str, Any]) -> Iterator[Finding]:
        if "if" in step and "condition" in step:
            yield Finding(("steps", index, "condition"), "`condition` is the same as `if`, a step has one of the two")
        own = {RESULT, step.get("assign")}
        for key in ("if", "condition", "pauseWhen", "failWhen"):
            text = step.get(key)
            if not isinstance(text, str) or not text:
                continue
            location = ("steps", index, key)
            try:
                condition = compile_condition(text)
                condition.check()
            except Malformed as error:
                yield _malformed(location, error)
            else:
                yield from self._roots(index, location, condition.roots - (own if key.endswith("When") else set()))

    def _roots(self, index: int, location: Location, roots: Collection[str]) -> Iterator[Finding]:
        for root in sorted(roots):
            if root != "input" and root not in self._assigned:
                yield from (Finding(location, *reason) for reason in self._unknown(index, root))

    def _unknown(self, index: int, root: str) -> Iterator[tuple[str, str]]:
        """Why nothing called `root` is there when step `index` runs, if that is so."""
        by = self._assigners.get(root)
        if root == "variables":
            yield "“variables” alone is not a value", "write ${name} or ${variables.name}"
        elif self._context_keys is not None and root in self._context_keys:
            return
        elif by == index:
            yield f"“{root}” is assigned only by this step itself", "read what an earlier step assigns"
        elif by is not None:
            yield f"“{root}” is assigned only by a later step, {pointer_to(('steps', by))}", "move that step up"
        elif root.partition("-")[0] in self._assigned and "-" in root:
            yield f"“{root}” is read as one name", "to subtract, put spaces around the minus sign"
        elif self._context_keys is not None:
            yield f"no earlier step assigns “{shown(root)}” and the context has no such key", self._hint_for(root)

    def _hint_for(self, root: str) -> str:
        if (by := self._names.get(root)) is not None:
            assigned = self._steps[by].get("assign")
            return (
                f"the step of that name assigns “{assigned}”" if assigned else "give the step of that name an `assign`"
            )
        return self._suggest(root, {"input", *self._assigned, *(self._context_keys or ())})

    def _suggest(self, word: str, candidates: Collection[str]) -> str:
        self._suggestions += 1
        return suggest(word, candidates) if self._suggestions <= MAX_SUGGESTIONS else ""

    def _retry(self, index: int, retry: Any) -> Iterator[Finding]:
        if not isinstance(retry, dict):
            return
        first, longest = retry.get("initialDelayMs"), retry.get("maxDelayMs")
        if _is_number(first) and _is_number(longest) and longest < first:
            location = ("steps", index, "retry", "maxDelayMs")
            yield Finding(location, f"is less than initialDelayMs ({shown(longest)} < {shown(first)})")

    def _assign(self, index: int, assign: Any) -> Iterator[Finding]:
        if not isinstance(assign, str):
            return
        location = ("steps", index, "assign")
        if assign in RESERVED:
            yield Finding(location, f"“{assign}” is reserved", "choose another name")
        elif (first := self._assigned.setdefault(assign, index)) != index:
            yield Finding(location, f"“{shown(assign)}” is already assigned by /steps/{first}", "choose another name")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _malformed(location: Location, error: Malformed) -> Finding:
    return Finding(location, f"{error.reason}, at character {error.position + 1}", error.hint)
