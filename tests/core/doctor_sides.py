"""Two sides for the doctor: a stack as it is, and one with faults that are written out here, each by itself.

Nothing of `d2lrnn.doctor` makes them: a fault is what a person would have done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.ports import reference
from d2lrnn.ports.description import Direction, LayerSpec, StackSpec
from d2lrnn.ports.ported import Ported
from d2lrnn.ports.proof import Side

Arrays = dict[str, FloatArray]
BOTH: tuple[Direction, ...] = ("forward", "backward")


def stack(cell: str, n: int, h: int, num_layers: int = 1, **options: Any) -> StackSpec:
    """A stack with two biases a gate, unless they are told."""
    options = {"biases": "two", **({"reset_after": True} if cell == "gru" else {}), **options}
    layers: list[LayerSpec] = []
    for _ in range(num_layers):
        layers.append(LayerSpec(cell, layers[-1].output_size if layers else n, h, **options))
    return StackSpec(tuple(layers))


def drawn_parameters(spec: StackSpec, seed: int = 0) -> Arrays:
    """U(-a, a) with a large enough that activations bend."""
    draw, width = np.random.RandomState(seed), 2 / np.sqrt(spec.layers[0].hidden_size)
    shapes = spec.parameter_shapes()
    return {name: draw.uniform(-width, width, shape).astype(spec.dtype) for name, shape in shapes.items()}


def as_ported(spec: StackSpec, parameters: Arrays, source: str = "numpy") -> Ported:
    """A described stack: the doctor takes no more of it than its description."""
    return Ported(spec, parameters, source, Side({}))


Answer = tuple[FloatArray, Arrays]
Function = Callable[[FloatArray, "Arrays | None", Any], Answer]


def as_function(spec: StackSpec, parameters: Arrays) -> Function:
    """A function of inputs, state and lengths, which nothing describes."""
    return lambda inputs, state, lengths: reference.run(spec, parameters, inputs, state, lengths)


class Fault(NamedTuple):
    """A stack, what befell its parameters and its description, and what must be said of it."""

    spec: StackSpec
    befell: Callable[[StackSpec, Arrays], tuple[StackSpec, Arrays]]
    kinds: tuple[str, ...]
    words: tuple[str, ...]


def gates(array: FloatArray, order: list[int], number: int) -> FloatArray:
    """The gates side by side, in another order."""
    width = array.shape[-1] // number
    return np.concatenate([array[..., k * width : (k + 1) * width] for k in order], axis=-1)


def transposed(array: FloatArray) -> FloatArray:
    """Each square matrix of those side by side."""
    h = len(array)
    return np.concatenate([array[:, k : k + h].T for k in range(0, array.shape[1], h)], axis=1)


def parameters(change: Callable[[Arrays], Arrays]) -> Callable[[StackSpec, Arrays], tuple[StackSpec, Arrays]]:
    """A fault of parameters alone: the changed ones."""
    return lambda spec, right: (spec, {**right, **change(right)})


def layer(l: int, **change: Any) -> Callable[[StackSpec, Arrays], tuple[StackSpec, Arrays]]:
    """A fault of one layer's description."""

    def changed(spec: StackSpec, right: Arrays) -> tuple[StackSpec, Arrays]:
        layers = [replace(each, **change) if k == l else each for k, each in enumerate(spec.layers)]
        return replace(spec, layers=tuple(layers)), right

    return changed


def zeros(name: str) -> Callable[[Arrays], Arrays]:
    return lambda right: {name: np.zeros_like(right[name])}


def halves(name: str) -> Callable[[Arrays], Arrays]:
    return lambda right: {name: right[name].astype(np.float16).astype(np.float32)}


def shortened(name: str) -> Callable[[Arrays], Arrays]:
    """Cut to the first 16 bits, but rounded to the nearest of these."""

    def change(right: Arrays) -> Arrays:
        found = np.zeros_like(right[name])
        for index, value in np.ndenumerate(right[name]):
            bits = int(np.float32(value).view(np.uint32))
            low = [np.uint32(each << 16).view(np.float32) for each in (bits >> 16, (bits >> 16) + 1)]
            found[index] = min(low, key=lambda each: abs(float(each) - float(value)))
        return {name: found}

    return change


