"""The table of conventions as a page of Markdown, from the data that the converters use.

python -m d2lrnn.ports.table > docs/conventions.md
"""

from __future__ import annotations

from collections.abc import Sequence

from d2lrnn.ports.conventions import Convention, conventions, porting_backends

_INTRODUCTION = """# What recurrent layers do, by framework

The gates have the names of `d2lrnn.contract.cells`: r (reset), z (update), n (candidate) of a GRU; i, f, g
(candidate), o of an LSTM. Of several values the first is the default. w_x and w_h multiply inputs and state,
b is the bias (the first of two), b_h the second; h is the number of hidden units. The page is made by
`python -m d2lrnn.ports.table` from the files `conventions.toml` of the backends, by which `d2lrnn.port`
converts; tests ask the frameworks about every field but what they cannot answer without a GPU.
"""


def markdown() -> str:
    """The page."""
    return _INTRODUCTION + "".join(_section(name, conventions(name)) for name in porting_backends())


def _section(name: str, table: Sequence[Convention]) -> str:
    lines = [f"\n## {name}\n", f"| | {' | '.join(f'[{row.layer}]({row.source})' for row in table)} |"]
    lines.append("|---" * (len(table) + 1) + "|")
    cells = [dict(_cells(row)) for row in table]
    lines += [f"| {what} | {' | '.join(each[what] for each in cells)} |" for what in cells[0]]
    return "\n".join(lines) + "\n"


def _cells(row: Convention) -> list[tuple[str, str]]:
    axes = [f"({axis}, {'batch' if axis == 'time' else 'time'}, …)" for axis in row.axes]
    order = " (backward: outputs in the order of reading)" if row.flipped else ""
    return [
        ("order of the gates", ", ".join(row.gates)),
        ("biases a gate", _listed(row.biases)),
        ("reset", "–" if row.reset == "none" else f"{row.reset} the product"),
        ("weights", f"({row.weights})"),
        ("order of the state", ", ".join(row.state)),
        ("inputs", _listed(axes) if axes else "(batch, …)"),
        ("reads", _listed([*row.directions, *(["both"] if row.both else [])]) + order),
        ("two directions become", _listed(row.merges)),
        ("layers in one", {"uniform": "any number, alike", "single": "one", "none": "one"}[row.stack]),
        ("projection", "yes" if row.projection else "no"),
        ("activation", _listed(row.activations)),
        ("activation of the gates", _listed(row.gate_activations)),
        ("outputs at padding", _listed(row.padding)),
        ("initial values", "<br>".join(row.initial)),
        ("dropout", row.dropout),
        ("a GPU's kernel needs", "<br>".join(row.kernel) or "nothing known"),
    ]


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values) or "–"


if __name__ == "__main__":
    print(markdown(), end="")
