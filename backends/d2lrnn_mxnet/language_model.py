"""The language models: tokens, recurrent layers, and one output layer over all steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mxnet as mx
from mxnet import init, np
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from d2lrnn.contract.cells import cells_with_formula
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import KindError
from d2lrnn.generation import Predictor, continue_prefix
from d2lrnn_mxnet.concise import CONCISE
from d2lrnn_mxnet.dropout import drop
from d2lrnn_mxnet.layers import has_shape
from d2lrnn_mxnet.module import Classifier, device_of, move
from d2lrnn_mxnet.parameters import parameter_places
from d2lrnn_mxnet.prediction import EagerPredictor, GraphPredictor
from d2lrnn_mxnet.recurrence import Array, linear, value_of
from d2lrnn_mxnet.scratch import SCRATCH, ScratchCell, StackedRNNScratch, find_scratch
from d2lrnn_mxnet.semantics import use_np


@use_np
class RNNLMScratch(Classifier):
    """A language model on recurrent layers, with an output layer spelt out: ``O = H W_hq + b_q``.

    Args:
        rnn: the recurrent layers, called with (T, B, in) and a state; it has `num_hiddens`.
        vocab_size: V.
        lr: the learning rate of `configure_optimizers`.
        embedding_size: E, the size of the embedding vectors, with in = E; None takes one-hot vectors, with
            in = V.
        tied: whether the head's weight is the embedding's, transposed; E is then h.
        input_dropout: the rate at the embedding, while training.
        output_dropout: the rate between the last layer and the head, while training.

    Attributes:
        embedding: (V, E), only with `embedding_size`.
        W_hq: (h, V), not if `tied`.
        b_q: (V,).

    Example:
        >>> RNNLMScratch(RNNScratch(28, 32), vocab_size=28)(np.zeros((2, 5), dtype="int32")).shape
        (2, 5, 28)
    """

    # The defaults of a chapter's subclass that does not call this constructor.
    embedding_size: int | None = None
    tied = False
    input_dropout = output_dropout = 0.0
    _dtype: Any = "float32"

    def __init__(
        self,
        rnn: Any,
        vocab_size: int,
        lr: float = 0.01,
        *,
        embedding_size: int | None = None,
        tied: bool = False,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        with self.name_scope():
            self.init_params()

    def init_params(self) -> None:
        """Makes the output layer's parameters: N(0, σ²) with the layers' σ, and zeros.

        The arrays of a chapter's own layers get gradients, and uninitialised blocks are initialised.
        """
        sigma = getattr(self.rnn, "sigma", 0.01)
        V, normal = self.vocab_size, init.Normal(sigma)
        if self.embedding_size is not None:
            self.embedding = self.params.get("embedding", shape=(V, self.embedding_size), init=normal)
        if not self.tied:
            self.W_hq = self.params.get("W_hq", shape=(self.rnn.num_hiddens, V), init=normal)
        self.b_q = self.params.get("b_q", shape=(V,), init=init.Zero())
        self._begin()

    def _begin(self) -> None:
        for array in self.get_scratch_params():
            array.attach_grad()
        self.initialize()

    def cast(self, dtype: Any) -> None:
        """As Gluon's ``cast``."""
        super().cast(dtype)
        self._dtype = dtype

    def forward(self, tokens: Array, state: Any = None) -> Array:
        """Logits (B, T, V) for tokens (B, T)."""
        return self.unroll(tokens, state)[0]

    def unroll(self, tokens: Array, state: Any = None) -> tuple[Array, Any]:
        """Logits (B, T, V) for tokens (B, T), and the final state.

        Args:
            tokens: (B, T), indices in [0, V).
            state: what `rnn` returned before; None is zeros. It is not changed.
        """
        inputs = drop(self.one_hot(tokens), self.input_dropout, None)
        hiddens, state = self.rnn(inputs, state)
        # A chapter's layers return a list of the states of all steps.
        H = np.stack(hiddens) if isinstance(hiddens, (list, tuple)) else hiddens
        return self.output_layer(drop(H, self.output_dropout, None)), state

    def unroll_by_step(self, tokens: Array, state: Any = None, masks: Any = None) -> tuple[Array, Any]:
        """As `unroll`, time steps first: tokens (T, B) to logits (T, B, V). No large array is transposed.

        Args:
            tokens: (T, B), an array or the symbol of one.
            state: as for `unroll`.
            masks: dropout masks; None leaves dropout to MXNet: on inside ``autograd.record()``, else off.
        """
        inputs, between, outputs = (None, None, None) if masks is None else masks
        vectors = drop(self._vectors(tokens), self.input_dropout, inputs)
        hiddens, state = self.rnn(vectors, state, between)
        return self._logits(drop(hiddens, self.output_dropout, outputs)), state

    def one_hot(self, tokens: Array) -> Array:
        """The layers' inputs for tokens (B, T): one-hot vectors (T, B, V), or the embedding's (T, B, E)."""
        return self._vectors(tokens.T)

    def output_layer(self, hiddens: Array | Sequence[Array]) -> Array:
        """Logits (B, T, V) from hidden states (T, B, h), or a list of T, over all steps at once."""
        # A chapter's layers return a list of the states of all steps.
        H = np.stack(hiddens) if isinstance(hiddens, (list, tuple)) else hiddens
        return self._logits(H).swapaxes(0, 1)

    def _vectors(self, tokens: Array) -> Array:
        F = mx.nd if isinstance(tokens, NDArray) else mx.sym
        if self.embedding_size is None:
            return F.npx.one_hot(tokens, self.vocab_size, dtype=self._dtype)
        weight, sizes = value_of(self._embedding(), tokens), (self.vocab_size, self.embedding_size)
        return F.npx.embedding(tokens, weight, *sizes, dtype=self._dtype)

    def _embedding(self) -> Any:
        return self.embedding

    def _logits(self, hiddens: Array) -> Array:
        """(…, h) to (…, V)."""
        F = mx.nd if isinstance(hiddens, NDArray) else mx.sym
        weight = value_of(self.embedding if self.tied else self.W_hq, hiddens)
        b_q = value_of(self.b_q, hiddens)
        return linear(F, hiddens, weight if self.tied else weight.T, b_q, num_outputs=self.vocab_size)

    def training_step(self, batch: Sequence[Array]) -> Array:
        """The loss of a batch ``(tokens, targets)``, each (B, T); plots the perplexity."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", np.exp(loss.detach()), train=True)
        return loss

    def validation_step(self, batch: Sequence[Array]) -> Array:
        """As `training_step`, for validation."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("ppl", np.exp(loss), train=False)
        return loss

    def predict(self, prefix: str | Sequence[str], num_preds: int, vocab: Vocab, device: Any = None) -> Any:
        """Continues `prefix` by the likeliest tokens: no graph, dropout off.

        Args:
            prefix: the beginning: a text, or a list of tokens; it is turned to lower case where the text that
                `vocab` is of was. Of a list of texts each is continued, and a list comes back.
            num_preds: how many tokens to add.
            vocab: what the model was trained with.
            device: where to compute; the model is moved there. None is where it is.

        Raises:
            PromptError: the prefix is empty.
            SpecError: `num_preds` is negative.
        """
        if device is not None:
            move(self, device)
        return continue_prefix(self._predictor(), vocab, prefix, num_preds)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy and a pickle are built anew from what the model computes: Gluon's blocks have no copies.

        Raises:
            KindError: it has layers that are not the library's own.
        """
        from d2lrnn_mxnet.adapter import rebuilt_model  # which imports this module

        spec = getattr(self, "spec", None) or spec_of(self)
        if spec is None:
            raise KindError(
                f"this {type(self).__name__} has layers of its own, and Gluon cannot copy or pickle them: "
                "keep its parameters with save_parameters(file), and load them into a new model of the same "
                "class with load_parameters(file)"
            )
        parameters = {name: place.get() for name, place in parameter_places(self, spec).items()}
        return rebuilt_model, (spec, parameters), {"lr": self.lr}

    def _predictor(self) -> Predictor:
        spec, device = spec_of(self), device_of(self)
        if spec is None:
            return EagerPredictor(self.unroll, lambda batch_size: None, device)
        return GraphPredictor(spec, parameter_places(self, spec), device)


@use_np
class RNNLM(RNNLMScratch):
    """`RNNLMScratch` with Gluon's ``nn.Dense`` as output layer and ``nn.Embedding`` at the inputs.

    Attributes:
        embedding: tokens to vectors, only with `embedding_size`.
        linear: hidden states to logits; if `tied`, its weight is the embedding's.

    Example:
        >>> RNNLM(GRU(32, num_layers=2), vocab_size=28)(np.zeros((2, 5), dtype="int32")).shape
        (2, 5, 28)
    """

    def init_params(self) -> None:
        """Makes Gluon's layers, with Gluon's initial values."""
        tied = None
        if self.embedding_size is not None:
            self.embedding = nn.Embedding(self.vocab_size, self.embedding_size)
            tied = self.embedding.params if self.tied else None
        # For layers without `num_hiddens` Gluon infers the size at the first call.
        num_hiddens = getattr(self.rnn, "num_hiddens", 0)
        self.linear = nn.Dense(self.vocab_size, flatten=False, in_units=num_hiddens, params=tied)
        self._begin()

    def _embedding(self) -> Any:
        return self.embedding.weight

    def _logits(self, hiddens: Array) -> Array:
        return self.linear(hiddens)


def spec_of(model: RNNLMScratch) -> ModelSpec | None:
    """The specification of a language model; None if its layers or its head are not the library's own."""
    rnn = model.rnn
    layers = list(rnn.rnns) if type(rnn) is StackedRNNScratch else [rnn]
    kinds = {type(layer) for layer in layers}
    own = {RNNLMScratch, RNNLM}
    if len(kinds) > 1 or type(model) not in own or not all(map(has_shape, model.collect_params().values())):
        return None
    (kind,) = kinds
    concise = kind in CONCISE.values()
    if not concise and not _is_announced(kind):
        return None
    return ModelSpec(
        model.vocab_size,
        kind.cell.name,
        "concise" if concise else "scratch",
        rnn.num_hiddens,
        rnn.num_layers if concise else len(layers),
        reset_after=None if concise else layers[0].reset_after,
        dtype=model._dtype,
        embedding_size=model.embedding_size,
        tied=model.tied,
    )


def _is_announced(kind: type) -> bool:
    """Whether it is the class that is registered for its cell: a subclass may have another formula."""
    if not issubclass(kind, ScratchCell):
        return False
    name = kind.cell.name
    return (name in SCRATCH or name in cells_with_formula("mxnet")) and find_scratch(name) is kind