GRU, GRU_2, GRU_3 = (stack("gru", 8, 8, number) for number in (1, 2, 3))
GRU_BOTH = stack("gru", 6, 8, 2, directions=BOTH)
LSTM, LSTM_2 = stack("lstm", 8, 8), stack("lstm", 8, 8, 2)
LSTM_BOTH = stack("lstm", 6, 8, 2, directions=BOTH)
RNN, RNN_3 = stack("rnn", 8, 8), stack("rnn", 8, 8, 3)
BEFORE = stack("gru", 8, 8, 2, reset_after=False)
PROJECTED = stack("lstm", 8, 6, projection_size=6)

#: Those that two descriptions show, and a function, too.
FAULTS: dict[str, Fault] = {
    "gru, w_h in z, r, n": Fault(
        GRU,
        parameters(lambda p: {"rnn.0.w_h": gates(p["rnn.0.w_h"], [1, 0, 2], 3)}),
        ("gate order",),
        ("recurrent weights w_h of layer 0", "z, r, n"),
    ),
    "gru, w_x of layer 1 in n, z, r": Fault(
        GRU_2,
        parameters(lambda p: {"rnn.1.w_x": gates(p["rnn.1.w_x"], [2, 1, 0], 3)}),
        ("gate order",),
        ("input weights w_x of layer 1", "n, z, r"),
    ),
    "gru, all in z, r, n": Fault(
        GRU_2,
        parameters(lambda p: {name: gates(p[name], [1, 0, 2], 3) for name in p}),
        ("gate order",),
        ("parameters of every layer", "z, r, n"),
    ),
    "gru, all of layer 2 in n, r, z": Fault(
        GRU_3,
        parameters(lambda p: {name: gates(p[name], [2, 0, 1], 3) for name in p if name.startswith("rnn.2.")}),
        ("gate order",),
        ("parameters of layer 2", "n, r, z"),
    ),
    "gru, b_h in z, r, n": Fault(
        GRU,
        parameters(lambda p: {"rnn.0.b_h": gates(p["rnn.0.b_h"], [1, 0, 2], 3)}),
        ("gate order",),
        ("recurrent bias b_h", "z, r, n"),
    ),
    "gru, backward w_h in z, r, n": Fault(
        GRU_BOTH,
        parameters(lambda p: {"rnn.1.backward.w_h": gates(p["rnn.1.backward.w_h"], [1, 0, 2], 3)}),
        ("gate order",),
        ("recurrent weights w_h of layer 1 backward", "z, r, n"),
    ),
    "lstm, w_h in i, o, f, g": Fault(
        LSTM,
        parameters(lambda p: {"rnn.0.w_h": gates(p["rnn.0.w_h"], [0, 3, 1, 2], 4)}),
        ("gate order",),
        ("recurrent weights w_h of layer 0", "i, o, f, g"),
    ),
    "lstm, all in i, f, o, g": Fault(
        LSTM_2,
        parameters(lambda p: {name: gates(p[name], [0, 1, 3, 2], 4) for name in p}),
        ("gate order",),
        ("parameters of every layer", "i, f, o, g"),
    ),
    "lstm, w_x with i and f exchanged": Fault(
        LSTM,
        parameters(lambda p: {"rnn.0.w_x": gates(p["rnn.0.w_x"], [1, 0, 2, 3], 4)}),
        ("gate order",),
        ("input weights w_x of layer 0", "f, i, g, o"),
    ),
    "rnn, w_h transposed": Fault(
        RNN,
        parameters(lambda p: {"rnn.0.w_h": p["rnn.0.w_h"].T}),
        ("transposed",),
        ("recurrent weights w_h of layer 0",),
    ),
    "rnn, w_x of layer 1 transposed": Fault(
        RNN_3,
        parameters(lambda p: {"rnn.1.w_x": p["rnn.1.w_x"].T}),
        ("transposed",),
        ("input weights w_x of layer 1",),
    ),
    "gru, w_h transposed": Fault(
        GRU_2,
        parameters(lambda p: {"rnn.0.w_h": transposed(p["rnn.0.w_h"])}),
        ("transposed",),
        ("recurrent weights w_h of layer 0",),
    ),
    "lstm, w_h of both layers transposed": Fault(
        LSTM_2,
        parameters(lambda p: {name: transposed(p[name]) for name in ("rnn.0.w_h", "rnn.1.w_h")}),
        ("transposed",),
        ("recurrent weights w_h of every layer",),
    ),
    "lstm, w_x reshaped": Fault(
        LSTM_BOTH,
        parameters(lambda p: {"rnn.0.w_x": p["rnn.0.w_x"].T.reshape(6, 32)}),
        ("reshaped",),
        ("input weights w_x of layer 0",),
    ),
    "lstm, gates interleaved": Fault(
        LSTM,
        parameters(
            lambda p: {"rnn.0.w_h": p["rnn.0.w_h"].reshape(8, 4, 8).transpose(0, 2, 1).reshape(8, 32)}
        ),
        ("gates interleaved",),
        ("recurrent weights w_h of layer 0",),
    ),
    "lstm, projection transposed": Fault(
        PROJECTED,
        parameters(lambda p: {"rnn.0.w_p": p["rnn.0.w_p"].T}),
        ("transposed",),
        ("projection w_p of layer 0",),
    ),
    "lstm, recurrent bias dropped": Fault(
        LSTM, parameters(zeros("rnn.0.b_h")), ("recurrent bias dropped",), ("recurrent bias b_h of layer 0",)
    ),
    "gru, recurrent bias of layer 1 dropped": Fault(
        GRU_3, parameters(zeros("rnn.1.b_h")), ("recurrent bias dropped",), ("recurrent bias b_h of layer 1",)
    ),
    "rnn, input bias dropped": Fault(
        RNN, parameters(zeros("rnn.0.b")), ("input bias dropped",), ("input bias b of layer 0",)
    ),
    "lstm, both biases dropped": Fault(
        LSTM_BOTH,
        parameters(lambda p: {**zeros("rnn.0.backward.b")(p), **zeros("rnn.0.backward.b_h")(p)}),
        ("biases dropped",),
        ("layer 0 backward",),
    ),
    "gru, biases added": Fault(
        GRU,
        parameters(lambda p: {"rnn.0.b": p["rnn.0.b"] + p["rnn.0.b_h"], **zeros("rnn.0.b_h")(p)}),
        ("biases added",),
        ("layer 0", "inside the reset"),
    ),
    "gru, biases exchanged": Fault(
        GRU_2,
        parameters(lambda p: {"rnn.1.b": p["rnn.1.b_h"], "rnn.1.b_h": p["rnn.1.b"]}),
        ("biases exchanged",),
        ("layer 1",),
    ),
    "gru, resets before": Fault(GRU, layer(0, reset_after=False), ("reset",), ("resets before",)),
    "gru, layer 1 resets after": Fault(
        BEFORE, layer(1, reset_after=True), ("reset",), ("layer 1", "resets after")
    ),
    "rnn, relu": Fault(RNN, layer(0, activation="relu"), ("activation",), ("relu in b", "tanh in a")),
    "lstm, relu in layer 1": Fault(
        LSTM_2, layer(1, activation="relu"), ("activation",), ("layer 1", "relu in b")
    ),
    "gru, tanh gates": Fault(
        GRU, layer(0, gate_activation="tanh"), ("gate activation",), ("tanh in its gates in b",)
    ),
    "lstm, forget bias": Fault(
        LSTM_2,
        parameters(lambda p: {"rnn.1.b": p["rnn.1.b"] + np.repeat(np.float32([0, 1, 0, 0]), 8)}),
        ("forget bias",),
        ("layer 1", "1 more in the forget gate"),
    ),
    "gru, update exchanged": Fault(
        GRU,
        parameters(lambda p: {name: p[name] * np.repeat(np.float32([1, -1, 1]), 8) for name in p}),
        ("update exchanged",),
        ("z and 1 - z", "layer 0"),
    ),
    "rnn, layers in another order": Fault(
        RNN_3,
        parameters(
            lambda p: {
                f"rnn.{k}{name}": p[f"rnn.{l}{name}"]
                for k, l in enumerate([2, 0, 1])
                for name in (".w_x", ".w_h", ".b", ".b_h")
            }
        ),
        ("layer order",),
        ("2, 0, 1",),
    ),
    "gru, directions exchanged": Fault(
        GRU_BOTH,
        parameters(
            lambda p: {
                name: p[
                    name.replace("backward.", "")
                    if "backward" in name
                    else name.replace("rnn.1.", "rnn.1.backward.")
                ]
                for name in p
                if name.startswith("rnn.1.")
            }
        ),
        ("directions exchanged",),
        ("layer 1",),
    ),
    "lstm, rounded to float16": Fault(
        LSTM, parameters(halves("rnn.0.w_h")), ("rounded to float16",), ("recurrent weights w_h of layer 0",)
    ),
    "gru, rounded to bfloat16": Fault(
        GRU_2, parameters(shortened("rnn.1.w_x")), ("rounded to bfloat16",), ("input weights w_x of layer 1",)
    ),
    "rnn, reads backward": Fault(
        RNN,
        lambda spec, p: (
            layer(0, directions=("backward",))(spec, p)[0],
            {name.replace("rnn.0.", "rnn.0.backward."): array for name, array in p.items()},
        ),
        ("direction",),
        ("backward in b", "forward in a"),
    ),
}

