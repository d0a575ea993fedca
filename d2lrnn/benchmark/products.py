"""The matrix products that a training step cannot do without, and how many multiply-adds they are.

B = batch size, T = time steps, h = hidden units, G = gates, V = vocabulary size. For every layer:

=========================  =================================  ============================================
recurrence, forward        T products (B, h) @ (h, G·h)       each waits for the one before it
recurrence, backward       T - 1 products (B, G·h) @ (G·h, h) likewise; the state that the batch came with
                                                              needs no gradient
its weights' gradient      (h, T·B) @ (T·B, G·h)              one product, after the loop
=========================  =================================  ============================================

and for every layer but the first, whose one-hot inputs pick rows and need no product,

=========================  =================================
inputs                     (T·B, h) @ (h, G·h)
their weights' gradient    (h, T·B) @ (T·B, G·h)
gradient of the inputs     (T·B, G·h) @ (G·h, h)
=========================  =================================

and once for the output layer (T·B, h) @ (h, V), (h, T·B) @ (T·B, V) and (T·B, V) @ (V, h).

A GRU that resets before the product has two products a step where others have one: (B, h) @ (h, 2·h) for the
gates, and then, of what the reset gate made of the state, (B, h) @ (h, h). There are as many multiply-adds.
"""

from __future__ import annotations

from d2lrnn.contract.specs import ModelSpec


def multiply_adds(spec: ModelSpec, batch_size: int, num_steps: int) -> int:
    """How many multiply-adds the products of a training step are.

    Args:
        spec: the model.
        batch_size: B.
        num_steps: T.

    Example:
        >>> multiply_adds(ModelSpec(10, num_hiddens=4), batch_size=2, num_steps=3)
        976
    """
    h, width, tokens = spec.num_hiddens, spec.num_gates * spec.num_hiddens, batch_size * num_steps
    recurrence = (tokens + (tokens - batch_size) + tokens) * h * width
    inputs = 3 * tokens * h * width
    head = 3 * tokens * h * spec.vocab_size
    return spec.num_layers * recurrence + (spec.num_layers - 1) * inputs + head
