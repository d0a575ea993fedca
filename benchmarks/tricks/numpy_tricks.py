"""The tricks of the NumPy backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from d2lrnn_numpy import layer
from d2lrnn_numpy.formulas import find_formula
from d2lrnn_numpy.recurrence import FAST, StepRecurrence, rows_apart
from run import Trick

from d2lrnn.contract.cells import CELLS
from d2lrnn.contract.values import FloatArray

C, M = (32, 35, 512), (1024, 32, 32)


def tricks() -> list[Trick]:
    """All tricks of this backend."""
    return [
        *(_recurrence(name, *sizes) for name in FAST for sizes in (C, M)),
        _rows_apart(),
        *_sums_by_token(),
    ]


def _recurrence(name: str, B: int, T: int, h: int) -> Trick:
    """Forward and backward pass of one layer: all steps by hand, and the formula step by step."""
    cell, random = CELLS[name], np.random.default_rng(0)
    reset_after = cell.reset_bias is not None
    shapes = cell.shapes(h, h, reset_after=reset_after)
    weights = {key: _drawn(random, h, shape) for key, shape in shapes.items() if key not in ("w_x", "b")}
    projected = _drawn(random, h, (T, B, shapes["b"][0]))
    state = tuple(_drawn(random, h, (B, h)) for _ in cell.states)
    d_outputs = _drawn(random, h, (T, B, h))

    def run(recurrence: Any) -> Callable[[], Any]:
        def forth_and_back() -> Any:
            recurrence.forward(projected.copy(), weights, state)
            return recurrence.backward(d_outputs)

        return forth_and_back

    fast, plain = FAST[name](reset_after), StepRecurrence(find_formula(name))
    where = f"recurrence.{type(fast).__name__}"
    return Trick(f"{cell.title}, all steps by hand", where, f"{B} x {T} x {h}", run(fast), run(plain), 1e-4)


def _rows_apart() -> Trick:
    B, T, h = C
    random = np.random.default_rng(0)
    H, w = _drawn(random, h, (B, h)), _drawn(random, h, (h, 4 * h))
    out = np.empty((B, 4 * h), np.float32)

    def products(w: FloatArray) -> FloatArray:
        for _ in range(T):
            np.matmul(H, w, out=out)
        return out

    return Trick(
        "rows of a weight apart in memory, copied once a sequence", "recurrence.rows_apart",
        f"{T} products {B} x {h} x {4 * h}", lambda: products(rows_apart(w, T)), lambda: products(w),
    )  # fmt: skip


def _sums_by_token() -> list[Trick]:
    """A small vocabulary by a one-hot product, a large one by sorting; each against the other way."""
    found = []
    for vocab_size in (28, 10_000):
        random = np.random.default_rng(0)
        tokens = random.integers(0, vocab_size, C[0] * C[1]).astype(np.int32)
        rows = _drawn(random, 1, (len(tokens), C[2]))

        def summed(limit: int, tokens: Any = tokens, rows: Any = rows, V: int = vocab_size) -> FloatArray:
            kept, layer._ONE_HOT_LIMIT = layer._ONE_HOT_LIMIT, limit
            try:
                return layer.sum_rows_by_token(tokens, rows, V)
            finally:
                layer._ONE_HOT_LIMIT = kept

        by_product = vocab_size <= layer._ONE_HOT_LIMIT
        own, other = layer._ONE_HOT_LIMIT, 0 if by_product else vocab_size
        found.append(
            Trick(
                f"rows of tokens summed by {'a one-hot product' if by_product else 'sorting'}",
                "layer.sum_rows_by_token",
                f"{len(tokens)} tokens of {vocab_size}",
                partial(summed, own),
                partial(summed, other),
            )
        )
    return found


def _drawn(random: np.random.Generator, h: int, shape: tuple[int, ...]) -> FloatArray:
    return random.normal(0, h**-0.5, shape).astype(np.float32)
