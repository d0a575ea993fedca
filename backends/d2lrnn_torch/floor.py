"""The floor: the time of the matrix products alone that a training step cannot do without."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from d2lrnn.adapter import ModelSpec
from d2lrnn.devices import choose_device
from d2lrnn_torch.devices import devices, full_precision, native_device


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products` in the order in which they depend on each other.

    There is no activation, no graph and no update. What goes from step to step are h columns of a product, in
    place of what the gates would make of it: of the same size, and known no sooner. The weights are drawn so
    that a state keeps its length; one that shrank would end in numbers too small to be multiplied at full
    speed. All memory is laid out before.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.
        device: see `d2lrnn.adapter.Backend.learner`.

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

    w_h, w_x = drawn(h, width), drawn(h, width)
    w_h_transposed, w_x_transposed = w_h.t().contiguous(), w_x.t().contiguous()
    head, head_transposed = drawn(h, V), drawn(V, h)
    hiddens, gates, gradients = drawn(T, B, h), drawn(T, B, width), drawn(T, B, width)
    logits, d_logits, d_inputs = drawn(T * B, V), drawn(T * B, V), drawn(T * B, h)
    d_weights, d_head = drawn(h, width), drawn(h, V)
    rows, d_rows = hiddens.flatten(0, 1), gradients.flatten(0, 1)
    # A GRU that resets before its product: the candidate's part is a product of its own, after the gates'.
    split = 2 * h if spec.reset_after is False else width

    def forward_steps() -> None:
        H = hiddens[0]
        for gate in gates:
            product(H, w_h[:, :split], gate[:, :split])
            if split < width:
                product(gate[:, :h], w_h[:, split:], gate[:, split:])
            H = gate[:, -h:]

    def backward_steps() -> None:
        for t in reversed(range(1, T)):
            if split < width:
                product(gradients[t, :, split:], w_h_transposed[split:], gradients[t, :, :h])
            product(gradients[t, :, :split], w_h_transposed[:split], gradients[t - 1, :, :h])

    @torch.no_grad()
    def run() -> None:
        with full_precision(on):
            for layer in range(L):
                if layer:
                    product(rows, w_x, gates.flatten(0, 1))
                forward_steps()
            product(rows, head, logits)
            product(d_logits, head_transposed, d_inputs)
            product(rows.t(), d_logits, d_head)
            for layer in reversed(range(L)):
                backward_steps()
                product(rows.t(), d_rows, d_weights)
                if layer:
                    product(rows.t(), d_rows, d_weights)
                    product(d_rows, w_x_transposed, d_inputs)
        if on.type == "cuda":
            torch.cuda.synchronize(on)

    return run


def product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """``left @ right``; a name of its own, so that a test can count."""
    torch.mm(left, right, out=out)
