"""The floor of the benchmark: it makes all products that a training step needs, and no others."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from math import inf
from types import ModuleType
from typing import Any

import pytest
from parity.models import name_of

from d2lrnn.benchmark.products import multiply_adds
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import DeviceError

SPECS = [
    ModelSpec(11, cell, implementation, 8, layers)
    for cell, implementation in (
        ("rnn", "scratch"),
        ("gru", "scratch"),
        ("gru", "concise"),
        ("lstm", "concise"),
    )
    for layers in (1, 3)
]
BATCH_SIZE, NUM_STEPS = 4, 5


@pytest.fixture
def floor_module(backend: Backend) -> ModuleType:
    return import_module(type(backend).__module__.replace("adapter", "floor"))


def _uncompiled_jax() -> AbstractContextManager[Any]:
    jax: Any = import_module("jax")
    return jax.disable_jit()  # loops run in Python, step by step


#: Counting needs every product to be made when it is called for.
UNCOMPILED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "jax": _uncompiled_jax,
}


def _multiply_adds(left: tuple[int, int], right: tuple[int, int]) -> int:
    """Of a product of two matrices, transposed or not: they are summed over the size that they share.

    Two that share both, hidden states and gradients of all steps, are summed over the steps.
    """
    common = max(set(left) & set(right))
    return left[0] * left[1] * right[0] * right[1] // common**2 * common


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_the_products_are_those_that_a_step_needs(
    backend: Backend, floor_module: ModuleType, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def counting(make: Callable[..., Any]) -> Callable[..., Any]:
        def product(*operands: Any, **options: Any) -> Any:
            left, right = [part for part in operands if not isinstance(part, (ModuleType, int))][:2]
            counted.append(_multiply_adds(left.shape, right.shape))
            return make(*operands, **options)

        return product

    monkeypatch.setattr(floor_module, "product", counting(floor_module.product))
    with UNCOMPILED.get(backend.name, nullcontext)():
        floor_module.floor(spec, BATCH_SIZE, NUM_STEPS, device="cpu")()
    assert sum(counted) == multiply_adds(spec, BATCH_SIZE, NUM_STEPS)


@pytest.mark.parametrize(
    ("cell", "implementation"), [("rnn", "scratch"), ("gru", "scratch"), ("lstm", "concise")]
)
def test_the_time_grows_with_the_shapes(floor_module: ModuleType, cell: Any, implementation: Any) -> None:
    def run(hiddens: int, layers: int, batch_size: int, num_steps: int) -> Callable[[], None]:
        spec = ModelSpec(28, cell, implementation, hiddens, layers)
        return floor_module.floor(spec, batch_size, num_steps, device="cpu")

    base = run(256, 1, 32, 8)
    # Each has four times the products, or five. What is optimised away would take no more time than before.
    for larger in (run(512, 1, 32, 8), run(256, 2, 64, 8), run(256, 1, 32, 32)):
        least = [inf, inf]
        for _ in range(9):  # in turn: what else the machine does slows both
            for i, made in enumerate((base, larger)):
                started = time.perf_counter()
                made()
                least[i] = min(least[i], time.perf_counter() - started)
        assert least[1] > 1.8 * least[0]


def test_a_device_that_is_not_there_is_an_error(floor_module: ModuleType) -> None:
    with pytest.raises(DeviceError, match="gpu:99"):
        floor_module.floor(SPECS[0], BATCH_SIZE, NUM_STEPS, device="gpu:99")
