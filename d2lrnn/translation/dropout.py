"""The dropout masks of a translator, drawn once for all backends (`d2lrnn.contract.dropout`)."""

from __future__ import annotations

from d2lrnn.contract.dropout import dropout_mask
from d2lrnn.contract.values import FloatArray
from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn.translation.values import PairBatch

_ENCODER, _DECODER = 0, 1


def translator_masks(
    spec: TranslatorSpec, seed: int, step: int, batch: PairBatch
) -> tuple[FloatArray | None, FloatArray | None]:
    """The masks of one training step, between the layers of the encoder and of the decoder.

    Args:
        spec: the translator; its rate is exact to 1/65536.
        seed: the run's.
        step: how many training steps came before.
        batch: the batch.

    Returns:
        Masks (L - 1, S, B, h) and (L - 1, T, B, h), with entries 0 or 1 / (1 - p); None where nothing is
        dropped.
    """

    def mask(stream: int, num_steps: int) -> FloatArray | None:
        shape = (spec.num_layers - 1, num_steps, len(batch.source), spec.num_hiddens)
        return dropout_mask(spec.dtype, spec.dropout, seed, step, stream, shape)

    return mask(_ENCODER, batch.source.shape[1]), mask(_DECODER, batch.inputs.shape[1])
