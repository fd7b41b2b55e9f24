"""A scenario's figures, the minima it had to reach and what it found wrong; printed as one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.chaos.ground import show


@dataclass
class Report:
    title: str
    figures: dict[str, Any] = field(default_factory=dict)
    wrong: dict[str, list[Any]] = field(default_factory=dict)  # by name: what is wrong; nothing is fine
    too_few: list[str] = field(default_factory=list)

    def at_least(self, name: str, number: int, minimum: int) -> None:
        """Notes a figure, and that a run with less proves too little."""
        self.figures[name] = f"{number}   (at least {minimum})" if minimum else number
        if number < minimum:
            self.too_few.append(f"{name}: {number} of {minimum}")

    @property
    def good(self) -> bool:
        return not self.too_few and not any(self.wrong.values())

    def text(self) -> str:
        lines = [f"── {self.title}", *(f"   {name:<38} {_told(value)}" for name, value in self.figures.items())]
        lines += [f"   {name:<38} {len(found)}" for name, found in self.wrong.items()]
        lines += [f"   WRONG {name}: {show(found[:3])}" for name, found in self.wrong.items() if found]
        lines += [f"   TOO FEW {line}" for line in self.too_few]
        return "\n".join(lines)


def _told(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
