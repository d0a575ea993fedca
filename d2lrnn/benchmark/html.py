"""The report as one HTML page: it holds its figures, its tables and the raw samples, and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from d2lrnn.benchmark.markdown import QUICK, markdown
from d2lrnn.benchmark.svg import COLOURS, Curve, Dot, bars, dot_plot, line_plot
from d2lrnn.benchmark.table import Entry, Table, losses_of

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222;
  max-width: 1180px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px; margin: 1em 0; display: block; overflow-x: auto }
td, th { border: 1px solid #ddd; padding: 3px 8px; text-align: right; white-space: nowrap }
td:first-child, td:nth-child(2), th { text-align: left }
svg { display: block; margin: 1em 0; font-family: inherit }
.figures { display: flex; flex-wrap: wrap; gap: 12px }
.quick { background: #fde0d0; border: 2px solid #d55e00; padding: 8px 12px; font-weight: bold }
"""


def page(table: Table, further: Iterable[str] = ()) -> str:
    """The whole page.

    Args:
        table: the rows.
        further: as for `d2lrnn.benchmark.markdown.markdown`.
    """
    quick = f'<p class="quick">{escape(QUICK)}</p>' if table.document["quick"] else ""
    # What ends a script must not stand in it; JSON can write the sign otherwise.
    samples = json.dumps(table.document).replace("<", "\\u003c")
    return "\n".join([
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Training steps, framework by framework</title>',
        f"<style>{_STYLE}</style></head><body>",
        quick,
        _dots(table),
        _losses(table),
        _targets(table),
        _memory(table),
        _tables(markdown(table, further)),
        "<h2>Raw samples</h2><p>In this page's source, as JSON: the element <code>#samples</code>.</p>",
        f'<script type="application/json" id="samples">{samples}</script>',
        "</body></html>",
        "",
    ])  # fmt: skip


def _colour(table: Table, framework: str) -> str:
    return COLOURS[table.frameworks.index(framework) % len(COLOURS)]


def _dots(table: Table) -> str:
    """A figure for every setting."""
    legend = (
        "Dot: median over the rounds; line: its bootstrap interval; ring: a peer; upright tick: the matrix "
        "products alone."
    )
    return "\n".join([f"<h2>Training step</h2><p>{legend}</p>", *step_figures(table).values()])


def step_figures(table: Table) -> dict[str, str]:
    """By setting, the SVG with the training steps of every subject, its lines grouped by model."""
    figures = {}
    for setting in dict.fromkeys(entry.setting for entry in table.entries.values()):
        dots = []
        entries = [entry for entry in table.entries.values() if entry.setting == setting]
        for model in dict.fromkeys(entry.model for entry in entries):
            for entry in entries:
                interval = entry.interval("steps") if entry.model == model else None
                if interval:
                    floor = entry.summary("floor")
                    mark = None if floor is None else 1000 * floor.median
                    value, low, high = (1000 * end for end in interval)
                    label, colour = f"{model} · {entry.name}", _colour(table, entry.framework)
                    dots.append(Dot(label, value, low, high, mark, colour, entry.kind != "backend"))
        if dots:
            sizes = table.document["schedule"]["settings"].get(setting, "")
            figures[setting] = dot_plot(f"{setting}: {sizes}", "ms a training step", dots)
    return figures


def _losses(table: Table) -> str:
    """The backends' losses on one another: where they are equal, only the uppermost seems to be there."""
    figures = []
    for setting, model in table.cells:
        curves = [
            Curve(
                entry.name, [(float(n), y) for n, y in enumerate(losses, 1)], _colour(table, entry.framework)
            )
            for entry in table.of_cell(setting, model)
            if (losses := losses_of(entry))
        ]
        if curves:
            figures.append(line_plot(f"{setting} {model}", "training step", "loss", curves))
    return _section("Losses over steps: the same numbers in every framework", figures)


def _targets(table: Table) -> str:
    """Loss over seconds, on the way to the target perplexity."""
    figures = []
    for setting, model in table.cells:
        curves = [
            Curve(entry.name, curve, _colour(table, entry.framework))
            for entry in table.of_cell(setting, model)
            if (curve := _curve(entry))
        ]
        if curves:
            figures.append(line_plot(model, "seconds", "loss", curves))
    return _section("Loss over time, from the first step, compiling included", figures)


def _curve(entry: Entry) -> list[tuple[float, float]]:
    target: Any = next((row["target"] for row in entry.rows if entry.ok and "target" in row), None)
    return [] if target is None else [(x, y) for x, y in target["curve"]]


def _memory(table: Table) -> str:
    values = [
        (f"{entry.setting} {entry.model} · {entry.name}", most, _colour(table, entry.framework))
        for entry in table.entries.values()
        if (most := entry.median("peak_memory"))
    ]
    return _section("Memory", [bars("Peak while training", "MB", values)] if values else [])


def _section(title: str, figures: list[str]) -> str:
    return f'<h2>{escape(title)}</h2><div class="figures">{"".join(figures)}</div>' if figures else ""


def _tables(text: str) -> str:
    """The Markdown that this package writes, as HTML: headings, lists, tables, paragraphs."""
    parts = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if block.startswith("#"):
            level = len(block) - len(block.lstrip("#"))
            parts.append(f"<h{level}>{_inline(block[level:].strip())}</h{level}>")
        elif block.startswith("| "):
            rows = [_cells(line) for line in lines]
            head = "".join(f"<th>{_inline(cell)}</th>" for cell in rows[0])
            body = "".join(
                f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rows[2:]
            )
            parts.append(f"<table><tr>{head}</tr>{body}</table>")
        elif block.startswith("- "):
            parts.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>")
        else:
            parts.append(f"<p>{_inline(block)}</p>")
    return "\n".join(parts)


def _cells(line: str) -> list[str]:
    kept = line.strip().strip("|").replace("\\|", "\0")
    return [cell.strip().replace("\0", "|") for cell in kept.split("|")]


def _inline(text: str) -> str:
    return escape(text.strip("*"))
