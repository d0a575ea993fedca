"""The arrays of one direction of a layer, from the canonical form to a framework's own and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import Biases, LayerSpec

#: What has no gates side by side.
_UNGATED = ("w_p", "b_hn")


def reordered(array: FloatArray, gates: Sequence[str], wanted: Sequence[str]) -> FloatArray:
    """The gates side by side on the last axis, from one order to another.

    Example:
        >>> reordered(np.array([1.0, 2, 3]), ("r", "z", "n"), ("z", "r", "n")).tolist()
        [2.0, 1.0, 3.0]
    """
    if tuple(gates) == tuple(wanted):
        return array
    parts = dict(zip(gates, np.split(array, len(gates), axis=-1), strict=True))
    return np.concatenate([parts[gate] for gate in wanted], axis=-1)


def to_own(convention: Convention, layer: LayerSpec, arrays: Parameters) -> dict[str, FloatArray]:
    """Canonical arrays of one direction in a framework's order of gates and orientation: copies.

    Args:
        convention: of the framework's layer.
        layer: with biases that it can have (`with_biases`).
        arrays: by the names of `LayerSpec.shapes`.
    """
    own = {}
    for name, array in arrays.items():
        if name not in _UNGATED:
            array = reordered(array, layer.kind.gates, convention.gates)
        own[name] = np.array(array.T if convention.transposes(array) else array, order="C")
    return own


def from_own(convention: Convention, layer: LayerSpec, own: Parameters) -> dict[str, FloatArray]:
    """The inverse of `to_own`."""
    arrays = {}
    for name in layer.shapes():
        array = own[name].T if convention.transposes(own[name]) else own[name]
        if name not in _UNGATED:
            array = reordered(array, convention.gates, layer.kind.gates)
        arrays[name] = np.array(array, order="C")
    return arrays


def with_biases(layer: LayerSpec, arrays: Parameters, wanted: Biases) -> dict[str, FloatArray]:
    """The arrays of one direction with another number of biases, of the same function.

    Two biases become their sum, but for the candidate of a cell that resets after its product: there the
    reset comes between the two. One becomes two of which the second is zero.

    Args:
        layer: what `arrays` are of.
        arrays: by the names of `LayerSpec.shapes`.
        wanted: never ``"none"`` for a layer that has some, nor ``"input"`` for one whose `reset_bias` is
            other than zero.

    Example:
        >>> layer = LayerSpec("rnn", 1, 1, biases="two")
        >>> arrays = {"w_x": np.ones((1, 1)), "w_h": np.ones((1, 1)), "b": np.ones(1), "b_h": np.ones(1)}
        >>> with_biases(layer, arrays, "one")["b"].tolist()
        [2.0]
    """
    shapes, changed = replace(layer, biases=wanted).shapes(), dict(arrays)
    b, b_h, b_hn = (changed.pop(name, None) for name in ("b", "b_h", "b_hn"))
    if wanted == "none":
        assert b is None
        return changed
    kind, h = arrays["w_x"].dtype, layer.hidden_size
    b = np.zeros(shapes["b"], kind) if b is None else b
    if b_h is None:
        b_h = np.zeros(shapes["b"], kind)
        if b_hn is not None:
            b_h[-h:] = b_hn
    if wanted == "two":
        return changed | {"b": b, "b_h": b_h}
    if not layer.reset_after:
        return changed | {"b": b + b_h}
    if wanted == "input":
        assert not b_h[-h:].any()
        return changed | {"b": b + b_h}
    return changed | {"b": np.concatenate([b[:-h] + b_h[:-h], b[-h:]]), "b_hn": b_h[-h:].copy()}


def reset_bias(layer: LayerSpec, arrays: Parameters) -> FloatArray | None:
    """The bias (h,) inside the reset of one direction; None of a layer without one."""
    if not layer.reset_after:
        return None
    return arrays["b_h"][-layer.hidden_size :] if layer.biases == "two" else arrays.get("b_hn")


def part_of(arrays: Mapping[str, FloatArray], prefix: str, names: Sequence[str]) -> dict[str, FloatArray]:
    """The arrays whose names begin with a prefix, without it."""
    return {name: arrays[prefix + name] for name in names}
