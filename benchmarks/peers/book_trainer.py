"""The `Trainer` that the tabs of the book's package share, here with one batch a step; see `book`.

JAX's is different: it keeps the parameters, and its own `fit` prepares it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import Batch, StepResult
from d2lrnn.data.vocabulary import Vocab

#: Batches of the book's epochs; this decides how often a value goes into its figure.
BATCHES = 10


class Trained(ABC):
    """The part of a `d2lrnn.benchmark.subject.Contestant` that trains and generates text.

    Attributes:
        model: the package's model.
        trainer: the package's trainer, in the middle of an epoch.
    """

    model: Any
    trainer: Any

    def prepare(self, book: ModuleType, training: TrainingSpec) -> None:
        """Makes the trainer of `model`, as the package's `fit` does before its first epoch."""
        self.model.board.display = False
        self.trainer = book.Trainer(max_epochs=1, gradient_clip_val=training.clip or 0)
        self.trainer.val_dataloader, self.trainer.num_val_batches = None, 0
        self.trainer.num_train_batches = BATCHES
        self.trainer.prepare_model(self.model)
        self.trainer.optim = self.model.configure_optimizers()
        self.trainer.epoch = self.trainer.train_batch_idx = 0
        self._last: Any = None
        step = self.model.training_step

        def remembered(batch: Any) -> Any:
            self._last = step(batch)
            return self._last

        self.model.training_step = remembered

    @abstractmethod
    def arrays(self, batch: Batch) -> tuple[Any, Any]:
        """Inputs and targets as the framework's arrays."""

    def loss(self, batch: Batch) -> Any:
        """The package's loss of a batch."""
        inputs, targets = self.arrays(batch)
        return self.model.loss(self.model(inputs), targets)

    def initial_state(self, batch_size: int) -> None:
        """The model's own."""
        return

    def train_step(self, batch: Batch, state: None) -> tuple[StepResult, None]:
        """The package's loop over one batch."""
        self.trainer.train_dataloader = [self.arrays(batch)]
        self.trainer.fit_epoch()
        return StepResult(self._last, float("nan")), None

    def eval_step(self, batch: Batch, state: None) -> tuple[Any, None]:
        """The loss alone."""
        return self.loss(batch), None

    def write(self, vocab: Vocab, prefix: str, number: int) -> str:
        """The package's `predict`."""
        text: str = self.model.predict(prefix, number, vocab)
        return text
