"""What a module of Keras consists of, to `d2lrnn_tensorflow.porter`: its layers, cells, and what is noted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import keras
from keras import layers as kl

from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import conventions
from d2lrnn.ports.description import Direction, Merge

#: Layers of one cell, and their cells.
LAYERS = {kl.SimpleRNN: kl.SimpleRNNCell, kl.GRU: kl.GRUCell, kl.LSTM: kl.LSTMCell}


class Place(NamedTuple):
    """A layer of a stack in a Keras module: the cells of its directions."""

    cells: tuple[Any, ...]
    directions: tuple[Direction, ...] = ("forward",)
    merge: Merge = "concat"
    flipped: bool = False


def is_cell(module: Any) -> bool:
    """Whether it takes one step."""
    return type(module) in LAYERS.values()


def layers_of(module: Any) -> Sequence[Any]:
    """The recurrent layers of a stack: nothing else in it computes anything."""
    return [layer for layer in _all_layers(module) if type(layer) is not kl.Dropout]


def _all_layers(module: Any) -> Sequence[Any]:
    if type(module) is keras.Sequential:
        return list(module.layers)
    return module if isinstance(module, (list, tuple)) else [module]


def places_of(module: Any) -> list[Place]:
    """The layers of a stack, the first one first.

    Raises:
        PortError: a part of it is none of Keras' recurrent layers, has no weights yet, or computes what no
            description has.
    """
    layers = layers_of(module)
    if not layers:
        raise PortError("a list without a recurrent layer cannot be described: give it at least one")
    return [place for layer in layers for place in _places_in(layer)]


def cells_of(module: Any) -> list[Any]:
    """The cells of a module that is described, in the order of `StackSpec.parts`."""
    return [cell for place in places_of(module) for cell in place.cells]


def _places_in(layer: Any) -> Iterator[Place]:
    if not getattr(layer, "built", True):
        raise PortError(
            f"the layer {layer.name} has no weights yet: use it once, or call layer.build((None, None, n))"
        )
    if is_cell(layer):
        yield Place((layer,))
    elif type(layer) is kl.Bidirectional:
        both = (layer.forward_layer, layer.backward_layer)
        if any(type(each) not in LAYERS for each in both) or both[0].go_backwards:
            raise unknown(layer)
        if layer.merge_mode is None:
            raise PortError("Bidirectional(merge_mode=None) has two outputs: port its layers one by one")
        yield Place((both[0].cell, both[1].cell), ("forward", "backward"), layer.merge_mode)
    elif type(layer) in LAYERS or type(layer) is kl.RNN:
        stacked = type(layer.cell) is kl.StackedRNNCells
        cells = layer.cell.cells if stacked else [layer.cell]
        if not all(map(is_cell, cells)):
            raise unknown(layer)
        for cell in cells:
            direction: Direction = "backward" if layer.go_backwards else "forward"
            yield Place((cell,), (direction,), flipped=layer.go_backwards and cell is cells[-1])
    else:
        raise unknown(layer)


def unknown(layer: Any) -> PortError:
    """What is raised where a layer is none that can be described."""
    known = ", ".join(convention.layer for convention in conventions("tensorflow"))
    return PortError(
        f"a {type(layer).__module__}.{type(layer).__name__} cannot be described: give one of {known}, as it "
        "is, in a layers.RNN, a Bidirectional or a Sequential of nothing else"
    )


def notes_of(module: Any, cells: list[Any]) -> Iterator[str]:
    """What a module has that no description carries."""
    for cell in cells:
        for name in ("dropout", "recurrent_dropout"):
            if rate := getattr(cell, name, 0):
                yield f"{name}={rate} is not carried"
        for array, kind in product(("kernel", "recurrent", "bias"), ("regularizer", "constraint")):
            if (has := getattr(cell, f"{array}_{kind}")) is not None:
                yield f"{array}_{kind} {type(has).__name__} is not carried"
        frozen = [value.name for value in cell.weights if not value.trainable]
        if frozen:
            yield f"trainable=False of {', '.join(frozen)} is not carried"
    for layer in _all_layers(module):
        if type(layer) is kl.Dropout:
            yield f"Dropout({layer.rate}) is not carried"
            continue
        if (has := layer.activity_regularizer) is not None:
            yield f"activity_regularizer {type(has).__name__} is not carried"
        if getattr(layer, "stateful", False):
            yield "stateful=True is not carried: pass the state from call to call"
    if not getattr(layers_of(module)[-1], "return_sequences", True):
        yield "return_sequences=False is not carried: take the last of the outputs"
