"""A language model as a SavedModel, by `tf.saved_model`."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.specs import ModelSpec
from d2lrnn_tensorflow.language_model import RNNLMScratch
from d2lrnn_tensorflow.parameters import native_state, state_parts
from d2lrnn_tensorflow.recurrence import Tensor


def write_saved_model(model: RNNLMScratch, path: Path) -> None:
    """Writes a model; see `d2lrnn.saving.exporting.Exporter`."""
    spec: ModelSpec = model.spec
    names = find_cell(spec.cell).states

    def function(tokens: Tensor, **state: Tensor) -> dict[str, Tensor]:
        logits, after = model.unroll(
            tokens, native_state(spec, [state[name] for name in names]), training=False
        )
        following = {f"next_{name}": part for name, part in zip(names, state_parts(spec, after), strict=True)}
        return {"logits": logits, **following}

    shape = (spec.num_layers, None, spec.num_hiddens)
    signature = tf.function(function, autograph=False).get_concrete_function(
        tf.TensorSpec((None, None), tf.int32, "tokens"),
        **{name: tf.TensorSpec(shape, spec.dtype, name) for name in names},
    )
    # Without the Keras model itself, whose loading would need this library.
    holder = tf.Module()
    holder.variables_of_model = [variable.value for variable in model.variables]
    tf.saved_model.save(holder, str(path), signatures={"serving_default": signature})
