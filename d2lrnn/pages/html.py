"""What every page has: one style for light and dark screens, figures in two widths, keys.

A page loads nothing and runs no script: it can be sent as one file, and opened without a network.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from d2lrnn.pages.svg import STYLE as SVG_STYLE
from d2lrnn.pages.svg import disc

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #222222; --soft: #5a5f68; --rule: #d9dce1;
  --head: #f1f2f4; --link: #0b5cad; --warn: #fde0d0; --edge: #d55e00 }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181d; --ink: #e2e4e8; --soft: #a8adb6; --rule: #3c4048; --head: #22252c;
    --link: #7db8f0; --warn: #4a2413; --edge: #ff8a3d }
}
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 1340px; margin: 0 auto; padding: 20px 16px 60px; overflow-wrap: anywhere }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 12px }
h2 { font-size: 19px; line-height: 1.3; margin: 36px 0 8px }
p, ul { margin: 8px 0; max-width: 80ch }
ul { padding-left: 20px }
.scroll { overflow-x: auto; margin: 12px 0; max-width: 100% }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
td, th { border: 1px solid var(--rule); padding: 4px 9px; text-align: right; white-space: nowrap }
th { background: var(--head) }
td.words, th.words { text-align: left }
svg { display: block; max-width: 100%; height: auto }
.figures { display: flex; flex-wrap: wrap; gap: 20px; align-items: flex-start; margin: 12px 0 }
.narrow { display: none }
@media (max-width: 699px) { .narrow { display: block } .wide { display: none } h1 { font-size: 22px } }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; list-style: none; padding: 0; max-width: none }
.key svg { display: inline-block; vertical-align: -2px; margin-right: 5px }
summary { cursor: pointer; color: var(--link); padding: 4px 0 }
pre { font-size: 12px; white-space: pre-wrap; max-height: 60vh; overflow: auto; border: 1px solid var(--rule);
  padding: 8px }
"""

#: How wide figures of many lines are: on a wide screen two of them stand side by side, and a narrow one has
#: its own, for there a wide one's text would be too small.
WIDE, NARROW = 640, 360


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """The whole page.

    Args:
        title: its title and first heading, as text.
        parts: what follows, as HTML; an empty part takes no line.
        style: further rules of CSS.

    Example:
        >>> document("A & B", ["<p>so it goes</p>"]).splitlines()[-3:]
        ['<h1>A &amp; B</h1>', '<p>so it goes</p>', '</body></html>']
    """
    return "\n".join([
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}{style}{SVG_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *filter(None, parts),
        "</body></html>",
        "",
    ])  # fmt: skip


def section(title: str, *parts: str) -> str:
    """A heading, and what is below it, as HTML."""
    return "\n".join([f"<h2>{escape(title)}</h2>", *filter(None, parts)])


def folded(summary: str, content: str) -> str:
    """What is shown when one opens it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def both(wide: str, narrow: str) -> str:
    """A figure in two widths, of which the screen decides."""
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def key(entries: Iterable[tuple[str, int]]) -> str:
    """Which colour is whose: names, and which of `d2lrnn.pages.svg.COLOURS`."""
    items = "".join(
        f'<li><svg width="14" height="12" role="presentation">{disc(colour)}</svg>{escape(name)}</li>'
        for name, colour in entries
    )
    return f'<ul class="key">{items}</ul>'
