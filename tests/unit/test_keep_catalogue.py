"""When the rows of a server's tools are looked at again."""

from __future__ import annotations

from typing import Any, cast

import pytest

from workers.keep_catalogue import LATER, SOON, CatalogueKeeper
from workers.mcp_client import McpClient


class Waits:
    """An event that notes how long it is waited for, and is set after so many waits."""

    def __init__(self, count: int):
        self.seconds: list[float] = []
        self._count = count

    def is_set(self) -> bool:
        return len(self.seconds) == self._count

    def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.mark.parametrize("known_after", [2, 99])
def test_calls_that_wait_for_the_first_look_of_another_worker_wait_no_longer_than_needed(
    monkeypatch: pytest.MonkeyPatch, known_after: int
) -> None:
    """A server that answers at once is looked at within hundredths of a second, a slow one some times a second."""
    with McpClient({}) as client:
        keeper = CatalogueKeeper(cast(Any, None), client, ttl_seconds=300)
        looks = []

        def look(server: str, _: object) -> None:
            looks.append(server)
            if len(looks) > known_after:
                keeper._known[server].set()

        monkeypatch.setattr(keeper, "_refresh_if_due", look)
        waits = Waits(7)
        monkeypatch.setattr(keeper, "_stopping", waits)
        keeper._keep("builtin", client.servers["builtin"])
    growing = [SOON, 2 * SOON, 4 * SOON, 8 * SOON, 16 * SOON, LATER, LATER]
    assert waits.seconds == (growing if known_after == 99 else [*growing[:2], 300, 300, 300, 300, 300])