#: Those that only two descriptions show.
OF_DESCRIPTIONS: dict[str, Fault] = {
    "lstm, w_h of layer 1 scaled": Fault(
        LSTM_2,
        parameters(lambda p: {"rnn.1.w_h": 0.5 * p["rnn.1.w_h"]}),
        ("scaled",),
        ("recurrent weights w_h of layer 1", "0.5 times"),
    ),
    "rnn, all weights scaled": Fault(
        RNN_3,
        parameters(lambda p: {name: 1.5 * p[name] for name in p if ".w_" in name}),
        ("scaled",),
        ("w_x and recurrent weights w_h of every layer", "1.5 times"),
    ),
    "gru, w_x of layer 1 not loaded": Fault(
        GRU_2,
        parameters(lambda p: {"rnn.1.w_x": drawn_parameters(GRU_2, 7)["rnn.1.w_x"]}),
        ("other values",),
        ("input weights w_x of layer 1",),
    ),
    "lstm, biases of layer 0 not loaded": Fault(
        LSTM_2,
        parameters(lambda p: {"rnn.0.b": drawn_parameters(LSTM_2, 7)["rnn.0.b"]}),
        ("other values",),
        ("input bias b of layer 0",),
    ),
    "lstm, batch first": Fault(
        LSTM, lambda spec, p: (replace(spec, batch_first=True), p), ("axes",), ("(batch, time, …)",)
    ),
    "gru, merged by their sum": Fault(
        stack("gru", 6, 8, 1, directions=BOTH, merge="ave"), layer(0, merge="sum"), ("merge",), ("sum in b",)
    ),
}


