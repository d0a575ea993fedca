"""What a notebook shows of a training's history: a curve, a table of epochs, a sample."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from d2lrnn.pages.svg import Curve, disc, line_plot
from d2lrnn.training.curves import finite_points, needs_log_axis
from d2lrnn.training.history import EpochRecord, History, best_epoch
from d2lrnn.training.notebook import current_cell

_WIDTH, _HEIGHT = 420, 240

#: Of `d2lrnn.pages.svg.COLOURS`.
_COLOURS = {"training": 0, "validation": 1}

#: A table of more epochs leaves most of them out.
_MOST_ROWS = 12


def history_html(history: History) -> str:
    """The history as HTML that needs nothing else: no script and no style sheet.

    Example:
        >>> records = [EpochRecord(n, p, p, 3.0, 3.2, 500.0, 4) for n, p in ((1, 9.0), (2, 7.0))]
        >>> html = history_html(History(records))
        >>> html.count("<svg xmlns"), html.count("<tr>"), history_html(History()).count("<svg xmlns")
        (1, 3, 0)
    """
    parts = []
    if len(history.epochs) > 1 and (history.drawn_in is None or history.drawn_in != current_cell()):
        parts.append(_curve(history.epochs))
    if history.records:
        parts.append(_table(history))
    parts.append(f"<p>{escape(repr(history))}</p>")
    if history.sample is not None:
        parts.append(f'<pre style="white-space:pre-wrap">{escape(history.sample)}</pre>')
    return f"<div>{''.join(parts)}</div>"


def _curve(epochs: Sequence[EpochRecord]) -> str:
    points = finite_points(epochs)
    curves = [Curve(name, points[name], colour) for name, colour in _COLOURS.items() if points[name]]
    if not curves:
        return ""
    return line_plot(
        "Perplexity by epoch", "epoch", "perplexity", curves, counted=True,
        logarithmic=needs_log_axis(epochs), width=_WIDTH, height=_HEIGHT,
    )  # fmt: skip


def _table(history: History) -> str:
    named = [f"{_mark(colour)} {name}" for name, colour in _COLOURS.items()]
    heads = ["epoch", *named, "bits per token", "tokens/s"]
    best = best_epoch(history.epochs)
    rows = [_row("th", heads)]
    for record in _shown(history):
        values = [str(record.epoch), f"{record.train_perplexity:.2f}", f"{record.val_perplexity:.2f}",
                  f"{record.val_bits_per_token:.3f}", f"{record.tokens_per_second:,.0f}"]  # fmt: skip
        if record is best:
            values[2] = f"<b>{values[2]}</b>"
        if record is history.cut_short:
            values[0] += " (a part)"
        rows.append(_row("td", values))
    return f"<table>{''.join(rows)}</table>"


def _shown(history: History) -> list[EpochRecord]:
    """Every epoch, or every tenth or so with the first, the best and the last."""
    records, best = history.records, best_epoch(history.epochs)
    if len(records) <= _MOST_ROWS:
        return records
    every = -(-len(records) // (_MOST_ROWS - 2))
    return [each for each in records
            if each.epoch % every == 0 or each is best or each in (records[0], records[-1])]  # fmt: skip


def _row(cell: str, values: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{value}</{cell}>' for value in values)}</tr>"


def _mark(colour: int) -> str:
    return f'<svg width="12" height="12" role="presentation">{disc(colour)}</svg>'
