"""What is measured: the workloads, our configurations and the peers' for each, and their sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.speed import ours
from benchmarks.speed.grow import grown_database
from benchmarks.speed.install import Peer
from benchmarks.speed.measure import Figures
from benchmarks.speed.ours_submit import submission, submission_over_http
from benchmarks.speed.peer import run_peer
from benchmarks.speed.report import EMPTY, GROWN, LONG, SHORT
from benchmarks.speed.servers import Servers

STEPS = 10
REAL_STEPS = 5
OURS = "afu9"
DIRECT: dict[str, Any] = {"poll": 1.0, "concurrency": None, "steps": STEPS}
DEFAULTS = DIRECT
TUNED = DIRECT | {"poll": 0.1, "concurrency": 16}
TUNED_LATENCY = DIRECT | {"poll": 0.05, "concurrency": 16}
TUNED_IO = DIRECT | {"poll": 0.05, "concurrency": 100, "steps": REAL_STEPS}
IO_THREADS = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of executions, unless said otherwise."""

    latency: int = 50
    latency_slow: int = 8  # where a second passes before each
    throughput: tuple[int, int] = (500, 3000)
    waiting: int = 200
    single: int = 1000
    many: int = 3200
    batches: int = 40
    prior: int = 1_000_000
    long_steps: int = 10_000
    real: int = 200


QUICK = Sizes(5, 2, (20, 40), 20, 50, 64, 4, 20_000, 200, 20)


@dataclass(frozen=True, slots=True)
class Case:
    workload: str
    system: str
    variant: str
    size: int
    run: Callable[[], Figures]


class Cases:
    """All cases of a run. The database of W5 is made when it is first needed."""

    def __init__(self, servers: Servers, peers: Mapping[str, Peer], sizes: Sizes):
        self._servers = servers
        self._peers = peers
        self._sizes = sizes
        self._grown: str | None = None

    def of(self, workload: str) -> list[Case]:
        makers = {"W1": self._w1, "W2": self._w2, "W3": self._w3, "W4": self._w4, "W5": self._w5, "W6": self._w6}
        return list(makers[workload]())

    def _our(
        self, workload: str, variant: str, size: int, measure: Callable[..., Figures], *given: Any, **named: Any
    ) -> Case:
        return Case(workload, OURS, variant, size, lambda: measure(self._servers, *given, **named))

    def _peer(
        self, workload: str, name: str, variant: str, size: int, processes: int, **options: Any
    ) -> Iterator[Case]:
        """Nothing for a peer that is not measured."""
        if peer := self._peers.get(name):
            yield Case(
                workload,
                name,
                variant,
                size,
                lambda: run_peer(self._servers, peer, workload, size, processes, **options),
            )

    def _w1(self) -> Iterator[Case]:
        many, few = self._sizes.latency, self._sizes.latency_slow
        yield self._our("W1", "1 process", many, ours.latency, many, STEPS)
        yield from self._peer("W1", "dbos", "direct, in the client's process", many, 0, **DIRECT)
        yield from self._peer("W1", "dbos", "queue, defaults", few, 1, **DEFAULTS, warm_up=2)
        yield from self._peer("W1", "dbos", "queue, poll 0.05 s, 16 per worker", many, 1, **TUNED_LATENCY)
        yield from self._peer("W1", "restate", "1 process", many, 1, steps=STEPS)
        yield from self._peer("W1", "dramatiq", "1 process x 8 threads", many, 1, steps=STEPS, threads=8)

    def _w2(self) -> Iterator[Case]:
        few, many = self._sizes.throughput
        for processes in (1, 2):
            label = _processes(processes)
            for size in (few, many):
                ours_label = f"{label} x {ours.OUR_THREADS} threads"
                yield self._our("W2", ours_label, size, ours.throughput, size, STEPS, processes)
                yield from self._peer("W2", "restate", label, size, processes, steps=STEPS)
                if processes == 2:
                    yield from self._peer("W2", "dramatiq", "2 processes x 8 threads", size, 2, steps=STEPS, threads=8)
            yield from self._peer("W2", "dbos", f"{label}, poll 0.1 s, 16 per worker", few, processes, **TUNED)
        yield from self._peer("W2", "dbos", "2 processes, defaults", few, 2, **DEFAULTS)

    def _w3(self) -> Iterator[Case]:
        size = self._sizes.waiting
        slow: dict[str, Any] = {"tool": ours.SLOW}
        yield self._our("W3", "2 processes, defaults", size, ours.real_calls, size, REAL_STEPS, 2, threads=None, **slow)
        wide = slow | {"threads": IO_THREADS}
        yield self._our("W3", f"2 processes x {IO_THREADS} threads", size, ours.real_calls, size, REAL_STEPS, 2, **wide)
        yield from self._peer("W3", "dbos", "2 processes, defaults", size, 2, **DEFAULTS | {"steps": REAL_STEPS})
        yield from self._peer("W3", "dbos", "2 processes, poll 0.05 s, 100 per worker", size, 2, **TUNED_IO)
        for processes in (1, 2):
            yield from self._peer("W3", "restate", _processes(processes), size, processes, steps=REAL_STEPS)

    def _w4(self) -> Iterator[Case]:
        sizes = self._sizes
        counts = (sizes.single, sizes.many, sizes.batches, STEPS)
        yield self._our("W4", "Submitter", sizes.single, submission, *counts)
        yield self._our("W4", "over HTTP", sizes.single, submission_over_http, *counts)
        more: dict[str, Any] = {"many": sizes.many, "batches": sizes.batches}
        yield from self._peer("W4", "dbos", "DBOSClient", sizes.single, 0, **DEFAULTS, **more)
        yield from self._peer("W4", "restate", "over HTTP", sizes.single, 1, steps=STEPS, **more)
        yield from self._peer("W4", "dramatiq", "pipeline", sizes.single, 0, steps=STEPS, threads=8, **more)

    def _w5(self) -> Iterator[Case]:
        size, long = self._sizes.throughput[1], self._sizes.long_steps
        yield self._our("W5", EMPTY, size, ours.throughput, size, STEPS, 2)
        yield Case("W5", OURS, GROWN, size, lambda: self._on_grown(size))
        yield self._our("W5", LONG, 1, ours.latency, 1, long)
        yield self._our("W5", SHORT, long // STEPS, ours.latency, long // STEPS, STEPS)

    def _on_grown(self, size: int) -> Figures:
        if self._grown is None:
            self._grown, seconds = grown_database(self._servers, self._sizes.prior)
            print(f"   {self._sizes.prior:,} prior executions were loaded in {seconds:.0f} s", flush=True)
        return ours.throughput(self._servers, size, STEPS, 2, dsn=self._grown)

    def _w6(self) -> Iterator[Case]:
        size = self._sizes.real
        yield self._our("W6", f"2 processes x {ours.OUR_THREADS} threads", size, ours.real_calls, size, REAL_STEPS, 2)
        tuned = TUNED | {"steps": REAL_STEPS, "warm_up": 40}
        yield from self._peer("W6", "dbos", "2 processes, poll 0.1 s, 16 per worker, official SDK", size, 2, **tuned)


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"
