"""The parts of a translator (`d2lrnn.translation.spec`) that are compiled, as Gluon blocks.

B = batch size, S = source steps, T = target steps, h = hidden units, E = embedding size, L = layers, V =
vocabulary size. The parameters have their canonical names and layouts: all weights are (in, out). Shapes are
those of ``mx.np`` arrays; in the loop over the decoder's steps there are legacy arrays, whose sums and
products do not broadcast.

What a sentence is padded with needs no care in the encoder's loop: the states after the last token are
computed and not used. ``SequenceLast`` takes the state after the last token, and attention's weights are zero
behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from d2lrnn.contract.cells import GRU
from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn_mxnet.activations import tanh
from d2lrnn_mxnet.dropout import drop
from d2lrnn_mxnet.recurrence import Array, Gates, cut, linear, value_of
from d2lrnn_mxnet.scratch import GRUScratch

#: The parameters by canonical name, as arrays or symbols.
Weights = Mapping[str, Array]

#: From (…, in) to the products with a weight's columns, (…, h) for each gate.
Product = Callable[[Array], list[Array]]


class Part(nn.HybridBlock):
    """A function of arrays and the translator's parameters.

    Args:
        spec: the translator.
        parameters: by canonical name; they stay their owner's.
        shapes: those of its arguments: a symbol has none.
    """

    #: What the names of the parameters that it uses begin with.
    uses: ClassVar[tuple[str, ...]]

    def __init__(
        self, spec: TranslatorSpec, parameters: gluon.ParameterDict, shapes: Sequence[tuple[Any, ...]]
    ) -> None:
        super().__init__()
        self._spec, self._shapes = spec, shapes
        self.params.update({name: each for name, each in parameters.items() if name.startswith(self.uses)})

    def _weights(self, like: Array) -> Weights:
        return {name: value_of(parameter, like) for name, parameter in self.params.items()}


@mx.util.use_np
class Teach(Part):
    """All logits, with the right target as the decoder's input."""

    uses = ("encoder.", "attention.", "decoder.", "head.")

    def hybrid_forward(
        self, F: Any, source: Array, lengths: Array, inputs: Array, of_encoder: Any, of_decoder: Any
    ) -> Array:
        """Logits (T, B, V).

        Args:
            F: ``mx.nd`` or ``mx.sym``.
            source: int32 (B, S).
            lengths: int32 (B,).
            inputs: int32 (B, T).
            of_encoder: dropout masks, L - 1 arrays (S, B, h), or none.
            of_decoder: L - 1 arrays (T, B, h), or none.
        """
        spec, weights, (B, T) = self._spec, self._weights(source), self._shapes[2]
        memory, states = encode(F, spec, weights, source, lengths, of_encoder, B)
        decoder = Decoder(F, spec, weights, memory, B, _by_cut_weight)
        X, masks = (
            [cut(F, part, T, squeeze=True) for part in parts]
            for parts in (decoder.embed(inputs.T), of_decoder)
        )
        outputs = []
        for t in range(T):
            states = decoder.step([part[t] for part in X], states, [mask[t] for mask in masks])
            outputs.append(states[-1])
        return linear(
            F, F.np.stack(outputs), weights["head.w"].T, weights["head.b"], num_outputs=spec.target_size
        )


@mx.util.use_np
class Read(Part):
    """The encoder alone."""

    uses = ("encoder.", "attention.w_k")

    def hybrid_forward(self, F: Any, source: Array, lengths: Array) -> tuple[list[Array], list[Array]]:
        """What `encode` returns, of int32 (B, S) and (B,)."""
        B = self._shapes[0][0]
        return encode(F, self._spec, self._weights(source), source, lengths, [], B)


@mx.util.use_np
class Write(Part):
    """One step of the decoder."""

    uses = ("attention.w_q", "attention.w_v", "decoder.", "head.")

    def hybrid_forward(self, F: Any, tokens: Array, memory: Any, states: Any) -> tuple[Array, list[Array]]:
        """Logits (B, V) and the next states, of tokens (B,) and what `encode` or a step before returned."""
        weights, (B,) = self._weights(tokens), self._shapes[0]
        decoder = Decoder(F, self._spec, weights, memory, B, _by_whole_weight)
        states = decoder.step(decoder.embed(tokens), states, [])
        # Not `linear`, which takes a weight (out, in): to transpose it takes longer than the product.
        return F.np.dot(states[-1], weights["head.w"]) + weights["head.b"], states


