"""What crosses the border between the core and a backend's translator."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, SupportsFloat, TypeAlias

import numpy as np

from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray, IntArray, Parameters, StepResult
from d2lrnn.translation.spec import TranslatorSpec

#: A backend's own state of a decoder that writes.
Writing: TypeAlias = Any


class PairBatch(NamedTuple):
    """A minibatch of sentences and their translations.

    Attributes:
        source: int32 (B, S), indices of the source's vocabulary, padded with any of them.
        lengths: int32 (B,), how many tokens of each row are no padding; at least one.
        inputs: int32 (B, T), the target from ``<bos>`` on, padded with any index.
        targets: int32 (B, T), the same one token later, `d2lrnn.contract.values.PADDING` where it is padded.
    """

    source: IntArray
    lengths: IntArray
    inputs: IntArray
    targets: IntArray

    @property
    def num_tokens(self) -> int:
        """How many targets are no padding: what the sum of the losses is divided by."""
        return int(np.count_nonzero(self.targets >= 0))


class Translator(Protocol):
    """A translator on a device, ready to be trained and to write."""

    spec: TranslatorSpec
    training: TrainingSpec

    #: Training steps taken so far: it numbers the dropout masks and the optimiser's steps.
    step: int

    #: The rate of the next training step.
    learning_rate: float

    def train_step(self, batch: PairBatch) -> StepResult:
        """One step with the right target as input (teacher forcing): mean loss, gradient, clip, update.

        The loss is the sum over all targets that are no padding, divided by their number.
        """

    def eval_step(self, batch: PairBatch) -> SupportsFloat:
        """The mean loss (nats per token), dropout off. Learns nothing."""

    def gradients(self, batch: PairBatch) -> tuple[float, dict[str, FloatArray]]:
        """The mean loss and its gradient by canonical name, unclipped, dropout off. Changes nothing."""

    def read(self, source: IntArray, lengths: IntArray) -> Writing:
        """What the decoder begins with, after the encoder has read sentences (B, S) of these lengths (B,)."""

    def write(self, tokens: IntArray, state: Writing) -> tuple[FloatArray, Writing]:
        """One step of the decoder: tokens int32 (B,) to logits (B, V_t) as NumPy, and the next state."""

    def rows(self, state: Writing, rows: IntArray) -> Writing:
        """The state of these rows of the batch, in this order; a row may come more than once."""

    def export_parameters(self) -> dict[str, FloatArray]:
        """A copy of the parameters, canonical names and layout."""

    def import_parameters(self, parameters: Parameters) -> None:
        """Replaces the parameters. Raises ParameterError where a name, a shape or a value does not fit."""

    def export_optimizer_state(self) -> dict[str, FloatArray]:
        """A copy of what the optimiser remembers."""

    def import_optimizer_state(self, arrays: Parameters) -> None:
        """Replaces it. Raises ParameterError where a name, a shape or a value does not fit."""

    def synchronize(self) -> None:
        """Waits until everything that was dispatched is done."""
