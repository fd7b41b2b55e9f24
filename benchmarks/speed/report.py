"""What a run says: medians with their ranges, the ratios between systems, benchmarks/results.json and the tables in
docs/performance.md."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

EMPTY, GROWN = "empty tables", "prior executions in the tables"
LONG, SHORT = "one long execution", "as many steps in executions of 10"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
TITLES = {
    "W1": "W1: latency, one execution of 10 steps at a time",
    "W2": "W2: throughput, executions of 10 steps submitted up front",
    "W3": "W3: waiting, executions of 5 steps whose tool takes 100 ms (ideal: 0.5 s)",
    "W4": "W4: submission of executions of 10 steps",
    "W5": "W5: growth",
    "W6": "W6: real calls, executions of 5 steps",
}
COLUMNS = {
    "W1": {"step_ms_p50": "step ms, p50", "step_ms_p99": "step ms, p99", "first_ms_p50": "ms to the first step"},
    "W2": {"steps_per_s": "steps/s"},
    "W3": {"span_s": "seconds"},
    "W4": {
        "single_per_s": "one client, per s",
        "sixteen_per_s": "16 clients, per s",
        "batched_per_s": "4 clients by 500, per s",
    },
    "W5": {"steps_per_s": "steps/s", "step_ms_mean": "ms per step"},
    "W6": {"steps_per_cpu_s": "steps per CPU s of workers", "steps_per_s": "steps/s"},
}
COSTS = {
    "cpu_s.workers": "workers",
    "cpu_s.client": "client",
    "cpu_s.api": "API",
    "cpu_s.postgres": "PostgreSQL",
    "cpu_s.valkey": "Valkey",
    "cpu_s.restate": "Restate",
    "cpu_s.tools": "tool server",
}
WAIT_IDEAL_S = 0.5

Record = dict[str, Any]


def record(workload: str, system: str, variant: str, size: int, repeats: Sequence[Mapping[str, float]]) -> Record:
    """One case: the median, least and greatest of each figure."""
    figures = {
        name: {
            "median": round(statistics.median(values), 4),
            "min": round(min(values), 4),
            "max": round(max(values), 4),
        }
        for name in repeats[0]
        for values in [[figures[name] for figures in repeats]]
    }
    return {"workload": workload, "system": system, "variant": variant, "executions": size, "figures": figures}


def ratios(records: Sequence[Record]) -> dict[str, float | None]:
    """Ours over theirs: of W1 times, where less is better, else speeds. The best configuration of each system counts, at the
    largest size that both were measured at. None: not measured."""
    found = {
        "W1_vs_dbos": _compare(records, "W1", "dbos", "step_ms_p50", less=True),
        "W1_vs_restate": _compare(records, "W1", "restate", "step_ms_p50", less=True),
        "W2_vs_dbos": _compare(records, "W2", "dbos", "steps_per_s"),
        "W2_vs_restate": _compare(records, "W2", "restate", "steps_per_s"),
        "W2_vs_dramatiq": _compare(records, "W2", "dramatiq", "steps_per_s"),
        "W3_vs_ideal": _divide(WAIT_IDEAL_S, _best(records, "W3", "afu9", "span_s", less=True)),
        "W3_vs_restate": _compare(records, "W3", "restate", "steps_per_s"),
        "W3_vs_dbos": _compare(records, "W3", "dbos", "steps_per_s"),
        "W5_vs_empty": _divide(_variant(records, GROWN, "steps_per_s"), _variant(records, EMPTY, "steps_per_s")),
        "W5_long_vs_short": _divide(_variant(records, SHORT, "step_ms_mean"), _variant(records, LONG, "step_ms_mean")),
        "W6_cpu_vs_dbos": _compare(records, "W6", "dbos", "steps_per_cpu_s"),
    }
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def memory_per_slot(records: Sequence[Record]) -> float | None:
    """Megabytes of the workers for each further step at once: from W3 with few and with many threads."""
    cases = [r["figures"] for r in records if r["workload"] == "W3" and r["system"] == "afu9"]
    cases.sort(key=lambda figures: figures["slots"]["median"])
    if len(cases) < 2:
        return None
    few, many = cases[0], cases[-1]
    more = many["peak_mb.workers"]["median"] - few["peak_mb.workers"]["median"]
    return round(more / (many["slots"]["median"] - few["slots"]["median"]), 3)


def _compare(records: Sequence[Record], workload: str, peer: str, figure: str, *, less: bool = False) -> float | None:
    sizes = [
        {r["executions"] for r in records if r["workload"] == workload and r["system"] == system}
        for system in ("afu9", peer)
    ]
    if not (common := sizes[0] & sizes[1]):
        return None
    ours, theirs = (_best(records, workload, system, figure, max(common), less=less) for system in ("afu9", peer))
    return _divide(ours, theirs)


def _best(
    records: Sequence[Record], workload: str, system: str, figure: str, size: int | None = None, *, less: bool = False
) -> float | None:
    medians = [
        r["figures"][figure]["median"]
        for r in records
        if r["workload"] == workload and r["system"] == system and size in (None, r["executions"])
    ]
    return (min if less else max)(medians, default=None)


def _variant(records: Sequence[Record], variant: str, figure: str) -> float | None:
    return next((r["figures"][figure]["median"] for r in records if r["variant"] == variant), None)


def _divide(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def tables(results: Mapping[str, Any]) -> str:
    """Markdown: the machine, the ratios, and a table per workload."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    machine, versions = results["machine"], results["versions"]
    yield f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; {machine['system']}."
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    yield "Servers: " + ", ".join(f"`{name}={value}`" for name, value in results["settings"].items()) + "."
    yield f"{results['repeats']} repeats: the median (least–greatest). CPU in seconds, memory in MB at its peak."
    others = [r["figures"]["other_cpu_percent"] for r in results["cases"]]
    if others:
        usual, most = statistics.median(o["median"] for o in others), max(o["max"] for o in others)
        yield f"Other processes used {usual:.0f} % of the processors meanwhile, in the worst run {most:.0f} %."
    for name, reason in results["not_measured"].items():
        yield f"Not measured: {name}: {reason}."
    yield from ("", "| ratio | times better |", "|---|---|")
    for name, ratio in results["ratios"].items():
        yield f"| {name} | {'not measured' if ratio is None else _number(ratio)} |"
    if results["memory_per_slot_mb"] is not None:
        yield from ("", f"Memory of the workers per further step at once: {_number(results['memory_per_slot_mb'])} MB.")
    for workload in TITLES:
        records = [r for r in results["cases"] if r["workload"] == workload]
        if records:
            yield from ("", f"### {TITLES[workload]}", "", *_table(workload, records))


def _table(workload: str, records: Sequence[Record]) -> Iterator[str]:
    heads = ["system", "configuration", "executions", *COLUMNS[workload].values(), "CPU s", "workers MB"]
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for r in records:
        figures = r["figures"]
        values = [_range(figures.get(name)) for name in COLUMNS[workload]]
        costs = [(title, figures[name]["median"]) for name, title in COSTS.items() if name in figures]
        memory = figures.get("peak_mb.workers")
        cells = [r["system"], r["variant"], f"{r['executions']:,}", *values]
        cells.append(", ".join(f"{title} {_number(seconds)}" for title, seconds in costs if seconds >= 0.005))
        yield f"| {' | '.join([*cells, _number(memory['median']) if memory else ''])} |"


def _range(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return ""
    return f"{_number(figure['median'])} ({_number(figure['min'])}–{_number(figure['max'])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def put_between_markers(text: str, tables: str) -> str:
    """The page with its tables renewed. Raises ValueError for a page without both markers."""
    before, found, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{tables}{END}{after}"
