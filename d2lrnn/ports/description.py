"""What a stack of recurrent layers computes, as frozen values, and its canonical parameters and states.

Row vectors multiply from the left. A layer with G gates, n inputs, h hidden units and outputs of size p (a
projection, or p = h) has, for each direction in which it reads,

==========  =========  ===============================================================================
``w_x``     (n, G·h)   gates side by side, in the order of `d2lrnn.contract.cells`
``w_h``     (p, G·h)
``b``       (G·h,)     unless biases are ``"none"``
``b_hn``    (h,)       with one bias, of a cell that resets after its product: the bias inside the reset
``b_h``     (G·h,)     with two biases: the one at the product with the state
``w_p``     (h, p)     with a projection: h' = (o ∘ tanh(c')) w_p
==========  =========  ===============================================================================

under the names ``rnn.{l}.w_x`` for the direction forward and ``rnn.{l}.backward.w_x`` for the other. These
are the names and the layout of `d2lrnn.contract.parameters`, so those of the library's own models fit. A
state has ``rnn.{l}.h`` (B, p), for an LSTM also ``rnn.{l}.c`` (B, h), and the same for ``backward``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from d2lrnn.checks import check_choice, whole_number
from d2lrnn.contract import cells
from d2lrnn.contract.cells import Cell
from d2lrnn.contract.values import DType
from d2lrnn.errors import SpecError

Activation = Literal["tanh", "relu", "sigmoid", "linear"]
Biases = Literal["none", "input", "one", "two"]
Reset = Literal["after", "before", "none"]
Direction = Literal["forward", "backward"]
Merge = Literal["concat", "sum", "mul", "ave"]
Padding = Literal["zeros", "repeat", "computed"]
Form = Literal["layer", "cell"]

#: The minimal gated unit as a layer has it. Its gate keeps the state, where that of the paper and of
#: `d2lrnn.contract.cells.MGU` replaces it. As the same gate also resets, no weights make one the other.
FORGET_MGU = Cell(
    "mgu-forget", "minimal gated unit whose gate keeps the state", ("f", "n"),
    "f = σ(X_f + h w_h[f]); n = tanh(X_n + f ∘ (h w_h[n] + b_hn)), without a reset n = tanh(X_n + h w_h[n]); "
    "h' = f ∘ h + (1 - f) ∘ n",
    "Zhou, Wu, Zhang and Zhou 2016, Minimal gated unit for recurrent neural networks, with f and 1 - f "
    "exchanged in the last line",
    reset_bias="b_hn",
    has_layer=True,
)  # fmt: skip

#: What can be described. An RNN's activation is a field of its own, so that the ReLU one is no other cell.
CELLS = {cell.name: cell for cell in (cells.RNN, cells.GRU, cells.LSTM, FORGET_MGU)}

#: More layers than anyone stacks: a description is short.
MOST_LAYERS = 64


def prefix_of(layer: int, direction: Direction) -> str:
    """What the names of a layer's parameters and states begin with, in one direction.

    Example:
        >>> prefix_of(1, "backward")
        'rnn.1.backward.'
    """
    return f"rnn.{layer}." + ("backward." if direction == "backward" else "")


@dataclass(frozen=True)
class LayerSpec:
    """What one recurrent layer computes.

    Attributes:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``, whose formulas are in `d2lrnn.contract.cells`, or
            ``"mgu-forget"``, `FORGET_MGU`.
        input_size: n, the length of an input vector.
        hidden_size: h.
        projection_size: p, of an LSTM whose output is projected (Sak, Senior and Beaufays 2014); or None.
        biases: how many bias vectors a gate has. ``"input"`` is of a cell that resets after its product and
            has no bias inside the reset: one a gate, added to the product with the input.
        activation: of the candidate and, in an LSTM, of the cell's state; the ``tanh`` of the formulas.
        gate_activation: of the gates, the ``σ`` of the formulas. An RNN has none: None.
        reset_after: for a GRU or an MGU, whether the reset gate is applied after the matrix product. None of
            an MGU is one without a reset; of other cells it is None.
        directions: in which it reads the sequence; with two, each has parameters and states of its own.
        merge: how the outputs of two directions become one.
        flipped: whether the outputs stand in the order of reading, which a layer that reads backward alone
            may do: its first output is then that of the last step.

    Raises:
        SpecError: a value is unknown, or two of them contradict each other.

    Example:
        >>> LayerSpec("gru", 8, 16, reset_after=True, directions=("forward", "backward")).output_size
        32
    """

    cell: str
    input_size: int
    hidden_size: int
    projection_size: int | None = None
    biases: Biases = "one"
    activation: Activation = "tanh"
    gate_activation: Activation | None = None
    reset_after: bool | None = None
    directions: tuple[Direction, ...] = ("forward",)
    merge: Merge = "concat"
    flipped: bool = False

    def __post_init__(self) -> None:
        check_choice("cell", self.cell, CELLS)
        for name in ("input_size", "hidden_size"):
            whole_number(name, getattr(self, name))
        for name, choices in (("biases", Biases), ("activation", Activation), ("merge", Merge)):
            check_choice(name, getattr(self, name), get_args(choices))
        if self.projection_size is not None:
            whole_number("projection_size", self.projection_size)
            if self.cell != cells.LSTM.name:
                raise SpecError("projection_size is an LSTM's: leave it None")
        if self.is_gated and self.gate_activation is None:
            object.__setattr__(self, "gate_activation", "sigmoid")
        if self.gate_activation is not None:
            check_choice("gate_activation", self.gate_activation, get_args(Activation))
        if (self.gate_activation is not None) != self.is_gated:
            raise SpecError("gate_activation is of a cell with gates: leave it None for an RNN")
        if self.cell != FORGET_MGU.name and (self.reset_after is not None) != (self.cell == cells.GRU.name):
            raise SpecError("reset_after is a GRU's, which must have one: True or False")
        if self.biases == "input" and not self.reset_after:
            raise SpecError("biases 'input' are of a cell that resets after its product: take 'one'")
        if self.directions not in (("forward",), ("backward",), ("forward", "backward")):
            raise SpecError(f"directions are {self.directions}: forward, backward, or both in this order")
        if self.flipped and self.directions != ("backward",):
            raise SpecError("flipped is for a layer that reads backward alone")

    @property
    def kind(self) -> Cell:
        """The cell's entry in `d2lrnn.contract.cells`."""
        return CELLS[self.cell]

    @property
    def is_gated(self) -> bool:
        """Whether the cell has gates."""
        return len(CELLS[self.cell].gates) > 1

    @property
    def reset(self) -> Reset:
        """Where its reset gate stands, as `d2lrnn.ports.conventions.Convention.reset` has it."""
        if self.reset_after is None:
            return "none"
        return "after" if self.reset_after else "before"

    @property
    def state_size(self) -> int:
        """The length p of the state h, which is the output of one direction."""
        return self.projection_size or self.hidden_size

    @property
    def output_size(self) -> int:
        """The length of the layer's output vectors."""
        return self.state_size * (len(self.directions) if self.merge == "concat" else 1)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the parameters of one direction; see the module's text."""
        h, p = self.hidden_size, self.state_size
        width = len(self.kind.gates) * h
        shapes: dict[str, tuple[int, ...]] = {"w_x": (self.input_size, width), "w_h": (p, width)}
        if self.biases != "none":
            shapes["b"] = (width,)
        if self.biases == "one" and self.reset_after:
            shapes["b_hn"] = (h,)
        if self.biases == "two":
            shapes["b_h"] = (width,)
        if self.projection_size is not None:
            shapes["w_p"] = (h, p)
        return shapes


