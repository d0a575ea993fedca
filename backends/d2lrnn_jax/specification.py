"""From a `d2lrnn.contract.specs.ModelSpec` to a flax module, and back."""

from __future__ import annotations

from typing import Any

from flax import linen as nn

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import SpecError
from d2lrnn_jax.concise import MODELS, RNN
from d2lrnn_jax.language_model import RNNLM, RNNLMScratch
from d2lrnn_jax.layer import ScratchLayer
from d2lrnn_jax.scratch import StackedRNNScratch, find_layer, resetting_after


def module_of(spec: ModelSpec) -> RNNLMScratch:
    """The module that computes `spec`; equal specifications give equal modules, which compile once.

    Raises:
        SpecError: the cell has no formula for JAX.
    """
    concise = spec.implementation == "concise"
    model: Any = RNNLM if concise else RNNLMScratch
    return model(
        _concise_layers(spec) if concise else _scratch_layers(spec),
        spec.vocab_size,
        embedding_size=spec.embedding_size,
        tied=spec.tied,
        input_dropout=spec.input_dropout,
        output_dropout=spec.output_dropout,
    )


def _concise_layers(spec: ModelSpec) -> RNN:
    return MODELS[spec.cell](spec.num_hiddens, spec.num_layers, spec.dropout)


def _scratch_layers(spec: ModelSpec) -> nn.Module:
    layer: Any = find_layer(spec.cell)
    if spec.reset_after:
        layer = resetting_after(layer)
    sizes = spec.num_inputs, spec.num_hiddens
    if spec.num_layers == 1 and not spec.dropout:
        return layer(*sizes)
    return StackedRNNScratch(*sizes, spec.num_layers, layer=layer, dropout=spec.dropout)


def spec_of(model: nn.Module) -> ModelSpec:
    """The specification of a bound model.

    Raises:
        SpecError: it is not bound to parameters, or not a language model of this package.
    """
    if not isinstance(model, RNNLMScratch) or model.scope is None:
        raise SpecError("a learner needs a language model of d2lrnn_jax with its parameters: "
                        "RNNLM(…).bind({'params': …})")  # fmt: skip
    rnn = model.rnn
    first = rnn.rnns[0] if isinstance(rnn, StackedRNNScratch) else rnn
    if not _is_known(first):
        raise SpecError(f"{type(first).__name__} is not one of d2lrnn_jax's recurrent layers")
    concise = isinstance(first, RNN)
    return ModelSpec(
        model.vocab_size,
        first.cell.name,
        "concise" if concise else "scratch",
        rnn.num_hiddens,
        getattr(rnn, "num_layers", 1),
        dropout=getattr(rnn, "dropout", 0.0),
        reset_after=(concise or first.reset_after) if first.cell.reset_bias else None,
        dtype=_dtype_of(model.variables["params"]),
        embedding_size=model.embedding_size,
        tied=model.tied,
        input_dropout=model.input_dropout,
        output_dropout=model.output_dropout,
    )


def _is_known(layer: nn.Module) -> bool:
    """Whether it is the library's own layer of its cell: a subclass may compute something else."""
    if isinstance(layer, RNN):
        return type(layer) is MODELS.get(layer.cell.name)
    return isinstance(layer, ScratchLayer) and type(layer) is find_layer(layer.cell.name)


def _dtype_of(params: Any) -> Any:
    head = params.get("linear", params)
    return str(head["bias" if "bias" in head else "b_q"].dtype)
