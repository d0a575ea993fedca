"""The report as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from d2lrnn.benchmark.settings import SCALING, find_setting
from d2lrnn.benchmark.statistics import Interval, winner
from d2lrnn.benchmark.table import KINDS, Entry, Table, load_range, paces, versions_of

#: What a quick run says of itself, in every format.
QUICK = "This was a quick run: its numbers are NOT FOR COMPARISON."

#: The title, in every format.
TITLE = "Training steps, framework by framework"

#: A cell of a table without a number.
NOTHING = "–"


def markdown(table: Table, further: Iterable[str] = ()) -> str:
    """All tables.

    Args:
        table: the rows.
        further: paragraphs and tables of other measurements, put at the end.
    """
    parts = [
        f"# {TITLE}",
        *([f"**{QUICK}**"] if table.document["quick"] else []),
        "\n".join([*machine(table), *versions(table)]),
        *tables(table, further),
    ]
    return "\n\n".join(parts) + "\n"


def tables(table: Table, further: Iterable[str] = ()) -> list[str]:
    """Everything below the title and the machine: headings, paragraphs, tables.

    Args:
        table: the rows.
        further: as for `markdown`.
    """
    return [
        "## Training step",
        "Milliseconds: median (quartiles) over all rounds; × the products alone. ✗ has its reason below.",
        *_by_setting(table, _step),
        *([] if table.document["quick"] else _comparisons(table)),
        "## Tokens per second",
        *_by_setting(table, _tokens),
        *_per_token(table),
        "## Forward pass alone, ms",
        *_by_setting(table, _forward),
        "## Import, s: the framework included",
        *_by_setting(table, lambda entry: _number(entry.median("import"), ".2f")),
        "## First step, s: compiling included",
        *_by_setting(table, lambda entry: _number(entry.median("first_step"), ".2f")),
        "## Peak memory while training, MB",
        "Resident, of the whole process: framework, parameters, data and step.",
        *_by_setting(table, lambda entry: _number(entry.median("peak_memory"), ",.0f")),
        *_device_memory(table),
        *_small(table),
        *_agreement(table),
        *_failures(table),
        *further,
    ]


def machine(table: Table) -> list[str]:
    """Where and how it was measured, as lines of a list."""
    document, where = table.document, table.document["machine"]
    schedule = document["schedule"]
    load = load_range(document["rows"])
    return [
        f"- {where['processor']}, {where['cores']} cores, {where['system']}",
        f"- {where['threads']} threads, device {schedule['device']}"
        + (f", load average {load[0]:.1f} to {load[1]:.1f}" if load else ""),
        f"- {schedule['rounds']} rounds, one process at a time; in each, steps for {schedule['seconds']:g} s",
        *_quietness(document["rows"]),
        *(f"- {name}: {sizes}" for name, sizes in schedule["settings"].items()),
    ]


def versions(table: Table) -> list[str]:
    """What computed, subject by subject, as lines of a list."""
    return [f"- {name}: {found}" for name, found in versions_of(table).items()]


def _quietness(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = paces(rows)
    if not found:
        return []
    times = (
        f"{statistics.median(found):.2f} times its least time in the median, {max(found):.2f} times at most"
    )
    return [f"- how quiet: one fixed piece of work, before every process, took {times}"]


def grid(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; what would break it is escaped."""
    head = list(header)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )


def milliseconds(seconds: float) -> str:
    """Three digits."""
    value = 1000 * seconds
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def ratio(interval: Interval | None) -> str:
    """``1.32 (1.29–1.36)``."""
    return NOTHING if interval is None else f"{interval.value:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def _by_setting(
    table: Table, cell: Callable[[Entry], str], lines: Sequence[tuple[str, str]] | None = None
) -> list[str]:
    """One table: a line for every setting and model, all or those of `lines`; a column for every backend."""
    rows = []
    for setting, model in table.cells if lines is None else lines:
        by_name = {entry.name: entry for entry in table.of_cell(setting, model)}
        cells = [_or_failure(by_name.get(name), cell) for name in table.backends]
        rows.append([setting, model, *cells])
    return [grid(["setting", "model", *table.backends], rows)]


def _or_failure(entry: Entry | None, cell: Callable[[Entry], str]) -> str:
    if entry is None:
        return NOTHING
    return cell(entry) if entry.ok else "✗"


def _step(entry: Entry) -> str:
    step = entry.summary("steps")
    if step is None:
        return NOTHING
    multiple = entry.against_floor()
    times = "" if multiple is None else f" ×{multiple.value:.2f}"
    return f"{milliseconds(step.median)} ({milliseconds(step.low)}–{milliseconds(step.high)}){times}"


def _tokens(entry: Entry) -> str:
    step = entry.summary("steps")
    return NOTHING if step is None else f"{find_setting(entry.setting).num_tokens / step.median:,.0f}"


def _device_memory(table: Table) -> list[str]:
    """What training took of GPUs, where there were any."""
    if not any(entry.median("device_memory") for entry in table.entries.values()):
        return []
    return [
        "## Memory of GPUs taken by training, MB",
        "By which it grew, all that the framework keeps for itself included.",
        *_by_setting(table, lambda entry: _number(entry.median("device_memory"), ",.0f")),
    ]


