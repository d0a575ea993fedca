"""The recurrent layers in the configuration of a Keras model, as plain data: nothing of it is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from d2lrnn.contract.values import DType
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import Activation, Direction, LayerSpec, Merge

#: Layers of no weights that change nothing when nothing is trained.
_IDENTITY = (
    "InputLayer",
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "Masking",
    "Identity",
)
_MODELS = ("Sequential", "Functional", "Model")
_MOST_DEPTH, _MOST_LAYERS = 8, 10_000
_ACTIVATIONS: tuple[Activation, ...] = ("tanh", "relu", "sigmoid", "linear")
_MERGES: tuple[Merge, ...] = ("concat", "sum", "mul", "ave")


class SavedCell(NamedTuple):
    """A cell in a configuration, and where in the weights its arrays are."""

    place: str
    units: int
    convention: Convention
    options: dict[str, Any]


class SavedLayer(NamedTuple):
    """A layer of a stack: the cells of its directions.

    Attributes:
        cells: one, or forward and backward.
        directions: of each.
        merge: of two.
        flipped: whether outputs stand in the order of reading.
        zeros: whether outputs are zeros where there is padding.
        dtype: of its numbers.
    """

    cells: tuple[SavedCell, ...]
    directions: tuple[Direction, ...]
    merge: Merge
    flipped: bool
    zeros: bool
    dtype: DType

    def spec(self, input_size: int) -> LayerSpec:
        """What it computes."""
        first = self.cells[0]
        if any((each.units, each.options) != (first.units, first.options) for each in self.cells):
            raise PortError("the two directions of a Bidirectional differ, which no description has")
        return LayerSpec(
            first.convention.cell,
            input_size,
            first.units,
            directions=self.directions,
            merge=self.merge,
            flipped=self.flipped,
            **first.options,
        )


class SavedStack(NamedTuple):
    """Layers one behind the other, and what is not carried of them."""

    layers: list[SavedLayer]
    notes: list[str]


def stacks_in(config: Any) -> tuple[dict[str, SavedStack], list[str]]:
    """The recurrent stacks of a model by the name of their first layer, and its other layers.

    Raises:
        PortError: it is no configuration of Keras 3, or has a recurrent layer without a description.
    """
    if not isinstance(config, dict) or config.get("class_name") not in _MODELS:
        kind = str(config.get("class_name"))[:40] if isinstance(config, dict) else type(config).__name__
        raise PortError(
            f"its model is a {kind}: convert a Sequential or a Functional, which say what they hold"
        )
    stacks: dict[str, SavedStack] = {}
    others: list[str] = []
    _model(config, "", stacks, others, 0)
    return stacks, others


def _model(config: Any, place: str, stacks: dict[str, SavedStack], others: list[str], depth: int) -> None:
    layers = _field(config, "config", dict).get("layers")
    if not isinstance(layers, list) or len(layers) > _MOST_LAYERS or depth > _MOST_DEPTH:
        raise PortError("its model has no list of layers, or more than any model has")
    counted: dict[str, int] = {}
    #: By the name of a layer, the stack that its outputs are of.
    ends: dict[str, SavedStack] = {}
    before: str | None = None
    for layer in layers:
        kind, own = str(_field(layer, "class_name", str)), _field(layer, "config", dict)
        name, snake = str(own.get("name", ""))[:80], _snake(kind[:80])
        number = counted[snake] = counted.get(snake, -1) + 1
        where = f"{place}layers/{snake}" + (f"_{number}" if number else "")
        source = _source(layer) if config["class_name"] != "Sequential" else before
        feeding = ends.get(source) if source is not None else None
        before = name
        if kind in _MODELS and layer.get("module") in ("keras", "keras.models", "keras.src.models"):
            _model(layer, where + "/", stacks, others, depth + 1)
        elif kind in _IDENTITY and layer.get("module") == "keras.layers":
            if feeding is not None:
                ends[name] = feeding
                if kind != "InputLayer":
                    feeding.notes.append(f"{kind} behind the layers is not carried")
        elif _is_recurrent(layer):
            stack = feeding if feeding is not None and _used_once(layers, source) else SavedStack([], [])
            if not stack.layers:
                stacks[name if name not in stacks else where] = stack
            stack.layers.extend(_layers(layer, where))
            stack.notes.extend(_notes(own))
            ends[name] = stack
        else:
            others.append(f"{name} ({kind[:40]})")


def _snake(name: str) -> str:
    """What Keras calls the group of a layer of a class: ``simple_rnn`` of a ``SimpleRNN``."""
    parted = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parted).lower()


def _source(layer: Any) -> str | None:
    """The layer whose output a layer of a Functional is called on, where it is one, once."""
    names = list(_histories(layer.get("inbound_nodes"), 0))
    return names[0] if len(names) == 1 else None


def _histories(node: Any, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        return
    if isinstance(node, dict):
        history = node.get("keras_history")
        if isinstance(history, list) and history and isinstance(history[0], str):
            # Its first output; the others are states.
            yield history[0] if len(history) == 3 and history[2] == 0 else ""
            return
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from _histories(each, depth + 1)


def _used_once(layers: list[Any], name: str | None) -> bool:
    """Whether the outputs of a layer go to one other layer; always in a Sequential."""
    used = [each for layer in layers for each in _histories(layer.get("inbound_nodes"), 0) if each == name]
    return len(used) <= 1


def _is_recurrent(layer: Any) -> bool:
    if layer.get("module") != "keras.layers":
        return False
    names = {row.layer.partition("(")[0].removeprefix("layers.") for row in conventions("tensorflow")}
    kind, own = layer["class_name"], layer["config"]
    if kind == "Bidirectional":
        return _is_recurrent(_field(own, "layer", dict))
    return kind == "RNN" or (kind in names and not kind.endswith("Cell"))


def _layers(layer: Any, where: str) -> Iterator[SavedLayer]:
    kind, own = layer["class_name"], layer["config"]
    if kind == "Bidirectional":
        forward, backward = (_field(own, name, dict) for name in ("layer", "backward_layer"))
        merge = own.get("merge_mode")
        if merge not in _MERGES:
            raise PortError("Bidirectional(merge_mode=None) has two outputs: no description has that")
        cells, flags = [], []
        for each, part in ((forward, "forward_layer"), (backward, "backward_layer")):
            cells.append(_cell(each, f"{where}/{part}/cell"))
            flags.append(bool(_field(each, "config", dict).get("go_backwards")))
        if flags != [False, True]:
            raise PortError(
                "the layers of a Bidirectional read in other directions than forward and backward"
            )
        yield SavedLayer(tuple(cells), ("forward", "backward"), merge, False, True, _dtype(own))
        return
    backwards, zeros = bool(own.get("go_backwards")), bool(own.get("zero_output_for_mask"))
    cells = (
        [_cell(layer, f"{where}/cell")]
        if kind != "RNN"
        else _cells(_field(own, "cell", dict), f"{where}/cell")
    )
    directions: tuple[Direction, ...] = ("backward",) if backwards else ("forward",)
    for cell in cells:
        yield SavedLayer((cell,), directions, "concat", backwards and cell is cells[-1], zeros, _dtype(own))


def _cells(cell: Any, where: str) -> list[SavedCell]:
    if cell.get("class_name") != "StackedRNNCells":
        return [_cell(cell, where)]
    cells, counted = _field(_field(cell, "config", dict), "cells", list), dict[str, int]()
    found = []
    for each in cells:
        snake = _snake(str(_field(each, "class_name", str))[:80])
        number = counted[snake] = counted.get(snake, -1) + 1
        found.append(_cell(each, f"{where}/cells/{snake}" + (f"_{number}" if number else "")))
    if not found:
        raise PortError("a StackedRNNCells has no cells")
    return found


def _cell(layer: Any, where: str) -> SavedCell:
    """A cell, or a layer with one, by its configuration."""
    kind, own = str(_field(layer, "class_name", str)), _field(layer, "config", dict)
    reset = own.get("reset_after")
    wanted = "none" if "GRU" not in kind else "before" if reset is False else "after"
    names = {kind, kind.removesuffix("Cell")}
    row = next(
        (
            each
            for each in conventions("tensorflow")
            if each.form == "layer"
            and each.layer.partition("(")[0].removeprefix("layers.") in names
            and each.reset == wanted
        ),
        None,
    )
    if row is None or layer.get("module") != "keras.layers":
        raise PortError(
            f"it has a recurrent layer of a {kind[:60]}, which has no description: nothing of it is run"
        )
    units, biased = own.get("units"), own.get("use_bias")
    if type(units) is not int or units < 1 or type(biased) is not bool:
        raise PortError(f"the configuration of its {kind} is damaged")
    options: dict[str, Any] = {
        "biases": row.biases[0] if biased else "none",
        "activation": _activation(own.get("activation")),
        "gate_activation": _activation(own.get("recurrent_activation")) if row.gate_activations else None,
        "reset_after": None if row.reset == "none" else row.reset == "after",
    }
    return SavedCell(where, units, row, options)


def _activation(value: Any) -> Activation:
    if isinstance(value, dict):  # a function by its name, as older versions write it
        value = value.get("config") if value.get("module") in ("keras.activations", "builtins") else value
    if value not in _ACTIVATIONS:
        shown = value if isinstance(value, str) else "one of its own"
        raise PortError(
            f"the activation {shown[:40]} has no description: it is one of {', '.join(_ACTIVATIONS)}"
        )
    return value


def _dtype(own: dict[str, Any]) -> DType:
    policy = own.get("dtype")
    name = _field(policy, "config", dict).get("name") if isinstance(policy, dict) else policy
    if name == "float64":
        return "float64"
    if name == "float32":
        return "float32"
    raise PortError(f"a layer computes in {str(name)[:30]}: take float32 or float64 for all")


def _notes(own: dict[str, Any]) -> Iterator[str]:
    inner = own.get("layer")
    if isinstance(inner, dict):
        own = _field(inner, "config", dict)
    for name in ("dropout", "recurrent_dropout"):
        if rate := own.get(name):
            yield f"{name}={str(rate)[:20]} is not carried"
    if own.get("stateful"):
        yield "stateful=True is not carried: pass the state from call to call"
    if own.get("return_sequences") is False:
        yield "return_sequences=False is not carried: take the last of the outputs"


def _field(value: Any, name: str, kind: type) -> Any:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise PortError(f"its config.json is damaged: {name} of a layer is missing, or of another kind")
    return found
