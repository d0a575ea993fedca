"""A saved run as a value: a model, where it came from, and where its training stands."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import FloatArray, Model
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.training.history import Position, record_to_json
from d2lrnn.training.patience import Patience


def new_identity() -> str:
    """A name for a run that no other run has."""
    return uuid.uuid4().hex


def text_digest(corpus: Corpus) -> str:
    """What tells whether a text is still the one that a run was trained on: SHA-256 of its tokens.

    Of an encoded text it is what the file says, without reading its tokens (`d2lrnn encode --check` does).
    """
    if corpus.digest is not None:
        return corpus.digest
    tokens = np.ascontiguousarray(corpus.tokens)
    return hashlib.sha256(tokens.astype(tokens.dtype.newbyteorder("<"), copy=False).data).hexdigest()


@dataclass(frozen=True)
class Change:
    """Another rate, schedule or clipping norm, given when a run was resumed.

    Attributes:
        step: the training steps that were taken before.
        before: how the run was trained up to there.
    """

    step: int
    before: TrainingSpec


@dataclass(frozen=True)
class Run:
    """A model, where it came from, and where its training stands.

    A model that was saved alone (`d2lrnn.save`) has no text and no training: those fields are None.

    Attributes:
        model: which function it computes.
        parameters: canonical names to arrays.
        vocab: what its tokens are.
        data: the text and the iterator that it is trained on.
        prompt: what its samples begin with, the first words of the text.
        training: optimiser, rate, clipping, seed.
        position: how far training has come.
        num_epochs: how many epochs were asked for.
        text_digest: of the text, see `text_digest`.
        text_size: the bytes of its files, see `d2lrnn.saving.run_text.text_size`.
        backend: the name of the backend that trained it last.
        versions: of what computed, by package.
        identity: the same for all checkpoints of one run.
        optimizer_state: what the optimiser remembers (`Learner.export_optimizer_state`); empty where it
            remembers nothing.
        changes: where training went on otherwise than before, the first first.
        early_stopping: when it ends without a better epoch; None goes on to the last.
    """

    model: ModelSpec
    parameters: dict[str, FloatArray] = field(repr=False)
    vocab: Vocab | None = field(default=None, repr=False)
    data: DataSpec | None = None
    training: TrainingSpec | None = None
    position: Position = field(default_factory=Position)
    num_epochs: int = 0
    text_digest: str | None = None
    backend: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    identity: str = field(default_factory=new_identity)
    optimizer_state: dict[str, FloatArray] = field(default_factory=dict, repr=False)
    changes: tuple[Change, ...] = ()
    prompt: str | None = None
    text_size: int | None = None
    early_stopping: Patience | None = None

    @property
    def step(self) -> int:
        """Training steps taken."""
        return self.position.step

    @property
    def history(self) -> list[dict[str, Any]]:
        """One object a whole epoch, as `History.to_json` gives them."""
        return [record_to_json(record) for record in self.position.epochs]

    @property
    def is_stopped(self) -> bool:
        """Whether it has ended early, before the epochs that were asked for."""
        epochs, patience = self.position.epochs, self.early_stopping
        return patience is not None and len(epochs) < self.num_epochs and patience.is_over(epochs)

    def build(self, backend: Backend) -> Model:
        """The model on a backend, which need not be the one that trained it."""
        return backend.build(self.model, self.parameters)
