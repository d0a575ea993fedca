"""The floor: the time of the matrix products alone that a training step cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mxnet as mx
import numpy
from mxnet import npx
from mxnet.gluon import nn

from d2lrnn.adapter import ModelSpec
from d2lrnn.devices import choose_device
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.devices import available_devices, context_of
from d2lrnn_mxnet.recurrence import Array, linear

#: From so many hidden units on `linear`, on transposed copies, is faster than a product that transposes.
_WIDE = 256


@mx.util.use_np
def floor(spec: ModelSpec, batch_size: int, num_steps: int, *, device: str = "auto") -> Callable[[], None]:
    """The products of `d2lrnn.benchmark.products` in the order in which they depend on each other.

    One hybridised block, its memory laid out before, its steps written out. There is no activation and no
    update. What goes from step to step are h columns of a product, in place of what the gates would make of
    it: of the same size, and known no sooner. The weights are drawn so that a state keeps its length; one
    that shrank would end in numbers too small to be multiplied at full speed. Every product is either fed to
    a later one or returned.

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
    h, V = spec.num_hiddens, spec.vocab_size
    context = context_of(choose_device(device, available_devices()))
    block, random = _Products(spec, batch_size, num_steps), numpy.random.default_rng(0)
    block.hybridize(static_alloc=True, static_shape=True)

    def drawn(*shape: int) -> Array:
        return on_device(random.normal(0.0, h**-0.5, shape), spec.dtype, context)

    # Weights as a product wants them, (out, in), for the way forward and for the way back.
    given = [drawn(batch_size, h), drawn(block.split, h), drawn(h, block.split), drawn(V, h), drawn(h, V)]
    # Gluon warns of what a graph does not use.
    given += [drawn(h, h)] if block.split < block.width else []
    given += [drawn(block.width, h), drawn(h, block.width)] if spec.num_layers > 1 else []

    @mx.util.use_np
    def floor_once() -> None:
        block(*given)
        npx.waitall()

    return floor_once


@mx.util.use_np
class _Products(nn.HybridBlock):
    """All products of a step, as one graph."""

    def __init__(self, spec: ModelSpec, batch_size: int, num_steps: int) -> None:
        super().__init__()
        self._spec, self._batch_size, self._num_steps = spec, batch_size, num_steps
        self.width = spec.num_gates * spec.num_hiddens
        # A GRU that resets before its product: the candidate's part is a product of its own.
        self.split = 2 * spec.num_hiddens if spec.reset_after is False else self.width

    def hybrid_forward(
        self, F: Any, H: Array, w_h: Array, w_h_back: Array, head: Array, head_back: Array, *others: Array
    ) -> list[Array]:
        """Every product that feeds no other. The others: the candidate's weights; those of layers' inputs."""
        B, h, L, V = self._batch_size, self._spec.num_hiddens, self._spec.num_layers, self._spec.vocab_size
        w_n = others[0] if self.split < self.width else None
        w_x, w_x_back = others[-2:] if L > 1 else (None, None)
        last = (self._num_steps - 1) * B
        rows, results = [], []
        for layer in range(L):
            hiddens, H = self._recur(F, w_h, w_n, H)
            rows.append(hiddens)
            if layer + 1 < L:
                projected = product(F, hiddens, w_x, self.width)
                results.append(projected)
                # The last row of the projection is where the layer above begins.
                H = _part(F, _part(F, projected, 0, last, last + B), 1, 0, h)
        logits = product(F, rows[-1], head, V)
        d_rows = product(F, logits, head_back, h)
        results.append(self._over_rows(F, rows[-1], logits, V))
        for layer in reversed(range(L)):
            d_last = F.np.concatenate([_part(F, d_rows, 0, last, last + B)] * self._spec.num_gates, axis=1)
            d_gates = self._recur_back(F, w_h_back, w_n, d_last)
            results.append(self._over_rows(F, rows[layer], d_gates, self.width))
            if layer:
                # Not the rows of this layer: the same product twice could be made once.
                results.append(self._over_rows(F, rows[layer - 1], d_gates, self.width))
                d_rows = product(F, d_gates, w_x_back, h)
        return [*results, d_rows]

    def _recur(self, F: Any, w_h: Array, w_n: Array, H: Array) -> tuple[Array, Array]:
        hiddens, h = [], self._spec.num_hiddens
        for _ in range(self._num_steps):
            gates = product(F, H, w_h, self.split)
            if self.split < self.width:
                gates = product(F, _part(F, gates, 1, 0, h), w_n, h)
            H = _part(F, gates, 1, 0, h) if self.split == self.width > h else gates
            hiddens.append(H)
        return F.np.concatenate(hiddens, axis=0), H

    def _recur_back(self, F: Any, w_h_back: Array, w_n: Array, d_gates: Array) -> Array:
        h, steps = self._spec.num_hiddens, [d_gates]
        others = _part(F, d_gates, 1, h, self.width) if self.width > h else None
        for _ in range(self._num_steps - 1):
            d_first = d_gates
            if self.split < self.width:
                reset = product(F, _part(F, d_gates, 1, self.split, self.width), w_n, h)
                d_first = F.np.concatenate([reset, _part(F, d_gates, 1, h, self.split)], axis=1)
            d_gates = product(F, d_first, w_h_back, h)
            if others is not None:
                d_gates = F.np.concatenate([d_gates, others], axis=1)
            steps.append(d_gates)
        return F.np.concatenate(steps, axis=0)

    def _over_rows(self, F: Any, rows: Array, d_gates: Array, num_outputs: int) -> Array:
        """A weight's gradient: ``rows.T @ d_gates``."""
        if self._spec.num_hiddens >= _WIDE:
            return product(F, rows.T, d_gates.T, num_outputs)
        return product_over_rows(F, rows, d_gates)


def product(F: Any, left: Array, right: Array, num_outputs: int) -> Array:
    """``left @ right.T`` by the fastest operator; a name of its own, so that a test can count."""
    return linear(F, left, right, num_outputs=num_outputs)


def product_over_rows(F: Any, left: Array, right: Array) -> Array:
    """``left.T @ right`` without transposing them; a name of its own, so that a test can count."""
    return F.dot(left.as_nd_ndarray(), right.as_nd_ndarray(), transpose_a=True).as_np_ndarray()


def _part(F: Any, x: Array, axis: int, begin: int, end: int) -> Array:
    return F.slice_axis(x.as_nd_ndarray(), axis=axis, begin=begin, end=end).as_np_ndarray()
