"""What befalls the parameters of a layer on their way from one framework to another: a table.

Every entry makes of right parameters what is found in their place. They have two biases a gate; names and
layout are those of `d2lrnn.ports.description`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from d2lrnn.contract import cells
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.doctor.gate_orders import gate_orders, order_text
from d2lrnn.ports.description import LayerSpec
from d2lrnn.ports.layout import reordered

#: The parameters that have gates side by side.
WEIGHTS, BIASES = ("w_x", "w_h"), ("b", "b_h")


@dataclass(frozen=True)
class Change:
    """One entry: what it makes of a direction's arrays.

    Attributes:
        kind: its name.
        names: the arrays that it changes.
        apply: the changed arrays from all of the direction's; empty where it does not apply.
        sentence: what is wrong; ``{it}`` is the side with these arrays, ``{other}`` that with the right
            ones, ``{what}`` the parameters, ``{is}`` and ``{was}`` agree with them.
        one_way: whether what is lost tells which side has lost it. Else either side may be the right one.
    """

    kind: str
    names: tuple[str, ...]
    apply: Callable[[LayerSpec, Parameters], dict[str, FloatArray]]
    sentence: str
    one_way: bool = False


@cache
def changes_of(layer: LayerSpec, every_order: bool = False) -> tuple[Change, ...]:
    """All that may have befallen the arrays of a layer, the most usual first.

    Args:
        layer: with two biases a gate.
        every_order: whether gates may stand in any order, and not in those alone that are found somewhere.
    """
    return tuple(_changes(layer, every_order))


def _changes(layer: LayerSpec, every_order: bool) -> Iterator[Change]:
    gates = layer.kind.gates
    names = [name for name in (*WEIGHTS, *BIASES) if name in layer.shapes()]
    for order in gate_orders(layer.cell, every_order):
        for group in [tuple(names), WEIGHTS, BIASES, *((name,) for name in names)]:
            yield Change(
                "gate order", group, partial(_each, group, _Ordered(order)), order_text(gates, order)
            )
    if layer.cell == cells.GRU.name and layer.gate_activation == "sigmoid":
        sentence = (
            "z and 1 - z are exchanged in the update ({what}): {it} has h' = (1 - z) h + z n where {other} "
            "has h' = z h + (1 - z) n"
        )
        yield Change("update exchanged", tuple(names), partial(_each, tuple(names), _z_negated), sentence)
    for name in [
        each for each in (*WEIGHTS, "w_p") if (each == "w_p" and layer.projection_size) or each in names
    ]:
        for kind, change, sentence in _OF_MATRICES:
            yield Change(kind, (name,), partial(_each, (name,), change), sentence)
    yield from _OF_BIASES
    if layer.cell == cells.GRU.name and layer.reset_after:
        yield _SUMMED
    if layer.cell == cells.LSTM.name:
        yield _FORGET
    for name in (*names, *(["w_p"] if layer.projection_size else [])):
        for kind, change in (("rounded to float16", _float16), ("rounded to bfloat16", _bfloat16)):
            sentence = f"{{it}}'s {{what}} {{was}} {kind}, where {{other}} has all digits"
            yield Change(kind, (name,), partial(_each, (name,), change), sentence, one_way=True)


_Of = Callable[[LayerSpec, FloatArray], FloatArray | None]


def _each(names: Sequence[str], change: _Of, layer: LayerSpec, arrays: Parameters) -> dict[str, FloatArray]:
    """Those of these arrays that are changed; none where it would be another, smaller change."""
    found = {name: change(layer, arrays[name]) for name in names}
    changed = {
        name: array for name, array in found.items() if array is not None and not _equal(arrays[name], array)
    }
    # Of two biases one may be zeros: that is the change of the other alone.
    return changed if len(changed) == len(names) or len(names) > 2 else {}


def _equal(one: FloatArray, other: FloatArray) -> bool:
    """Whether two arrays are the same; mostly the first row tells."""
    return np.array_equal(one[:1], other[:1]) and np.array_equal(one, other)


# -- the order of the gates ------------------------------------------------------------------------------


class _Ordered:
    """Puts the gates into another order."""

    def __init__(self, order: tuple[str, ...]) -> None:
        self.order = order

    def __call__(self, layer: LayerSpec, array: FloatArray) -> FloatArray:
        return reordered(array, layer.kind.gates, self.order)


def _z_negated(layer: LayerSpec, array: FloatArray) -> FloatArray:
    """With the columns of z negated: σ(-a) = 1 - σ(a)."""
    h = layer.hidden_size
    return np.concatenate([array[..., :h], -array[..., h : 2 * h], array[..., 2 * h :]], axis=-1)


# -- matrices --------------------------------------------------------------------------------------------


def _transposed(layer: LayerSpec, array: FloatArray) -> FloatArray | None:
    """Every gate's matrix transposed, where it is square."""
    parts = np.split(array, array.shape[1] // layer.hidden_size or 1, axis=1)
    if parts[0].shape[0] != parts[0].shape[1]:
        return None
    return np.concatenate([part.T for part in parts], axis=1)


def _reshaped(layer: LayerSpec, array: FloatArray) -> FloatArray:
    return np.ascontiguousarray(array.T).reshape(array.shape)


def _interleaved(layer: LayerSpec, array: FloatArray) -> FloatArray | None:
    if not layer.is_gated or array.shape[1] % layer.hidden_size:
        return None
    rows, gates = array.shape[0], array.shape[1] // layer.hidden_size
    return array.reshape(rows, gates, -1).swapaxes(1, 2).reshape(array.shape)


_OF_MATRICES: tuple[tuple[str, _Of, str], ...] = (
    ("transposed", _transposed, "each gate's matrix in {it}'s {what} is transposed, against {other}'s"),
    (
        "reshaped",
        _reshaped,
        "{it}'s {what} {was} only reshaped, where {other}'s {was} transposed, from (out, in) to (in, out)",
    ),
    (
        "gates interleaved",
        _interleaved,
        "{it}'s {what} {has} the gates of a unit side by side, where {other} has the units of a gate",
    ),
)


# -- biases ----------------------------------------------------------------------------------------------


def _dropped(names: Sequence[str], layer: LayerSpec, arrays: Parameters) -> dict[str, FloatArray]:
    if not any(arrays[name].any() for name in names):
        return {}
    return {name: np.zeros_like(arrays[name]) for name in names}


def _exchanged(layer: LayerSpec, arrays: Parameters) -> dict[str, FloatArray]:
    # But for the candidate of a GRU that resets after its product, only the sum of the two matters.
    return {"b": arrays["b_h"], "b_h": arrays["b"]} if layer.reset_after else {}


def _summed(layer: LayerSpec, arrays: Parameters) -> dict[str, FloatArray]:
    if not arrays["b_h"][-layer.hidden_size :].any():
        return {}
    return {"b": arrays["b"] + arrays["b_h"], "b_h": np.zeros_like(arrays["b_h"])}


def _forget(layer: LayerSpec, arrays: Parameters) -> dict[str, FloatArray]:
    b, h = arrays["b"].copy(), layer.hidden_size
    b[h : 2 * h] += 1
    return {"b": b}


_OF_BIASES = (
    Change(
        "recurrent bias dropped", ("b_h",), partial(_dropped, ("b_h",)),
        "{it}'s {what} {was} dropped: {other} adds a bias to the product with the state, and {it} adds none",
        one_way=True,
    ),
    Change(
        "input bias dropped", ("b",), partial(_dropped, ("b",)),
        "{it}'s {what} {was} dropped: {other} adds a bias to the product with the input, and {it} adds none",
        one_way=True,
    ),
    Change(
        "biases dropped", BIASES, partial(_dropped, BIASES),
        "{it}'s {what} {was} dropped: {other} has biases, and {it} has none",
        one_way=True,
    ),
    Change(
        "biases exchanged", BIASES, _exchanged,
        "{it}'s {what} are exchanged, against {other}'s: the one of the input stands where that of the "
        "state belongs",
    ),
)  # fmt: skip
_SUMMED = Change(
    "biases added", BIASES, _summed,
    "{it}'s {what} were added into one, where {other} has two: the candidate's recurrent bias belongs inside "
    "the reset",
    one_way=True,
)  # fmt: skip
_FORGET = Change(
    "forget bias", ("b",), _forget,
    "{it}'s {what} {has} 1 more in the forget gate than {other}'s",
    one_way=True,
)  # fmt: skip


# -- precision -------------------------------------------------------------------------------------------


def _float16(layer: LayerSpec, array: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float64)


def _bfloat16(layer: LayerSpec, array: FloatArray) -> FloatArray:
    """Rounded to the nearest number of 8 bits, of two as near the even one."""
    bits = array.astype(np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)