@dataclass(frozen=True)
class StackSpec:
    """What a stack of recurrent layers, each fed the outputs of the one before, computes.

    Attributes:
        layers: the first one first.
        form: ``"layer"`` takes sequences, ``"cell"`` one step (B, n) of one layer.
        batch_first: whether sequences are (B, T, n) to its caller, not (T, B, n). A cell's is False.
        padding: what the outputs are where a sequence was padded: zeros, the one before repeated, or computed
            from what stands there. For that a direction backward reads the padding after the sequence, also
            from its end.
        dtype: ``"float32"`` or ``"float64"``.

    Raises:
        SpecError: a value is unknown, or a layer does not take what the one before gives.

    Example:
        >>> StackSpec((LayerSpec("rnn", 8, 16), LayerSpec("rnn", 16, 4))).output_size
        4
    """

    layers: tuple[LayerSpec, ...]
    form: Form = "layer"
    batch_first: bool = False
    padding: Padding = "zeros"
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        for name, choices in (("form", Form), ("padding", Padding), ("dtype", DType)):
            check_choice(name, getattr(self, name), get_args(choices))
        if not 1 <= len(self.layers) <= MOST_LAYERS:
            raise SpecError(f"a stack has 1 to {MOST_LAYERS} layers, not {len(self.layers)}")
        for l, (below, layer) in enumerate(zip(self.layers, self.layers[1:], strict=False), start=1):
            if layer.input_size != below.output_size:
                raise SpecError(
                    f"layer {l} takes vectors of {layer.input_size}, and layer {l - 1} gives such of "
                    f"{below.output_size}"
                )
        if self.form == "cell" and (
            self.batch_first or len(self.layers) > 1 or self.layers[0].directions != ("forward",)
        ):
            raise SpecError("a cell takes one step of one layer: it has no direction and no axis of time")

    @property
    def output_size(self) -> int:
        """The length of the output vectors."""
        return self.layers[-1].output_size

    def parts(self) -> Iterator[tuple[str, LayerSpec, Direction]]:
        """The prefix of the names, the layer and the direction of everything that has parameters."""
        for l, layer in enumerate(self.layers):
            for direction in layer.directions:
                yield prefix_of(l, direction), layer, direction

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The canonical names of all parameters and their shapes.

        Example:
            >>> StackSpec((LayerSpec("lstm", 8, 16, biases="none"),)).parameter_shapes()
            {'rnn.0.w_x': (8, 64), 'rnn.0.w_h': (16, 64)}
        """
        return {
            prefix + name: shape
            for prefix, layer, _ in self.parts()
            for name, shape in layer.shapes().items()
        }

    def state_shapes(self, batch_size: int) -> dict[str, tuple[int, ...]]:
        """The names of the states and their shapes.

        Example:
            >>> StackSpec((LayerSpec("lstm", 8, 16, projection_size=4),)).state_shapes(2)
            {'rnn.0.h': (2, 4), 'rnn.0.c': (2, 16)}
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for prefix, layer, _ in self.parts():
            for name in layer.kind.states:
                size = layer.state_size if name == "h" else layer.hidden_size
                shapes[prefix + name] = (batch_size, size)
        return shapes

    def to_json(self) -> dict[str, Any]:
        """The description as plain data."""
        return asdict(self)