def _used(
    change: Callable[[Function, StackSpec, Arrays], Function],
) -> Callable[[StackSpec, Arrays], Function]:
    return lambda spec, right: change(as_function(spec, right), spec, right)


def _swapped(run: Function, spec: StackSpec, right: Arrays) -> Function:
    def function(X: FloatArray, state: Arrays | None, lengths: Any) -> Answer:
        outputs, final = run(X.swapaxes(0, 1), state, lengths)
        return outputs.swapaxes(0, 1), final

    return function


def _fed_input(run: Function, spec: StackSpec, right: Arrays) -> Function:
    def function(X: FloatArray, state: Arrays | None, lengths: Any) -> Answer:
        final: Arrays = {}
        outputs = X
        for l, each in enumerate(spec.layers):
            alone = {
                name.replace(f"rnn.{l}.", "rnn.0."): array
                for name, array in right.items()
                if f"rnn.{l}." in name
            }
            before = (
                None
                if state is None
                else {
                    name.replace(f"rnn.{l}.", "rnn.0."): array
                    for name, array in state.items()
                    if f"rnn.{l}." in name
                }
            )
            outputs, after = reference.run(StackSpec((each,)), alone, X, before, lengths)
            final |= {name.replace("rnn.0.", f"rnn.{l}."): array for name, array in after.items()}
        return outputs, final

    return function


def _not_flipped(run: Function, spec: StackSpec, right: Arrays) -> Function:
    def function(X: FloatArray, state: Arrays | None, lengths: Any) -> Answer:
        outputs, final = run(X, state, lengths)
        h = outputs.shape[-1] // 2
        return np.concatenate([outputs[..., :h], outputs[::-1, :, h:]], axis=-1), final

    return function


def _backward_first(run: Function, spec: StackSpec, right: Arrays) -> Function:
    def function(X: FloatArray, state: Arrays | None, lengths: Any) -> Answer:
        outputs, final = run(X, state, lengths)
        return np.concatenate(np.split(outputs, 2, axis=-1)[::-1], axis=-1), final

    return function


