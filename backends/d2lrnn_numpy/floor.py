"""The floor: the time of the matrix products alone that a training step cannot do without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn_numpy.devices import CPU
from d2lrnn_numpy.recurrence import rows_apart


def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products` in the order in which they depend on each other.

    There is no activation and no update. What goes from step to step are the first h columns of a product,
    in place of what the gates would make of it: of the same size, and known no sooner. The weights are drawn
    so that a state keeps its length; one that shrank would end in numbers too small to be multiplied at full
    speed. All memory is laid out before.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.
        device: see `d2lrnn.contract.protocols.Backend.learner`.

    Returns:
        A function without arguments that runs them all, once.

    Example:
        >>> floor(ModelSpec(28, num_hiddens=512), batch_size=32, num_steps=35)()
    """
    choose_device(device, [CPU])
    B, T, h, V, L = batch_size, num_steps, spec.num_hiddens, spec.vocab_size, spec.num_layers
    width, dtype = spec.num_gates * h, spec.dtype
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> FloatArray:
        return random.normal(0.0, h**-0.5, shape).astype(dtype)

    # A GRU that resets before its product: the candidate's part is a product of its own, after the gates'.
    split = 2 * h if spec.reset_after is False else width
    w_h, w_hn = rows_apart(drawn(h, split), T), rows_apart(drawn(h, width - split), T)
    w_h_transposed, w_hn_transposed = rows_apart(w_h.T, T), rows_apart(w_hn.T, T)
    w_x, w_x_transposed = drawn(h, width), drawn(width, h)
    head, head_transposed = drawn(h, V), drawn(V, h)
    hiddens, gates, gradients = drawn(T, B, h), drawn(T, B, width), drawn(T, B, width)
    logits, d_logits, d_inputs = drawn(T * B, V), drawn(T * B, V), drawn(T * B, h)
    d_weights, d_head = drawn(h, width), drawn(h, V)

    def forward_steps() -> None:
        H = hiddens[0]
        for t in range(T):
            product(H, w_h, gates[t, :, :split])
            if split < width:
                product(gates[t, :, :h], w_hn, gates[t, :, split:])
            H = gates[t, :, -h:]

    def backward_steps() -> None:
        for t in reversed(range(1, T)):
            d_previous = gradients[t - 1, :, :h]
            if split < width:
                product(gradients[t, :, split:], w_hn_transposed, gradients[t, :, :h])
            product(gradients[t, :, :split], w_h_transposed, d_previous)

    def run() -> None:
        rows = hiddens.reshape(T * B, h)
        for layer in range(L):
            if layer:
                product(rows, w_x, gates.reshape(T * B, width))
            forward_steps()
        product(rows, head, logits)
        product(d_logits, head_transposed, d_inputs)
        product(rows.T, d_logits, d_head)
        d_rows = gradients.reshape(T * B, width)
        for layer in reversed(range(L)):
            backward_steps()
            product(rows.T, d_rows, d_weights)
            if layer:
                product(rows.T, d_rows, d_weights)
                product(d_rows, w_x_transposed, d_inputs)

    return run


def product(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """``left @ right``; a name of its own, so that a test can count."""
    np.matmul(left, right, out=out)