def encode(
    F: Any,
    spec: TranslatorSpec,
    weights: Weights,
    source: Array,
    lengths: Array,
    masks: Sequence[Array],
    batch_size: int,
) -> tuple[list[Array], list[Array]]:
    """The encoder.

    Args:
        F: ``mx.nd`` or ``mx.sym``.
        spec: the translator.
        weights: its parameters.
        source: int32 (B, S).
        lengths: int32 (B,).
        masks: dropout masks, L - 1 arrays (S, B, h), or none.
        batch_size: B.

    Returns:
        What the decoder's context is made of: M (B, S, h), M w_k (B, S, h) and the lengths, or M_n (B, h)
        alone. And the layers' states after the last token, each (B, h).
    """
    X = F.npx.embedding(
        source.T, weights["encoder.embedding"], spec.source_size, spec.embedding_size, dtype=spec.dtype
    )
    finals = []
    for l in range(spec.num_layers):
        if l:
            X = drop(X, spec.dropout, masks, l - 1)
        X = _fused(F, X, spec, weights, f"encoder.{l}", batch_size)
        last = F.SequenceLast(X.as_nd_ndarray(), lengths.as_nd_ndarray(), use_sequence_length=True)
        finals.append(last.as_np_ndarray())
    if not spec.attention:
        return [finals[-1]], finals
    M = F.np.swapaxes(X, 0, 1)
    return [M, F.np.dot(M, weights["attention.w_k"]), lengths], finals


def _fused(F: Any, X: Array, spec: TranslatorSpec, weights: Weights, prefix: str, batch_size: int) -> Array:
    """A GRU's states (S, B, h) of all steps, of X (S, B, in), by MXNet's operator for whole recurrences."""
    h = spec.num_hiddens
    w_x, w_h, b, b_hn = (weights[f"{prefix}.{name}"] for name in ("w_x", "w_h", "b", "b_hn"))
    # The operator has a recurrent bias for each gate; those of r and z are not trained.
    zeros = F.np.zeros_like(b_hn)
    packed = F.np.concatenate([w_x.T.reshape(-1), w_h.T.reshape(-1), b, zeros, zeros, b_hn], axis=0)
    before = F.np.broadcast_to(zeros, (1, batch_size, h))
    return F.npx.rnn(X, packed, before, state_size=h, num_layers=1, mode=GRU.name)


class Decoder:
    """The decoder's steps in a graph.

    Args:
        F: ``mx.nd`` or ``mx.sym``.
        spec: the translator.
        weights: its parameters.
        memory: what `encode` returned for the context.
        batch_size: B.
        product: makes products with a weight (in, 3h), cut by gates.
    """

    def __init__(
        self,
        F: Any,
        spec: TranslatorSpec,
        weights: Weights,
        memory: Sequence[Array],
        batch_size: int,
        product: Callable[[Any, Array, int], Product],
    ) -> None:
        self._F, self._spec, self._embedding = F, spec, weights["decoder.embedding"]
        E, h = spec.embedding_size, spec.num_hiddens
        w_x = [weights[f"decoder.{l}.w_x"].as_nd_ndarray() for l in range(spec.num_layers)]
        self._of_token = product(F, F.slice_axis(w_x[0], axis=0, begin=0, end=E), h)
        of_context = product(F, F.slice_axis(w_x[0], axis=0, begin=E, end=None), h)
        self._of_context = _context(F, spec, weights, memory, of_context)
        # What is below the first layer comes in two parts, which are added.
        self._of_below = [None, *(product(F, weight, h) for weight in w_x[1:])]
        self._layers = [
            _Layer(
                product(F, weights[f"decoder.{l}.w_h"].as_nd_ndarray(), h),
                [_rows(F, bias, batch_size) for bias in cut(F, weights[f"decoder.{l}.b"], len(GRU.gates))],
                _rows(F, weights[f"decoder.{l}.b_hn"], batch_size),
            )
            for l in range(spec.num_layers)
        ]

    def embed(self, tokens: Array) -> list[Array]:
        """What the tokens (…) give the first layer: (…, h) for each gate."""
        sizes = self._spec.target_size, self._spec.embedding_size
        vectors = self._F.npx.embedding(tokens, self._embedding, *sizes, dtype=self._spec.dtype)
        return [X.as_np_ndarray() for X in self._of_token(vectors.as_nd_ndarray())]

    def step(self, X: Sequence[Array], states: Sequence[Array], masks: Sequence[Array]) -> list[Array]:
        """The next states, each (B, h).

        Args:
            X: (B, h) for each gate, of `embed`.
            states: those before.
            masks: dropout masks, L - 1 arrays (B, h), or none.
        """
        H = [state.as_nd_ndarray() for state in states]
        masks = [mask.as_nd_ndarray() for mask in masks]
        X = _sums([part.as_nd_ndarray() for part in X], self._of_context(H[-1]))
        for l, (layer, of_below) in enumerate(zip(self._layers, self._of_below, strict=True)):
            if of_below is not None:
                X = of_below(drop(H[l - 1], self._spec.dropout, masks, l - 1))
            H[l] = layer.step(X, H[l])
        return [state.as_np_ndarray() for state in H]


