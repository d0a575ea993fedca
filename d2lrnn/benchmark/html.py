"""The report as one HTML page: it holds its figures, its tables and the raw samples, and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from d2lrnn.benchmark.markdown import QUICK, TITLE, machine, tables, versions
from d2lrnn.benchmark.table import Entry, Table, framework_order, losses_of
from d2lrnn.pages.html import NARROW, WIDE, both, document, folded, key
from d2lrnn.pages.svg import Bar, Curve, Dot, bars, dot_plot, line_plot

_STYLE = """
.quick { background: var(--warn); border: 2px solid var(--edge); padding: 8px 12px; font-weight: bold }
"""

_STEP = "ms a training step"


def page(table: Table, further: Iterable[str] = ()) -> str:
    """The whole page: title and machine, figures, tables, and folded away the samples.

    Args:
        table: the rows.
        further: as for `d2lrnn.benchmark.markdown.markdown`.
    """
    quick = f'<p class="quick">{escape(QUICK)}</p>' if table.document["quick"] else ""
    parts = [
        quick,
        _blocks(["\n".join(machine(table))]),
        folded("Versions", _blocks(["\n".join(versions(table))])) if versions(table) else "",
        _steps(table),
        _losses(table),
        _targets(table),
        _memory(table),
        _blocks(tables(table, further)),
        "<h2>Raw samples</h2>",
        folded("Every sample of every round, as JSON", f'<pre id="samples">{_samples(table)}</pre>'),
    ]
    return document(TITLE, parts, _STYLE)


def _samples(table: Table) -> str:
    """The document as JSON, a line for every row."""
    rows = ",\n".join(json.dumps(row) for row in table.document["rows"])
    rest = json.dumps({key: value for key, value in table.document.items() if key != "rows"})
    return escape(f'{rest[:-1]}, "rows": [\n{rows}\n]}}', quote=False)


def _colour(framework: str, table: Table) -> int:
    """One colour a backend, its peers' too: that of its place in the registry, the same in every report."""
    return framework_order(table.frameworks).index(framework)


def _steps(table: Table) -> str:
    """A figure for every setting."""
    dots = _step_dots(table)
    if not dots:
        return ""
    legend = (
        "Dot: median over the rounds; line: its bootstrap interval; ring: a peer; upright tick: the matrix "
        "products alone."
    )
    figures = [
        both(*(dot_plot(_sizes(table, name), _STEP, found, width) for width in (WIDE, NARROW)))
        for name, found in dots.items()
    ]
    return f"<h2>Training step</h2><p>{legend}</p>{_figures(table, figures)}"


def _key(table: Table) -> str:
    """Which colour is whose."""
    return key((name, _colour(name, table)) for name in table.frameworks)


def step_figures(table: Table) -> dict[str, str]:
    """By setting, the SVG with the training steps of every subject, its lines grouped by model."""
    return {name: dot_plot(_sizes(table, name), _STEP, dots) for name, dots in _step_dots(table).items()}


def _sizes(table: Table, setting: str) -> str:
    return f"{setting}: {table.document['schedule']['settings'].get(setting, '')}"


def _step_dots(table: Table) -> dict[str, list[Dot]]:
    found = {}
    for setting in dict.fromkeys(entry.setting for entry in table.entries.values()):
        dots = []
        for entry in table.entries.values():
            interval = entry.interval("steps") if entry.setting == setting else None
            if interval:
                floor = entry.summary("floor")
                mark = None if floor is None else 1000 * floor.median
                value, low, high = (1000 * end for end in interval)
                colour, peer = _colour(entry.framework, table), entry.kind != "backend"
                dots.append(Dot(entry.model, entry.name, value, low, high, mark, colour, peer))
        if dots:
            found[setting] = dots
    return found


def _losses(table: Table) -> str:
    """The backends' losses on one another."""
    figures = []
    for setting, model in table.cells:
        curves = [
            Curve(
                entry.name, [(float(n), y) for n, y in enumerate(losses, 1)], _colour(entry.framework, table)
            )
            for entry in table.of_cell(setting, model)
            if (losses := losses_of(entry))
        ]
        if curves:
            title = f"{setting} {model}"
            figures.append(line_plot(title, "training step", "loss", curves, in_turn=True))
    told = "Each line shows in the gaps of the others: where all are equal, their colours take turns."
    return _section(table, "Losses over steps: the same numbers in every framework", figures, told)


def _targets(table: Table) -> str:
    """Loss over seconds, on the way to the target perplexity."""
    figures = []
    for setting, model in table.cells:
        curves = [
            Curve(entry.name, curve, _colour(entry.framework, table))
            for entry in table.of_cell(setting, model)
            if (curve := _curve(entry))
        ]
        if curves:
            figures.append(line_plot(f"{setting} {model}", "seconds", "loss", curves))
    return _section(table, "Loss over time, from the first step, compiling included", figures)


def _curve(entry: Entry) -> list[tuple[float, float]]:
    target: Any = next((row["target"] for row in entry.rows if entry.ok and "target" in row), None)
    return [] if target is None else [(x, y) for x, y in target["curve"]]


def _memory(table: Table) -> str:
    """A figure for every setting, with all subjects that it was measured of."""
    figures = []
    for setting in dict.fromkeys(entry.setting for entry in table.entries.values()):
        values = [
            Bar(entry.model, entry.name, most, _colour(entry.framework, table), entry.kind != "backend")
            for entry in table.entries.values()
            if entry.setting == setting and (most := entry.median("peak_memory"))
        ]
        if values:
            title = f"{setting}: peak while training"
            figures.append(both(bars(title, "MB", values, WIDE), bars(title, "MB", values, NARROW)))
    return _section(table, "Memory", figures)


def _section(table: Table, title: str, figures: list[str], told: str = "") -> str:
    text = f"<p>{escape(told)}</p>" if told else ""
    return f"<h2>{escape(title)}</h2>{text}{_figures(table, figures)}" if figures else ""


def _figures(table: Table, figures: list[str]) -> str:
    return f'{_key(table)}<div class="figures">{"".join(figures)}</div>'


def _blocks(parts: Iterable[str]) -> str:
    """The Markdown that this package writes, as HTML: headings, lists, tables, paragraphs."""
    found = []
    for block in "\n\n".join(parts).split("\n\n"):
        lines = block.splitlines()
        if block.startswith("#"):
            level = len(block) - len(block.lstrip("#"))
            found.append(f"<h{level}>{_inline(block[level:].strip())}</h{level}>")
        elif block.startswith("| "):
            found.append(_grid([_cells(line) for line in lines]))
        elif block.startswith("- "):
            found.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>")
        else:
            found.append(f"<p>{_inline(block)}</p>")
    return "\n".join(found)


def _grid(rows: list[list[str]]) -> str:
    """A table in a box of its own, which scrolls where it is wider than the screen; numbers stand right."""
    head, _, *body = rows
    numbers = [n > 0 and any(row[n][:1].isdigit() for row in body) for n in range(len(head))]

    def line(cells: list[str], tag: str) -> str:
        kinds = ["" if number else ' class="words"' for number in numbers]
        return "".join(
            f"<{tag}{kind}>{_inline(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
        )

    lines = "".join(f"<tr>{line(row, 'td')}</tr>" for row in body)
    return f'<div class="scroll" tabindex="0"><table><tr>{line(head, "th")}</tr>{lines}</table></div>'


def _cells(line: str) -> list[str]:
    kept = line.strip().strip("|").replace("\\|", "\0")
    return [cell.strip().replace("\0", "|") for cell in kept.split("|")]


def _inline(text: str) -> str:
    return escape(text.strip("*"))
