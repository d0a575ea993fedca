"""Counts lines of Python by room of the core and by package, before and after, as a Markdown table.

    python docs/lines.py BEFORE           # a checkout of the commit to compare with; prints the table
    python docs/lines.py BEFORE --write   # puts it into docs/architecture.md

All lines count, those of docstrings and blank ones too. A module of the core that had no room counts for the
one that it went into.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- lines: begin -->\n", "<!-- lines: end -->"

ROOMS = sorted(path.parent.name for path in (ROOT / "d2lrnn").glob("*/__init__.py"))
PACKAGES = ("numpy", "torch", "tensorflow", "jax", "mxnet", "onnx")
#: What is what everybody may use: no room.
COMMON = "errors, registry, …"

#: Where the modules of the core went that stood side by side in version 0.3.
WENT_INTO = {
    "contract": "adapter clipping devices dropout parameters",
    "data": "data data_spec novel text vocab",
    "generation": "generation",
    "training": "epoch losses trainer",
    "saving": "checkpoint decoding exchange json_reader run tensors",
    "book": "book classic plotting",
    "chapters": "chapter_report chapter_runner chapters epoch_cap notebook surroundings",
    "cli": "cli command_bench command_chapter command_output command_train commands progress",
}
ROOM_OF = {module: room for room, modules in WENT_INTO.items() for module in modules.split()}


def lines(checkout: Path) -> Counter[str]:
    """The number of lines by row of the table."""
    counted: Counter[str] = Counter()
    for top in ("d2lrnn", "backends", "tests", "benchmarks", "examples"):
        for path in sorted((checkout / top).rglob("*.py")):
            parts = path.relative_to(checkout).with_suffix("").parts
            counted[_row(parts)] += len(path.read_text(encoding="utf-8").splitlines())
    return counted


def _row(parts: tuple[str, ...]) -> str:
    top, second = parts[0], parts[1]
    if top != "d2lrnn":
        return second if top == "backends" else f"{top}/"
    if len(parts) > 2:
        return f"d2lrnn/{second}"
    return f"d2lrnn/{ROOM_OF[second]}" if second in ROOM_OF else COMMON


def table(before: Counter[str], after: Counter[str]) -> str:
    """The table, with sums of the core and of the backends."""
    core = [*(f"d2lrnn/{room}" for room in ROOMS), COMMON]
    backends = [f"d2lrnn_{name}" for name in PACKAGES]
    others = ["tests/", "benchmarks/", "examples/"]
    rows = ["| | before | after | |", "|---|---:|---:|---:|"]
    for title, names in (("**the core**", core), ("**the backends**", backends), ("", others)):
        rows += [_line(f"`{name}`" if name != COMMON else name, before[name], after[name]) for name in names]
        if title:
            rows.append(_line(title, sum(before[name] for name in names), sum(after[name] for name in names)))
    return "\n".join(rows) + "\n"


def _line(name: str, before: int, after: int) -> str:
    return f"| {name} | {before or '–'} | {after or '–'} | {after - before:+} |"


def main(argv: list[str]) -> None:
    """Prints the table, or writes it into the page."""
    printed = table(lines(Path(argv[0])), lines(ROOT))
    if "--write" not in argv:
        print(printed, end="")
        return
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    page = re.sub(pattern, lambda _: BEGIN + printed + END, page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
