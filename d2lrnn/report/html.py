"""The report of a run as one HTML page, which loads nothing and runs no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.data.vocabulary import UNKNOWN, Unit
from d2lrnn.pages.html import NARROW, WIDE, both, document, key, section
from d2lrnn.pages.svg import COLD, HOT, Curve, heat_map, line_plot
from d2lrnn.report.reading import Reading
from d2lrnn.report.units import CLEAR, Context, TellingUnit, most_varied
from d2lrnn.training.curves import finite_points, needs_log_axis
from d2lrnn.training.history import EpochRecord, best_epoch

#: How many tokens are painted by loss, and by the activation of each unit.
_PAINTED, _PAINTED_BY_UNIT = 900, 280
#: Of words there are fewer.
_PAINTED_BY_UNIT_WORDS = 60
#: Of the heat map: its most rows, the width of a column and that of a word, the letters below it.
_ROWS, _COLUMN, _WORD_COLUMN, _LETTERS = 40, 12, 16, 12
#: What is shown of the end of a line, and of a token that the vocabulary does not have.
_MARKS = {"\n": "↵", UNKNOWN: "□"}
#: As wide as a heat map is on a wide screen.
_HEAT_WIDE = 1300

_STYLE = f"""
:root {{ --hot: {" ".join(map(str, HOT))}; --cold: {" ".join(map(str, COLD))}; --most: 0.75 }}
@media (prefers-color-scheme: dark) {{ :root {{ --most: 0.65 }} }}
h3 {{ font-size: 16px; margin: 0 0 4px }}
.text {{ font: 15px/1.75 ui-monospace, monospace; white-space: pre-wrap; margin: 8px 0; padding: 8px 10px;
  border: 1px solid var(--rule); border-radius: 4px }}
.text i {{ font-style: normal; padding: 2px 0; background: rgb(var(--hot) / calc(var(--v) * var(--most))) }}
.text i.c {{ background: rgb(var(--cold) / calc(var(--v) * var(--most))) }}
.text i:hover {{ outline: 2px solid var(--ink) }}
.text i:hover::after {{ content: attr(data-t); position: fixed; left: 0; right: 0; bottom: 0; z-index: 1;
  padding: 8px 16px; background: var(--head); color: var(--ink); border-top: 2px solid var(--edge);
  font: 15px/1.4 system-ui, sans-serif; white-space: normal }}
.prompt {{ color: var(--soft) }}
.ramp {{ display: flex; align-items: center; flex-wrap: wrap; gap: 4px 10px; font-size: 14px; margin: 8px 0 }}
.ramp b {{ width: 160px; height: 14px; border: 1px solid var(--rule) }}
.bits b {{ background: linear-gradient(to right, transparent, rgb(var(--hot) / var(--most))) }}
.ends b {{ background: linear-gradient(to right, rgb(var(--cold) / var(--most)), transparent,
  rgb(var(--hot) / var(--most))) }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 24px;
  margin: 16px 0 }}
.cards > div {{ min-width: 0 }}
.contexts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 4px 16px;
  font-size: 14px }}
.contexts ul {{ list-style: none; padding: 0; margin: 0 }}
.contexts li {{ font: 13px/1.6 ui-monospace, monospace; white-space: pre-wrap }}
.contexts .text {{ border: 0; padding: 0; margin: 0; font-size: 13px; display: inline }}
.contexts small {{ color: var(--soft); font-size: 12px }}
.scroll svg {{ max-width: none }}
.specification {{ columns: 280px; column-gap: 32px; font-size: 14px; margin: 8px 0 }}
.specification div {{ display: flex; gap: 12px; break-inside: avoid; border-bottom: 1px solid var(--rule);
  padding: 3px 0 }}
