"""The callback that saves a run while it is trained."""

from __future__ import annotations

import os
from dataclasses import replace

from d2lrnn.checks import whole_number
from d2lrnn.contract.protocols import Backend
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import save_config, save_run
from d2lrnn.training.callbacks import Callback
from d2lrnn.training.history import EpochRecord, Progress


class SaveRun(Callback):
    """Saves a run after every epoch, and after the part of one that was cut short.

    Args:
        run: what is trained: its parameters, its optimiser's state and its position are those of the moment.
        folder: where to; see `d2lrnn.saving.run_folder.save_run` for this, `keep` and `overwrite`.
        backend: what trains it.
        every: saves after every so many training steps of the run as well.
        config: what `d2lrnn.saving.run_folder.save_config` writes beside it; None writes nothing.

    Raises:
        SpecError: `every` is no whole number above 0; in the course of the training, what `save_run` raises.

    Example:
        >>> import tempfile
        >>> from d2lrnn import ModelSpec, Trainer, TrainingSpec, backend, initial_parameters, load_run
        >>> from d2lrnn.data.spec import DataSpec
        >>> from d2lrnn.training.callbacks import EarlyStopping
        >>> data, numpy = DataSpec(batch_size=64, num_train=640, num_val=128), backend("numpy")
        >>> corpus, batches = data.load()
        >>> spec, training = ModelSpec(len(corpus.vocab), num_hiddens=8), TrainingSpec()
        >>> run = Run(spec, initial_parameters(spec), corpus.vocab, data, training, num_epochs=3)
        >>> learner = numpy.learner(run.build(numpy), training)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     callbacks = [SaveRun(run, folder, backend=numpy), EarlyStopping(patience=2)]
        ...     _ = Trainer(learner, batches, callbacks=callbacks).fit(run.num_epochs)
        ...     len(load_run(folder).history)
        3
    """

    def __init__(
        self,
        run: Run,
        folder: str | os.PathLike[str],
        *,
        backend: Backend,
        every: int | None = None,
        keep: int = 1,
        overwrite: bool = False,
        config: str | None = None,
    ) -> None:
        self._every = None if every is None else whole_number("the number of steps between saves", every)
        self._run, self._folder, self._backend = run, folder, backend
        self._keep, self._overwrite, self._config = keep, overwrite, config

    def on_step(self, progress: Progress) -> None:
        """Saves after every so many steps."""
        if self._every and self.trainer.learner.step % self._every == 0:
            self._save()

    def on_epoch(self, record: EpochRecord) -> None:
        """Saves."""
        self._save()

    def _save(self) -> None:
        learner, position = self.trainer.learner, self.trainer.position()  # of all workers
        if self.trainer.place.rank:
            return
        now = replace(
            self._run,
            parameters=learner.export_parameters(),
            optimizer_state=learner.export_optimizer_state(),
            position=position,
            backend=self._backend.name,
            versions=self._backend.versions(),
        )
        save_run(now, self._folder, keep=self._keep, overwrite=self._overwrite)
        if self._config is not None:
            save_config(self._folder, self._config)
