"""The benchmark's floor: the time of the matrix products alone that no training step can avoid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from d2lrnn.benchmark.products import factors
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn_torch.devices import devices, full_precision, native_device
from d2lrnn_torch.products import times


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products`, one after the other: outside of any graph.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.
        device: see `d2lrnn.contract.protocols.Backend.learner`.

    Returns:
        A function without arguments that runs them all, once, and waits until they are done.

    Example:
        >>> floor(ModelSpec(28, num_hiddens=512), batch_size=32, num_steps=35)()
    """
    on = native_device(choose_device(device, devices()))

    def tensor(array: FloatArray, rows: int = 0) -> Tensor:
        return torch.from_numpy(array).to(on)

    pairs = factors(spec, batch_size, num_steps, tensor, tensor)

    @torch.no_grad()
    def run() -> None:
        with full_precision(on):
            for left, right in pairs:
                product(left, right)
        if on.type == "cuda":
            torch.cuda.synchronize(on)

    return run


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` as the recurrences compute it; a test counts the calls."""
    return times(left, right)
