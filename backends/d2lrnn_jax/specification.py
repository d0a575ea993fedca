"""From a `d2lrnn.contract.specs.ModelSpec` to a flax module, and back."""

from __future__ import annotations

from typing import Any

from flax import linen as nn

from d2lrnn.contract.specs import Cell, ModelSpec
from d2lrnn.errors import SpecError
from d2lrnn_jax.concise import GRU, LSTM, RNN
from d2lrnn_jax.language_model import RNNLM, RNNLMScratch
from d2lrnn_jax.scratch import GRUScratch, LSTMScratch, RNNScratch, StackedRNNScratch

_CONCISE: dict[Cell, type[RNN]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
_SCRATCH: dict[Cell, type[RNNScratch]] = {"rnn": RNNScratch, "gru": GRUScratch, "lstm": LSTMScratch}


def module_of(spec: ModelSpec) -> RNNLMScratch:
    """The module that computes `spec`; equal specifications give equal modules, which compile once."""
    V, h, L = spec.vocab_size, spec.num_hiddens, spec.num_layers
    if spec.implementation == "concise":
        return RNNLM(_CONCISE[spec.cell](h, L, spec.dropout), V)
    layer = gru_reset_after if spec.reset_after else _SCRATCH[spec.cell]
    return RNNLMScratch(layer(V, h) if L == 1 else StackedRNNScratch(V, h, L, layer=layer), V)


def gru_reset_after(num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> GRUScratch:
    """A layer for `StackedRNNScratch`: a GRU that resets after the matrix product."""
    return GRUScratch(num_inputs, num_hiddens, sigma, reset_after=True)


def spec_of(model: nn.Module) -> ModelSpec:
    """What a bound model computes.

    Raises:
        SpecError: it is not bound to parameters, or not a language model of this package.
    """
    if not isinstance(model, RNNLMScratch) or model.scope is None:
        raise SpecError("a learner needs a language model of d2lrnn_jax with its parameters: "
                        "RNNLM(…).bind({'params': …})")  # fmt: skip
    params = model.variables["params"]
    rnn = model.rnn
    num_layers = getattr(rnn, "num_layers", 1)
    kinds: dict[type, Cell] = {kind: cell for table in (_CONCISE, _SCRATCH) for cell, kind in table.items()}
    first = rnn.rnns[0] if isinstance(rnn, StackedRNNScratch) else rnn
    if type(first) not in kinds:
        raise SpecError(f"{type(first).__name__} is none of this package's recurrent layers")
    cell = kinds[type(first)]
    concise = isinstance(first, RNN)
    return ModelSpec(
        model.vocab_size,
        cell,
        "concise" if concise else "scratch",
        rnn.num_hiddens,
        num_layers,
        dropout=rnn.dropout if concise else 0.0,
        reset_after=(concise or first.reset_after) if cell == "gru" else None,
        dtype=_dtype_of(params),
    )


def _dtype_of(params: Any) -> Any:
    return str(params["linear"]["kernel"].dtype if "linear" in params else params["W_hq"].dtype)