def _per_token(table: Table) -> list[str]:
    """What a token costs, where there are settings of other lengths and batches and equal width."""
    settings = [name for name in table.document["schedule"]["settings"] if name in SCALING]
    rows = []
    for name in table.backends:
        for model in dict.fromkeys(model for _, model in table.cells):
            found = [table.entries.get((name, setting, model)) for setting in settings]
            costs = [_token_cost(entry) for entry in found]
            known = [cost for cost in costs if cost is not None]
            if known:
                spread = f"{max(known) / min(known):.2f}"
                rows.append([name, model, *(_number(cost, ".3g") for cost in costs), spread])
    if not rows:
        return []
    return [
        "## Microseconds a token",
        "Batch x steps x hidden units; the last column: the dearest by the cheapest.",
        grid(["subject", "model", *settings, "spread"], rows),
    ]


def _token_cost(entry: Entry | None) -> float | None:
    step = entry.summary("steps") if entry else None
    return (
        None if entry is None or step is None else 1e6 * step.median / find_setting(entry.setting).num_tokens
    )


def _forward(entry: Entry) -> str:
    forward = entry.summary("forward")
    return NOTHING if forward is None else milliseconds(forward.median)


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _comparisons(table: Table) -> list[str]:
    """Who is faster than whom, which a quick run does not say."""
    against = [part for kind in KINDS for part in _against(table, kind)]
    return [*_winners(table), *against, *_writing_against(table, "book")]


def _winners(table: Table) -> list[str]:
    if len(table.backends) < 2:
        return []
    rows = []
    for setting, model in table.cells:
        found = {e.name: interval for e in table.of_cell(setting, model) if (interval := e.interval("steps"))}
        rows.append([setting, model, winner(found) or "nobody: the intervals overlap"])
    return [
        "## Who is fastest",
        "The one whose interval (bootstrap over rounds, 95%) is below all others and overlaps none.",
        grid(["setting", "model", "fastest"], rows),
    ]


def _against(table: Table, kind: str) -> list[str]:
    """How many times as fast as a peer, with the interval."""
    if not any(entry.kind == kind for entry in table.entries.values()):
        return []
    means = _means(table, kind, "steps")
    return [
        f"## How many times as fast as {KINDS[kind]}",
        "Ratios within a round; above 1 d2lrnn is faster." + (f" Geometric means: {means}." if means else ""),
        *_by_setting(table, lambda entry: _ratio_to(table, entry, kind, "steps")),
    ]


def _writing_against(table: Table, kind: str) -> list[str]:
    """The same for writing, and what comes out over training and writing."""
    means, both = _means(table, kind, "generation"), _means(table, kind, "steps", "generation")
    if not means:
        return []
    everything = table.mean_speed_up(table.frameworks, kind, "steps", "generation")
    assert everything is not None
    lines = [cell for cell in table.cells if any(any(e.rounds("generation")) for e in table.of_cell(*cell))]
    return [
        f"## Writing: how many times as fast as {KINDS[kind]}",
        f"Characters/s, each round's by the peer's; above 1 d2lrnn is faster. Geometric means: {means}.",
        f"Geometric means of training and writing together: {both}; of all, {_mean(everything)}.",
        *_by_setting(table, lambda entry: _ratio_to(table, entry, kind, "generation"), lines),
    ]


def _ratio_to(table: Table, entry: Entry, kind: str, what: str) -> str:
    peer = table.peer(entry, kind)
    if peer is None:
        return NOTHING
    return ratio(table.speed_up(entry, kind, what)) if peer.ok else "peer ✗"


def _means(table: Table, kind: str, *what: str) -> str:
    """The geometric mean of every backend that has one."""
    found = {name: table.mean_speed_up([name], kind, *what) for name in table.backends}
    return "; ".join(f"{name} {_mean(mean)}" for name, mean in found.items() if mean)


def _mean(mean: tuple[float, int]) -> str:
    return f"{mean[0]:.2f} over {mean[1]} cells"


def _small(table: Table) -> list[str]:
    """What is measured with 32 hidden units only: writing, and training to a target."""
    rows = []
    for entry in table.entries.values():
        if not entry.values("generation", "characters_per_second"):
            continue
        target: Any = next((row["target"] for row in entry.rows if "target" in row), None)
        rows.append([
            entry.setting, entry.model, entry.name,
            _number(entry.median("generation", "characters_per_second"), ",.0f"),
            _scaled(entry.median("generation", "first_character"), ".2f"),
            _scaled(entry.median("generation", "first_character_cold"), ",.0f"),
            _number(entry.median("generation", "growth"), ".1f"),
            NOTHING if target is None else _number(target["seconds"], ".1f"),
        ])  # fmt: skip
    if not rows:
        return []
    header = ["setting", "model", "subject", "characters/s", "first character, ms", "the very first, ms",
              "memory grown by, MB", "seconds to perplexity 10"]  # fmt: skip
    return ["## Writing, and learning, with 32 hidden units", grid(header, rows)]


def _scaled(seconds: float | None, form: str) -> str:
    return NOTHING if seconds is None else format(1000 * seconds, form)


def _agreement(table: Table) -> list[str]:
    rows = []
    for setting, model in table.cells:
        spread = table.loss_spread(setting, model)
        if spread is not None:
            rows.append([setting, model, f"{spread[0]:.1e}", str(spread[1])])
    if not rows:
        return []
    return [
        "## How far the backends' losses are apart",
        "The largest relative difference between two backends, over the first steps of training.",
        grid(["setting", "model", "difference", "steps"], rows),
    ]


def _failures(table: Table) -> list[str]:
    if not table.failures:
        return []
    rows = [[entry.name, entry.setting, entry.model, entry.reason or ""] for entry in table.failures]
    return ["## What could not be measured", grid(["subject", "setting", "model", "reason"], rows)]