class _Layer(NamedTuple):
    """A GRU of the decoder.

    Attributes:
        of_state: the product with w_h.
        b: (B, h) for each gate.
        b_hn: (B, h).
    """

    of_state: Product
    b: list[Array]
    b_hn: Array

    def step(self, X: Sequence[Array], H: Array) -> Array:
        """The next state (B, h), of x w_x (B, h) for each gate and the state before."""
        (H_next,) = GRUScratch.step(_Gates(_sums(X, self.b), self.of_state(H), self.b_hn), (H,))
        return H_next


def _context(
    F: Any, spec: TranslatorSpec, weights: Weights, memory: Sequence[Array], product: Product
) -> Product:
    """From the last layer's state (B, h) to what the context gives the first layer.

    With attention by additive scores (Bahdanau et al. 2015, section 3.1).
    """
    memory = [part.as_nd_ndarray() for part in memory]
    if not spec.attention:
        constant = product(memory[0])
        return lambda query: constant
    w_q, w_v = (weights[f"attention.{name}"].as_nd_ndarray() for name in ("w_q", "w_v"))
    M, keys, lengths = memory
    ones = F.ones_like(F.slice_axis(keys, axis=2, begin=0, end=1))

    def attend(query: Array) -> list[Array]:
        # Repeated by a product: the gradient of a sum that broadcasts is slow.
        repeated = F.batch_dot(ones, F.expand_dims(F.dot(query, w_q), axis=1))
        scores = F.dot(tanh(keys + repeated), w_v)
        shares = F.softmax(scores, lengths, use_length=True)
        return product(F.squeeze(F.batch_dot(F.expand_dims(shares, axis=1), M), axis=1))

    return attend


class _Gates(Gates):
    """X and H w_h, (B, h) for each gate."""

    def __init__(self, X: Sequence[Array], products: Sequence[Array], b_hn: Array) -> None:
        super().__init__(GRU, {"b_hn": b_hn})
        self._X, self._products = X, products

    def inputs(self, *gates: str) -> list[Array]:
        return [self._X[k] for k in self._numbers(gates)]

    def products(self, H: Array, *gates: str) -> list[Array]:
        return [self._products[k] for k in self._numbers(gates)]


def _by_cut_weight(F: Any, weight: Array, h: int) -> Product:
    """Products for training: the weight is cut once for all steps, as cutting the results is slow."""
    parts = [part.T.as_nd_ndarray() for part in cut(F, weight.as_np_ndarray().T, len(GRU.gates))]
    return lambda x: [F.dot(x, part) for part in parts]


def _by_whole_weight(F: Any, weight: Array, h: int) -> Product:
    """Products for a single step, in which cutting the weight takes longer than the product."""

    def product(x: Array) -> list[Array]:
        whole = F.dot(x, weight)
        # Faster than SliceChannel, without a gradient.
        return [F.slice_axis(whole, axis=-1, begin=k * h, end=(k + 1) * h) for k in range(len(GRU.gates))]

    return product


def _sums(one: Sequence[Array], other: Sequence[Array]) -> list[Array]:
    return [a + b for a, b in zip(one, other, strict=True)]


def _rows(F: Any, vector: Array, batch_size: int) -> Array:
    """A vector (h,) as B equal rows: the gradient of a sum that broadcasts is slow."""
    return F.broadcast_axis(F.expand_dims(vector.as_nd_ndarray(), axis=0), axis=0, size=batch_size)