def _states_exchanged(run: Function, spec: StackSpec, right: Arrays) -> Function:
    def other(state: Arrays) -> Arrays:
        return {name[:-1] + {"h": "c", "c": "h"}[name[-1]]: array for name, array in state.items()}

    def function(X: FloatArray, state: Arrays | None, lengths: Any) -> Answer:
        outputs, final = run(X, None if state is None else other(state), lengths)
        return outputs, other(final)

    return function


def _gives_cell(run: Function, spec: StackSpec, right: Arrays) -> Function:
    def function(X: FloatArray, state: Arrays | None, lengths: Any) -> Answer:
        outputs = []
        for t, x in enumerate(X):
            _, after = run(x[None], state, None)
            there = np.ones(X.shape[1], bool) if lengths is None else np.asarray(lengths) > t
            old = {name: np.zeros_like(array) for name, array in after.items()} if state is None else state
            state = {name: np.where(there[:, None], array, old[name]) for name, array in after.items()}
            outputs.append(np.where(there[:, None], after["rnn.0.c"], 0))
        assert state is not None
        return np.stack(outputs), state

    return function


class UseFault(NamedTuple):
    """A stack, the function that it has become, and what must be said of it."""

    spec: StackSpec
    function: Callable[[StackSpec, Arrays], Function]
    kinds: tuple[str, ...]
    words: tuple[str, ...]


#: Those of how a stack is used, which no description shows.
OF_USE: dict[str, UseFault] = {
    "axes": UseFault(GRU_2, _used(_swapped), ("axes",), ("batch and time are swapped",)),
    "fed the input": UseFault(RNN_3, _used(_fed_input), ("fed the input",), ("are fed the input",)),
    "not flipped": UseFault(
        stack("lstm", 6, 8, directions=BOTH), _used(_not_flipped), ("order of outputs",), ("does not flip",)
    ),
    "backward first": UseFault(
        GRU_BOTH, _used(_backward_first), ("directions exchanged",), ("before those",)
    ),
    "state ignored": UseFault(
        LSTM_2,
        _used(lambda run, _, __: lambda X, state, lengths: run(X, None, lengths)),
        ("state ignored",),
        ("first state",),
    ),
    "padding ignored": UseFault(
        GRU,
        _used(lambda run, _, __: lambda X, state, lengths: run(X, state, None)),
        ("padding ignored",),
        ("lengths",),
    ),
    "states exchanged": UseFault(LSTM_2, _used(_states_exchanged), ("states exchanged",), ("(c, h)",)),
    "c for h": UseFault(LSTM, _used(_gives_cell), ("c for h",), ("state c as its output",)),
}


def _then(*faults: str) -> Fault:
    """Several faults of one stack together."""

    def befell(spec: StackSpec, right: Arrays) -> tuple[StackSpec, Arrays]:
        for name in faults:
            spec, right = FAULTS[name].befell(spec, right)
        return spec, right

    first = FAULTS[faults[0]]
    return Fault(
        first.spec,
        befell,
        tuple(kind for name in faults for kind in FAULTS[name].kinds),
        tuple(word for name in faults for word in FAULTS[name].words),
    )


PAIRS: dict[str, Fault] = {
    " and ".join(names): _then(*names)
    for names in [
        ("gru, w_h in z, r, n", "gru, resets before"),
        ("gru, b_h in z, r, n", "gru, resets before"),
        ("gru, all in z, r, n", "gru, rounded to bfloat16"),
        ("gru, w_h transposed", "gru, biases exchanged"),
        ("gru, w_x of layer 1 in n, z, r", "gru, biases exchanged"),
        ("gru, recurrent bias of layer 1 dropped", "gru, all of layer 2 in n, r, z"),
        ("lstm, w_h in i, o, f, g", "lstm, recurrent bias dropped"),
        ("lstm, gates interleaved", "lstm, recurrent bias dropped"),
        ("lstm, w_h of both layers transposed", "lstm, forget bias"),
        ("lstm, relu in layer 1", "lstm, forget bias"),
        ("rnn, w_h transposed", "rnn, relu"),
        ("rnn, input bias dropped", "rnn, relu"),
        ("rnn, w_h transposed", "rnn, input bias dropped"),
        ("lstm, w_x with i and f exchanged", "lstm, rounded to float16"),
    ]
}
