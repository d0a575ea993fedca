"""The floor: the time of the matrix products alone that a training step cannot do without."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn_torch.devices import devices, full_precision, native_device
from d2lrnn_torch.products import times


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products` in the order in which they depend on each other.

    There is no activation, no graph and no update. What goes from step to step on the way forward are the
    first B·h numbers of a product, in place of what the gates would make of it: of the same size, and known
    no sooner. The weights are drawn so that a state keeps its length; one that shrank would end in numbers
    too small to be multiplied at full speed. On the way back the factors are drawn: PyTorch does one product
    after the other whatever is in them.

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
    B, T, h, V, L = batch_size, num_steps, spec.num_hiddens, spec.vocab_size, spec.num_layers
    width, dtype = spec.num_gates * h, getattr(torch, spec.dtype)
    on = native_device(choose_device(device, devices()))
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=random, dtype=dtype) * h**-0.5).to(on)

    # A GRU that resets before its product: the candidate's part is a product of its own, after the gates'.
    split = 2 * h if spec.reset_after is False else width
    w_h, w_h_transposed = drawn(h, split), drawn(split, h)
    w_hn, w_hn_transposed = drawn(h, width - split), drawn(width - split, h)
    w_x, w_x_transposed = drawn(h, width), drawn(width, h)
    head, head_transposed = drawn(h, V), drawn(V, h)
    rows, d_rows, d_logits = drawn(T * B, h), drawn(T * B, width), drawn(T * B, V)

    def forward_steps() -> None:
        H = rows[:B]
        for _ in range(T):
            H = _first(product(H, w_h), B, h)
            if split < width:
                H = product(H, w_hn)

    def backward_steps() -> None:
        for d in reversed(d_rows.split(B)[1:]):
            if split < width:
                product(_first(d, B, h), w_hn_transposed)
            product(_first(d, B, split), w_h_transposed)

    @torch.no_grad()
    def run() -> None:
        with full_precision(on):
            for layer in range(L):
                if layer:
                    product(rows, w_x)
                forward_steps()
            product(rows, head)
            product(d_logits, head_transposed)
            product(d_logits.t(), rows)
            for layer in reversed(range(L)):
                backward_steps()
                product(rows.t(), d_rows)
                if layer:
                    product(rows.t(), d_rows)
                    product(d_rows, w_x_transposed)
        if on.type == "cuda":
            torch.cuda.synchronize(on)

    return run


def _first(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """The matrix's first numbers as one of another shape, without a copy."""
    return matrix.flatten()[: rows * columns].view(rows, columns)


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` as the recurrences take it; a name of its own, so that a test can count."""
    return times(left, right)
