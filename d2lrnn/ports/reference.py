"""What a described stack computes, in NumPy: the judge of every conversion.

It is written to be read beside the formulas of `d2lrnn.contract.cells`, and computes in the type of what it
is given: float64 to judge, float32 to see what rounding does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from d2lrnn.contract import cells
from d2lrnn.contract.values import FloatArray, IntArray, Parameters
from d2lrnn.ports.description import Activation, LayerSpec, Padding, StackSpec, prefix_of

ACTIVATIONS: dict[Activation, Callable[[FloatArray], FloatArray]] = {
    "tanh": np.tanh,
    "relu": lambda A: np.maximum(A, 0),
    # 1 / (1 + exp(-A)), without its overflow.
    "sigmoid": lambda A: (1 + np.tanh(A / 2)) / 2,
    "linear": lambda A: A,
}

#: The states of one direction of a layer: h (B, p), of an LSTM also c (B, h).
LayerState = tuple[FloatArray, ...]


def run(
    spec: StackSpec,
    parameters: Parameters,
    inputs: FloatArray,
    state: Parameters | None = None,
    lengths: Any = None,
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """The outputs and the final states of a stack.

    Args:
        spec: the stack; `StackSpec.batch_first` is about how others call it, and plays no part here.
        parameters: by canonical name.
        inputs: (T, B, n), of a cell T = 1.
        state: the states before the first step, by name (`StackSpec.state_shapes`); None is zeros.
        lengths: (B,), how many steps of each sequence are no padding; None is all. A direction backward
            begins at the last step that is none, and a state stays as it is where there is padding.

    Returns:
        The outputs (T, B, `StackSpec.output_size`), and the final states by name.

    Example:
        >>> spec = StackSpec((LayerSpec("rnn", 1, 1, biases="none", activation="linear"),))
        >>> parameters = {"rnn.0.w_x": np.ones((1, 1)), "rnn.0.w_h": np.full((1, 1), 0.5)}
        >>> outputs, state = run(spec, parameters, np.ones((3, 1, 1)))
        >>> outputs.ravel().tolist(), state["rnn.0.h"].tolist()
        ([1.0, 1.5, 1.75], [[1.75]])
    """
    shapes = spec.state_shapes(inputs.shape[1])
    states = {name: np.zeros(shape, inputs.dtype) for name, shape in shapes.items()} | dict(state or {})
    X = inputs
    for l, layer in enumerate(spec.layers):
        outputs = []
        for direction in layer.directions:
            prefix = prefix_of(l, direction)
            names = [prefix + name for name in layer.kind.states]
            weights = {name: parameters[prefix + name] for name in layer.shapes()}
            before = tuple(states[name] for name in names)
            H, final = run_direction(
                layer, weights, X, before, lengths, direction == "backward", spec.padding
            )
            outputs.append(H)
            states |= dict(zip(names, final, strict=True))
        X = merged(layer, outputs)
    return X, states


def run_direction(
    layer: LayerSpec,
    weights: Mapping[str, FloatArray],
    X: FloatArray,
    state: LayerState,
    lengths: Any,
    backward: bool,
    padding: Padding,
    given: int = 0,
) -> tuple[FloatArray, LayerState]:
    """The outputs (T, B, p) of one direction, which are its states number `given`, and the last states."""
    if lengths is not None and padding == "computed":
        return _run_through(layer, weights, X, state, np.asarray(lengths), backward, given)
    T, (B, size) = len(X), state[given].shape
    H, before = np.zeros((T, B, size), X.dtype), np.zeros((B, size), X.dtype)
    for t in reversed(range(T)) if backward else range(T):
        after = step(layer, weights, X[t], state)
        if lengths is None:
            state, H[t] = after, after[given]
            continue
        there = (np.asarray(lengths) > t)[:, None]
        state = tuple(np.where(there, new, old) for new, old in zip(after, state, strict=True))
        H[t] = before = np.where(there, after[given], before if padding == "repeat" else 0)
    return H[::-1] if layer.flipped else H, state


def _run_through(
    layer: LayerSpec,
    weights: Mapping[str, FloatArray],
    X: FloatArray,
    state: LayerState,
    lengths: IntArray,
    backward: bool,
    given: int,
) -> tuple[FloatArray, LayerState]:
    """The same where the steps go on through the padding; the final state is that before it."""
    T, rows = len(X), np.arange(X.shape[1])
    H, final = np.zeros((*X.shape[:2], state[given].shape[1]), X.dtype), state
    for k in range(T):
        # Backward, the steps of a sequence of length n are read n - 1, …, 0, then the padding T - 1, …, n.
        t = (lengths - 1 - k) % T if backward else np.full_like(lengths, k)
        state = step(layer, weights, X[t, rows], state)
        H[k if layer.flipped else t, rows] = state[given]
        there = (k < lengths)[:, None]
        final = tuple(np.where(there, new, old) for new, old in zip(state, final, strict=True))
    return H, final


def merged(layer: LayerSpec, outputs: list[FloatArray]) -> FloatArray:
    """The outputs of a layer, from those of its directions."""
    if len(outputs) == 1:
        return outputs[0]
    first, second = outputs
    if layer.merge == "concat":
        return np.concatenate(outputs, axis=-1)
    if layer.merge == "mul":
        return first * second
    return (first + second) / (2 if layer.merge == "ave" else 1)


def step(layer: LayerSpec, weights: Mapping[str, FloatArray], x: FloatArray, state: LayerState) -> LayerState:
    """The states after one step, of inputs x (B, n)."""
    f = ACTIVATIONS[layer.activation]
    X, H = x @ weights["w_x"], state[0] @ weights["w_h"]
    if "b" in weights:
        X = X + weights["b"]
    if "b_h" in weights:
        H = H + weights["b_h"]
    if layer.cell == cells.RNN.name:
        return (f(X + H),)
    assert layer.gate_activation is not None
    gate, h = ACTIVATIONS[layer.gate_activation], layer.hidden_size
    if layer.cell == cells.LSTM.name:
        i, f_, g, o = np.split(X + H, 4, axis=-1)
        c = gate(f_) * state[1] + gate(i) * f(g)
        output = gate(o) * f(c)
        return (output @ weights["w_p"] if "w_p" in weights else output, c)
    # A GRU's r and z; an MGU has one gate, which is both. The candidate comes last.
    gates = np.split(gate(X[:, :-h] + H[:, :-h]), len(layer.kind.gates) - 1, axis=-1)
    r, z, X_n, H_n = gates[0], gates[-1], X[:, -h:], H[:, -h:]
    if layer.reset == "after":
        H_n = r * (H_n + weights.get("b_hn", 0))
    elif layer.reset == "before":
        H_n = (r * state[0]) @ weights["w_h"][:, -h:] + (weights["b_h"][-h:] if "b_h" in weights else 0)
    n = f(X_n + H_n)
    return (z * state[0] + (1 - z) * n,)
