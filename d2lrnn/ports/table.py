"""The table of conventions as a page of Markdown, from the data that the converters use.

python -m d2lrnn.ports.table > docs/conventions.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from d2lrnn.ports.conventions import Convention, conventions, porting_backends

_INTRODUCTION = """# What recurrent layers do, by framework

The gates have the names of `d2lrnn.contract.cells`: r (reset), z (update), n (candidate) of a GRU; i, f, g
(candidate), o of an LSTM. Of several values the first is the default. w_x and w_h multiply inputs and state,
b is the bias (the first of two), b_h the second; h is the number of hidden units. The page is made by
`python -m d2lrnn.ports.table` from the files `conventions.toml` of the backends, by which `d2lrnn.port`
converts; tests ask the frameworks about every field but what they cannot answer without a GPU.
"""

_ARRAYS = "names of the arrays"


def markdown() -> str:
    """The page."""
    return _INTRODUCTION + "".join(
        _section(title, rows) for name in porting_backends() for title, rows in _sections(name)
    )


def _sections(name: str) -> Iterator[tuple[str, list[Convention]]]:
    """The layers of a backend, each kind by itself where there are several."""
    table = conventions(name)
    kinds = dict.fromkeys(row.namespace for row in table)
    for kind in kinds:
        title = name if len(kinds) == 1 else f"{name}: {kind}"
        yield title, [row for row in table if row.namespace == kind]


def _section(title: str, table: Sequence[Convention]) -> str:
    lines = [f"\n## {title}\n", f"| | {' | '.join(f'[{row.layer}]({row.source})' for row in table)} |"]
    lines.append("|---" * (len(table) + 1) + "|")
    cells = [dict(_cells(row)) for row in table]
    rows = {what: [each[what] for each in cells] for what in cells[0]}
    if not any(row.arrays for row in table):
        del rows[_ARRAYS]
    lines += [f"| {what} | {' | '.join(values)} |" for what, values in rows.items()]
    return "\n".join(lines) + "\n"


def _cells(row: Convention) -> list[tuple[str, str]]:
    axes = [f"({axis}, {'batch' if axis == 'time' else 'time'}, …)" for axis in row.axes]
    asked = ", if asked in that of time" if row.keeps_order else ""
    order = f" (backward: outputs in the order of reading{asked})" if row.flipped else ""
    return [
        ("order of the gates", ", ".join(row.gates)),
        (_ARRAYS, "<br>".join(row.arrays) or "–"),
        ("biases a gate", _listed(row.biases)),
        ("reset", "–" if row.reset == "none" else f"{row.reset} the product"),
        ("weights", f"({row.weights})"),
        ("order of the state", ", ".join(row.state)),
        ("inputs", _listed(axes) if axes else "(batch, …)"),
        ("reads", _listed([*row.directions, *(["both"] if row.both else [])]) + order),
        ("two directions become", _listed(row.merges)),
        ("layers in one", {"uniform": "any number, alike", "single": "one", "none": "one"}[row.stack]),
        ("projection", "yes" if row.projection else "no"),
        (
            "activation",
            _listed(row.activations) + "".join(f"; {each} in float32 alone" for each in row.float32_only),
        ),
        ("activation of the gates", _listed(row.gate_activations)),
        ("outputs at padding", _listed(row.padding)),
        ("initial values", "<br>".join(row.initial) or "–"),
        ("dropout", row.dropout),
        ("a GPU's kernel needs", "<br>".join(row.kernel) or "nothing known"),
    ]


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values) or "–"


if __name__ == "__main__":
    print(markdown(), end="")