.specification dt {{ color: var(--soft); flex: 0 0 130px }}
.specification dd {{ margin: 0 }}
.note {{ background: var(--warn); border-left: 4px solid var(--edge); padding: 6px 12px }}
"""


def name_of(unit: Unit) -> str:
    """What a token is called."""
    return {"char": "character", "word": "word", "byte": "byte"}.get(unit, "token")


class Sample(NamedTuple):
    """A text that the model wrote.

    Attributes:
        title: what it is of.
        prompt: what was given to it.
        text: all of it, with the prompt.
    """

    title: str
    prompt: str
    text: str


@dataclass(frozen=True, eq=False)
class Report:
    """All that the page shows.

    Attributes:
        name: of the run.
        summary: lines on what was trained, and what it came to.
        unit: what a token is.
        epochs: the whole epochs.
        kept: which checkpoints there are, as a sentence.
        by_epoch: samples of them.
        by_temperature: samples of one model.
        passage: where the text is from that the model reads, as sentences.
        is_own_text: whether it is of the validation part of the run's text.
        symbols: the tokens of the vocabulary as text, V of them.
        texts: the tokens that it read as text, B rows of T.
        reading: what came of it.
        units: the most telling units.
        specification: what describes the run, by option.
        commands: what repeats it, a line each.
        exceptions: what the commands do not repeat.
    """

    name: str
    summary: Sequence[str]
    unit: Unit
    epochs: Sequence[EpochRecord]
    kept: str
    by_epoch: Sequence[Sample]
    by_temperature: Sequence[Sample]
    passage: str
    is_own_text: bool
    symbols: Sequence[str] = field(repr=False)
    texts: Sequence[Sequence[str]] = field(repr=False)
    reading: Reading = field(repr=False)
    units: Sequence[TellingUnit] = field(repr=False)
    specification: dict[str, str]
    commands: Sequence[str]
    exceptions: Sequence[str]


def page(report: Report) -> str:
    """The whole page."""
    parts = [
        "".join(f"<p>{escape(line)}</p>" for line in report.summary),
        _curves(report.epochs),
        section(
            "Samples by epoch",
            f"<p>{escape(report.kept)}</p>",
            _samples(report.by_epoch),
        ),
        section("Samples by temperature", _samples(report.by_temperature)),
        _losses(report),
        _units(report),
        _heat(report),
        section(
            "Specification",
            f'<dl class="specification">{"".join(map(_entry, report.specification.items()))}</dl>',
        ),
        section(
            "The command that repeats this run",
            f'<pre id="command">{escape(chr(10).join(report.commands))}</pre>',
            "".join(f"<p>{escape(line)}</p>" for line in report.exceptions),
        ),
    ]
    return document(f"The run {report.name}", parts, _STYLE)


def _entry(entry: tuple[str, str]) -> str:
    name, value = map(escape, entry)
    return f"<div><dt>{name}</dt><dd>{value}</dd></div>"


def _curves(epochs: Sequence[EpochRecord]) -> str:
    title = "Perplexity by epoch"
    if not epochs:
        return section(title, "<p>No epoch has ended yet.</p>")
    found = finite_points(epochs).items()
    curves = [Curve(name, points, number) for number, (name, points) in enumerate(found) if points]
    if not curves:
        return section(title, "<p>No perplexity is finite.</p>")
    named = [(curve.label, curve.colour) for curve in curves]
    best = best_epoch(epochs)
    if best is not None and math.isfinite(best.val_perplexity):
        mark = f"best: {best.val_perplexity:.2f} in epoch {best.epoch}"
        # A dot of the colour of its curve.
        curves.append(Curve(mark, [(float(best.epoch), best.val_perplexity)], 0))
        named.append((mark, 0))
    figures = [_figure("perplexity", curves, logarithmic=needs_log_axis(epochs))]
    rates = [(float(r.epoch), r.learning_rate) for r in epochs if r.learning_rate is not None]
    if len({rate for _, rate in rates}) > 1:
        figures.append(_figure("learning rate", [Curve("learning rate", rates, 2)]))
    return section(title, key(named), f'<div class="figures">{"".join(figures)}</div>')


def _figure(what: str, curves: Sequence[Curve], *, logarithmic: bool = False) -> str:
    title = f"{what}, at the end of each epoch" if what == "learning rate" else what
    shown = [
        line_plot(
            title, "epoch", "", curves, counted=True, logarithmic=logarithmic, width=width, height=height
        )
        for width, height in ((WIDE, 320), (NARROW, 250))
    ]
    return both(*shown)


def _samples(samples: Sequence[Sample]) -> str:
    parts = []
    for sample in samples:
        rest = sample.text[len(sample.prompt) :]
        parts.append(
            f'<div><h3>{escape(sample.title)}</h3><div class="text"><span class="prompt">'
            f"{_shown_text(sample.prompt)}</span>{_shown_text(rest)}</div></div>"
        )
    return f'<div class="cards">{"".join(parts)}</div>'


def _losses(report: Report) -> str:
    """A passage, painted by what each token cost."""
    what, reading = name_of(report.unit), report.reading
    top = math.log2(len(report.symbols))
    number = min(_PAINTED, len(report.texts[0]))
    parts = []
    for t, token in enumerate(report.texts[0][:number]):
        if t == 0:
            parts.append((0.0, token, f"{_named(token)}: the first {what}, which nothing comes before"))
            continue
        bits = float(reading.bits[0, t])
        guesses = ", ".join(
            f"{_named(report.symbols[guess.token])} {guess.probability:.0%}" for guess in reading.guesses[t]
        )
        parts.append((bits / top, token, f"{_named(token)}: {bits:.2f} bits. Likeliest: {guesses}"))
    mean = reading.bits[0, 1:number].mean() if number > 1 else math.nan
    legend = (
        f'<div class="ramp bits"><span>0 bits: certain</span><b></b><span>{top:.1f} bits or more: no better '
        f"than a guess among {len(report.symbols):,}</span></div>"
    )
    told = (
        f"The model reads the text from left to right, one {what} after another. The colour of each is its "
        f"loss: log2 of one over the probability that the model gave it beforehand; here {mean:.2f} bits on "
        f"average. Point at a {what} for its loss and the model's guesses."
    )
    note = "" if report.is_own_text else ' class="note"'
    return section(
        f"Loss, {what} by {what}",
        f"<p{note}>{escape(report.passage)}</p><p>{escape(told)}</p>{legend}",
        f'<div class="text" id="losses">{_painted(parts, report.unit)}</div>',
    )


def _units(report: Report) -> str:
    """What the most telling units go along with."""
    title = "What hidden units respond to"
    if not report.units:
        return section(title, "<p>The text is too short to say.</p>")
    what = name_of(report.unit)
    told = (
        f"Units whose activation goes along most with something in the text: r is the correlation over the "
        f"{report.reading.tokens.size:,} {what}s that the model read, the largest of all units, so that some "
        "of it is chance. The colour is the activation after each "
        f"{what}; layers and units are counted from 0."
    )
    legend = (
        '<div class="ramp ends"><span>below 0</span><b></b><span>above 0: as strong as the largest '
        "activation of the unit</span></div>"
    )
    cards = "".join(_card(unit, report) for unit in report.units)
    return section(title, f"<p>{escape(told)}</p>{legend}", f'<div class="cards" id="units">{cards}</div>')


def _card(unit: TellingUnit, report: Report) -> str:
    means = ""
    if unit.means is not None:
        means = f" Its mean is {unit.means[0]:+.2f} there, {unit.means[1]:+.2f} elsewhere."
    weak = "" if abs(unit.correlation) >= CLEAR else ", hardly at all"
    number = _PAINTED_BY_UNIT_WORDS if report.unit == "word" else _PAINTED_BY_UNIT
    pairs = zip(report.texts[0][:number], unit.activations[:number].tolist(), strict=False)
    parts = [(value / unit.scale, token, f"{_named(token)}: {value:+.3f}") for token, value in pairs]
    return (
        f"<div><h3>Layer {unit.layer}, unit {unit.number}: {escape(unit.feature)}</h3>"
        f"<p>r = {unit.correlation:+.2f}{weak}.{means}</p>"
        f'<div class="text">{_painted(parts, report.unit)}</div>'
        f'<div class="contexts">{_contexts("Highest after", unit.highest, unit, report.unit)}'
        f"{_contexts('Lowest after', unit.lowest, unit, report.unit)}</div></div>"
    )


def _contexts(title: str, contexts: Sequence[Context], unit: TellingUnit, kind: Unit) -> str:
    between = " " if kind == "word" else ""
    items = []
    for context in contexts:
        before = between.join(_in_line(token) for token in context.before)
        if kind == "char":
            before = before.rjust(max(len(each.before) for each in contexts))
        painted = _painted([(context.value / unit.scale, _in_line(context.token), "")], kind)
        items.append(
            f'<li>{escape(before + between)}<span class="text">{painted}</span> '
            f"<small>{context.value:+.2f}</small></li>"
        )
    return f"<div>{title}<ul>{''.join(items)}</ul></div>"


def _heat(report: Report) -> str:
    """The state of the last layer over the beginning of the text."""
    left, column = 60, _COLUMN if report.unit == "char" else _WORD_COLUMN
    longest = len(report.texts[0])
    figures = []
    units = most_varied(report.reading, _ROWS, longest)
    for width in (_HEAT_WIDE, NARROW):
        number = min(longest, (width - left) // column)
        values: FloatArray = report.reading.hiddens[0, :number, -1][:, units].T
        largest = float(np.abs(values).max()) or 1.0
        names = [_short(token) for token in report.texts[0][:number]]
        figures.append(
            heat_map(f"after each {name_of(report.unit)}", list(map(str, units)), names, values / largest,
                     column_width=column)
        )  # fmt: skip
    h = report.reading.hiddens.shape[-1]
    of = f"the {len(units)} that vary most of its {h:,} units" if len(units) < h else f"all its {h:,} units"
    told = (
        f"The outputs h of the last layer after each {name_of(report.unit)} of the beginning of the same "
        f"text: {of}, by their numbers, those that go up and down together side by side."
    )
    legend = f'<div class="ramp ends"><span>-{largest:.2f}</span><b></b><span>+{largest:.2f}</span></div>'
    shown = both(f'<div class="scroll" tabindex="0">{figures[0]}</div>', figures[1])
    return section("The hidden state over a line of text", f"<p>{escape(told)}</p>{legend}", shown)


def _painted(parts: Sequence[tuple[float, str, str]], unit: Unit) -> str:
    """Tokens with a colour each: shares in [-1, 1] of the strongest, texts, and what is told of them."""
    found = []
    for share, token, told in parts:
        kind = ' class="c"' if share < 0 else ""
        value = f"{min(abs(share), 1):.2f}".lstrip("0").rstrip("0.") or "0"
        hint = f' data-t="{escape(told)}"' if told else ""
        shown = _shown_text(_MARKS[UNKNOWN] if token == UNKNOWN else token)
        found.append(f'<i{kind} style="--v:{value}"{hint}>{shown}</i>')
    return (" " if unit == "word" else "").join(found)


def _shown_text(text: str) -> str:
    """A text as HTML: line ends with a mark, and what would steer the page or be nothing as escapes."""
    return "".join(
        f"{_MARKS[character]}\n"
        if character == "\n"
        else escape(character)
        if _is_shown(character)
        else _escaped(character)
        for character in text
    )


def _named(token: str) -> str:
    """A token in a sentence."""
    names = {" ": "space", "\n": "end of a line", "\t": "tab", UNKNOWN: "unknown"}
    return names.get(token) or f"“{''.join(_in_line(character) for character in token)}”"


def _in_line(token: str) -> str:
    if token in _MARKS:
        return _MARKS[token]
    return "".join(character if _is_shown(character) else _escaped(character) for character in token)


def _short(token: str) -> str:
    """A token below a column."""
    shown = "␣" if token == " " else _in_line(token)
    return shown if len(shown) <= _LETTERS else shown[: _LETTERS - 1] + "…"


def _is_shown(character: str) -> bool:
    return character.isprintable()


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
