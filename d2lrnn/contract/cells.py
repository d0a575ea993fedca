"""The cells: what a recurrent layer of each kind has and computes.

One entry here is all that the core knows of a cell. The names and shapes of its parameters and states, the
checks, the checkpoints and the choices of the command line follow from it. A backend adds the formula of one
step. Another package adds a cell by two kinds of entry points: its `Cell` in the group ``d2lrnn.cells``, and
for each backend the formula in ``d2lrnn.cells.<backend>``, both under the cell's name.

In the formulas X = x w_x + b, split by gates, σ is the logistic function and ∘ the element-wise product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from d2lrnn.errors import SpecError

#: Other packages announce a cell in this entry-point group, and its formula in ``d2lrnn.cells.<backend>``.
ENTRY_POINT_GROUP = "d2lrnn.cells"


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent layer.

    Attributes:
        name: what ``ModelSpec.cell`` and ``--cell`` call it.
        title: what a person calls it.
        gates: the parts of w_x, w_h and b, side by side in this order, each of h columns.
        formula: one step, as text.
        source: where the formula comes from.
        states: what goes from step to step, the output h first.
        vectors: further parameters of shape (h,).
        reset_bias: the name of the bias (h,) inside the reset, for a cell whose reset gate can be applied
            after the matrix product (``reset_after``); None for every other cell.
        has_layer: whether the frameworks have a layer of it, so that there is a concise model.
    """

    name: str
    title: str
    gates: tuple[str, ...]
    formula: str
    source: str
    states: tuple[str, ...] = ("h",)
    vectors: tuple[str, ...] = ()
    reset_bias: str | None = None
    has_layer: bool = False

    def shapes(
        self, num_inputs: int, num_hiddens: int, *, reset_after: bool | None = None
    ) -> dict[str, tuple[int, ...]]:
        """The names of a layer's parameters and their shapes, in canonical order.

        Example:
            >>> GRU.shapes(28, 32, reset_after=True)
            {'w_x': (28, 96), 'w_h': (32, 96), 'b': (96,), 'b_hn': (32,)}
        """
        h, width = num_hiddens, len(self.gates) * num_hiddens
        shapes: dict[str, tuple[int, ...]] = {"w_x": (num_inputs, width), "w_h": (h, width), "b": (width,)}
        if self.reset_bias and reset_after:
            shapes[self.reset_bias] = (h,)
        return shapes | dict.fromkeys(self.vectors, (h,))


RNN = Cell(
    "rnn", "tanh RNN", ("h",),
    "h' = tanh(X + h w_h)",
    "Elman 1990, Finding structure in time", has_layer=True,
)  # fmt: skip

RELU_RNN = Cell(
    "rnn-relu", "ReLU RNN", ("h",),
    "h' = max(0, X + h w_h)",
    "Le, Jaitly and Hinton 2015, A simple way to initialize recurrent networks of rectified linear units",
    has_layer=True,
)  # fmt: skip

GRU = Cell(
    "gru", "GRU", ("r", "z", "n"),
    "r, z = σ(X_rz + h w_h[rz]); n = tanh(X_n + (r ∘ h) w_h[n]), or with reset_after "
    "n = tanh(X_n + r ∘ (h w_h[n] + b_hn)); h' = z ∘ h + (1 - z) ∘ n",
    "Cho et al. 2014, Learning phrase representations using RNN encoder-decoder",
    reset_bias="b_hn",
    has_layer=True,
)  # fmt: skip

LSTM = Cell(
    "lstm", "LSTM", ("i", "f", "g", "o"),
    "i, f, o = σ(X_ifo + h w_h[ifo]); g = tanh(X_g + h w_h[g]); c' = f ∘ c + i ∘ g; h' = o ∘ tanh(c')",
    "Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000, Learning to forget",
    states=("h", "c"),
    has_layer=True,
)  # fmt: skip

#: flax has a layer of this name that is another function: it keeps f of the old state, not 1 - f.
MGU = Cell(
    "mgu", "minimal gated unit", ("f", "n"),
    "f = σ(X_f + h w_h[f]); n = tanh(X_n + (f ∘ h) w_h[n]); h' = (1 - f) ∘ h + f ∘ n",
    "Zhou, Wu, Zhang and Zhou 2016, Minimal gated unit for recurrent neural networks",
)  # fmt: skip

#: The library's own cells, by name.
CELLS = {cell.name: cell for cell in (RNN, RELU_RNN, GRU, LSTM, MGU)}


def find_cell(name: str) -> Cell:
    """The cell called `name`, the library's own or another package's.

    Raises:
        SpecError: there is none; the message lists those that there are.

    Example:
        >>> find_cell("lstm").states
        ('h', 'c')
    """
    if name in CELLS:
        return CELLS[name]
    if name in _announced(ENTRY_POINT_GROUP):
        cell: Cell = _announced(ENTRY_POINT_GROUP)[name].load()
        return cell
    raise SpecError(f"unknown cell {name!r}: choose one of {', '.join(cell_names())}")


def cell_names() -> list[str]:
    """The names of all cells, those of other packages last."""
    return list(dict.fromkeys([*CELLS, *_announced(ENTRY_POINT_GROUP)]))


def find_formula(backend: str, cell: str) -> Any:
    """What another package has as the formula of a cell for a backend: the kind of object is the backend's.

    Raises:
        SpecError: no package has one.
    """
    if cell not in cells_with_formula(backend):
        raise SpecError(f"the backend {backend} has no formula of the cell {cell}: choose another cell")
    return _announced(f"{ENTRY_POINT_GROUP}.{backend}")[cell].load()


def cells_with_formula(backend: str) -> list[str]:
    """The names of other packages' cells that have a formula for a backend."""
    return list(_announced(f"{ENTRY_POINT_GROUP}.{backend}"))


@cache
def _announced(group: str) -> dict[str, Any]:
    from importlib.metadata import entry_points  # slow to import

    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}
