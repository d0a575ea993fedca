"""The orders in which gates are found, from the conventions of the frameworks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import permutations

from d2lrnn.contract import cells
from d2lrnn.ports.conventions import conventions, porting_backends
from d2lrnn.ports.description import CELLS

#: Orders of an LSTM's gates in which arrays are found beside those of the frameworks' own layers: ONNX,
#: Theano and its heirs, Chainer.
_FOUND_ORDERS = {
    cells.LSTM.name: (tuple("iofg"), tuple("ifog"), tuple("gifo")),
    cells.GRU.name: (tuple("zrn"),),
}


def gate_orders(cell: str, every: bool = False) -> list[tuple[str, ...]]:
    """The orders in which a layer may hold another's gates, where both read their own order.

    Those that come from reading an array in one framework's order as if it were in another's, and those
    with two gates exchanged; of three gates, or where `every` asks for it, all others behind them.
    """
    gates = CELLS[cell].gates
    known = [gates, *_known_orders(cell)]
    found = dict.fromkeys([*known, *(_read_as(held, read, gates) for held in known for read in known)])
    for pair in permutations(range(len(gates)), 2):
        if pair[0] < pair[1]:
            swapped = list(gates)
            swapped[pair[0]], swapped[pair[1]] = swapped[pair[1]], swapped[pair[0]]
            found[tuple(swapped)] = None
    if every or len(gates) <= 3:
        found |= dict.fromkeys(permutations(gates))
    return [order for order in found if order != gates]


@cache
def _known_orders(cell: str) -> dict[tuple[str, ...], str]:
    """The orders of the frameworks' layers, each with one that has it."""
    orders: dict[tuple[str, ...], str] = {}
    for backend in porting_backends():
        for row in conventions(backend):
            if row.cell == cell:
                orders.setdefault(row.gates, f"{backend}'s {row.layer}")
    return orders | {order: "" for order in _FOUND_ORDERS.get(cell, ()) if order not in orders}


def _read_as(held: Sequence[str], read: Sequence[str], gates: Sequence[str]) -> tuple[str, ...]:
    """Which gate comes to stand in the place of each, where an array's order is taken for another."""
    return tuple(held[list(read).index(gate)] for gate in gates)


def order_text(gates: tuple[str, ...], order: tuple[str, ...]) -> str:
    """What is said of gates in an order, with the layers that it may come from."""
    cell = next(kind.name for kind in CELLS.values() if kind.gates == gates)
    known = {each: layer for each, layer in _known_orders(cell).items() if layer}
    found = [
        (known[held], known[read])
        for held, read in permutations(known, 2)
        if _read_as(held, read, gates) == order
    ]
    origin = ""
    if found:
        back = ", or the other way round" if found[0][::-1] in found else ""
        origin = f" (as when arrays of {found[0][0]} are given to {found[0][1]} as they are{back})"
    return (
        f"the gates of {{it}}'s {{what}} stand in the order {', '.join(order)}, where {{other}} has "
        f"{', '.join(gates)}{origin}"
    )
