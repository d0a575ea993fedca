"""``d2lrnn train``: a new run, or a saved one that is resumed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from d2lrnn.cli.config import config_of
from d2lrnn.cli.history_csv import HistoryCSV
from d2lrnn.cli.new_run import new_run
from d2lrnn.cli.out_folder import own_folder
from d2lrnn.cli.output import (
    describe_backend,
    describe_measure,
    describe_model,
    describe_score,
    describe_size,
    describe_training,
    describe_versions,
)
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.progress import ProgressDisplay, thousands
from d2lrnn.cli.prompts import prompt_of
from d2lrnn.cli.requests import TEMPERATURE, TrainRequest
from d2lrnn.cli.resumed_run import describe_change, resumed_run
from d2lrnn.cli.seeds import train_seeds
from d2lrnn.cli.workers import is_shared, train_with_workers
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.values import Device
from d2lrnn.data.batches import DataModule
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.texts import describe_source
from d2lrnn.errors import INTERRUPTED, DivergedError, OccupiedError
from d2lrnn.generation import generate
from d2lrnn.registry import backend, engine_of
from d2lrnn.saving.callbacks import SaveRun
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import check_config, check_folder, hold_folder, mend_history, run_folder_of
from d2lrnn.training.callbacks import Callback, EarlyStopping, describe_norms
from d2lrnn.training.history import EpochRecord, History
from d2lrnn.training.schedules import Cosine
from d2lrnn.training.trainer import Trainer
from d2lrnn.version import __version__
from d2lrnn.workers.agreement import check_same
from d2lrnn.workers.engine import worker_device
from d2lrnn.workers.learner import WorkerLearner
from d2lrnn.workers.link import Link
from d2lrnn.workers.protocols import SharingBackend, Workers

_SAMPLE_LENGTH = 60
_NUM_SAMPLES = 3


def train(request: TrainRequest) -> int:
    """Trains, saves and reports; returns the exit code."""
    # What can be wrong is found before the first step, not after the last.
    check_writable("--json", request.json)
    check_writable("--csv", request.csv)
    shared = is_shared(request)
    with own_folder(request, launched=shared and request.workers is None) as request:
        if request.seeds:
            return train_seeds(request, train)
        if shared:
            return train_with_workers(request)
        chosen = backend(request.backend)
        return _train_in(request, chosen, choose_device(request.device, chosen.devices()), None)


def train_as_worker(request: TrainRequest, link: Link) -> int:
    """The same in the process of one of several workers, of which the first saves and reports."""
    chosen = cast("SharingBackend", backend(request.backend))
    workers = chosen.join_workers(request.device)
    link.joined(workers.rank, workers.size, workers.lost)
    if workers.rank:
        sys.stdout = sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    names = engine_of(chosen.name).local_rank
    local_rank = next((int(os.environ[name]) for name in names if os.environ.get(name)), 0)
    device = worker_device(request.device, chosen.devices(), local_rank)
    code = _train_in(request, chosen, device, workers)
    workers.close()
    return code


def _train_in(request: TrainRequest, chosen: Backend, device: Device, workers: Workers | None) -> int:
    """Trains in this process: alone, or as one of several workers."""
    run, corpus, data = (resumed_run if request.resume else new_run)(request, chosen)
    folder = _folder_of(request)
    if workers is not None and workers.rank:
        return _train(request, folder, run, corpus, data, chosen, device, workers)
    with hold_folder(folder) if folder else nullcontext():
        if folder:
            _check_folder(request, folder, run)
            mend_history(folder)
        return _train(request, folder, run, corpus, data, chosen, device, workers)


def _train(
    request: TrainRequest,
    folder: str | None,
    run: Run,
    corpus: Corpus,
    data: DataModule,
    chosen: Backend,
    device: Device,
    workers: Workers | None,
) -> int:
    assert run.data is not None
    assert run.training is not None
    if workers is not None:
        versions = describe_versions(chosen)
        text = f"that with the checksum {run.text_digest}"
        check_same(workers, {"version": f"d2lrnn {__version__}, {versions}", "text": text})
    model, first = run.build(chosen), workers is None or workers.rank == 0
    if workers is None:
        learner = chosen.learner(model, run.training, device=device.name)
    else:
        sharing = cast("SharingBackend", chosen)
        learner = sharing.learner(model, run.training, device=device.name, workers=workers)
    if run.optimizer_state:
        learner.import_optimizer_state(run.optimizer_state)
    if isinstance(learner, WorkerLearner):
        learner.check_agreement()
    print(describe_backend(chosen, device, asked=request.backend))
    if workers is not None:
        print(f"workers  {workers.size}")
    print(f"text     {describe_source(run.data.source)}: {data.describe()}")
    print(f"model    {describe_model(run.model)}")
    print(f"size     {describe_size(run.model, run.training, run.data, workers.size if workers else 1)}")
    print(f"training {describe_training(run.training)}")
    print(f"measure  {describe_measure(corpus)}")
    if request.resume:
        _print_resumed(request, run, data)

    table = HistoryCSV(request.csv, run.position.epochs) if first and request.csv is not None else None
    display = ProgressDisplay(run.num_epochs)
    callbacks: list[Callback] = []
    if folder:
        saving = SaveRun(
            run, folder, backend=chosen, every=request.save_every, keep=request.keep,
            overwrite=request.overwrite, config=config_of(replace(run, backend=chosen.name)),
        )  # fmt: skip
        callbacks.append(saving)
    if run.early_stopping:
        callbacks.append(EarlyStopping(run.early_stopping))

    def epoch_ended(record: EpochRecord) -> None:
        display.epoch(record)
        if table and trainer.history.cut_short is None:
            table.epoch(trainer.history.epochs)

    trainer = Trainer(
        learner, data, position=run.position, on_step=display.step, on_epoch=epoch_ended, callbacks=callbacks
    )
    if run.is_stopped:
        trainer.history.ended = "stopped"
    try:
        history = trainer.history if run.is_stopped else trainer.fit(run.num_epochs)
    except DivergedError as error:
        if folder and trainer.history.epochs:
            raise DivergedError(f"{error}. {folder} holds them", error.step) from None
        raise
    finally:
        display.close()
    if not history.records:
        if table:
            table.close()
        print("interrupted before the first step: nothing was learned")
        return INTERRUPTED
    if not first:
        return INTERRUPTED if history.ended == "interrupted" else 0
    samples = _samples(learner, corpus, run.prompt or prompt_of(corpus), run.training.seed)
    _print_result(folder, run, corpus, history, samples)
    write_json(request.json, {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "device": device.name,
        "model": run.model.to_json(),
        "training": run.training.to_json(),
        "data": run.data.to_json(),
        "changes": [{"step": each.step, "before": each.before.to_json()} for each in run.changes],
        "early_stopping": asdict(run.early_stopping) if run.early_stopping else None,
        "ended": history.ended,
        "epochs": history.to_json(),
        "samples": samples,
        "saved": folder,
    })  # fmt: skip
    if table:
        table.close()
    return INTERRUPTED if history.ended == "interrupted" else 0


def _folder_of(request: TrainRequest) -> str | None:
    """Where the run is saved: a resumed one, where it was."""
    if request.out or not request.resume:
        return request.out
    return str(run_folder_of(Path(request.resume)))


def _check_folder(request: TrainRequest, folder: str, run: Run) -> None:
    check_config(folder)
    try:
        check_folder(folder, run, overwrite=request.overwrite)
    except OccupiedError:
        if request.out:
            goes_on = "" if request.resume else f"--resume {request.out} goes on with it, "
            what = f"--out {request.out} holds another run: {goes_on}--overwrite replaces it"
        else:
            what = (
                f"--resume {request.resume} is not the newest checkpoint of {folder}: --overwrite goes on "
                "from there and drops what came after it, --out saves elsewhere"
            )
        raise OccupiedError(what) from None


def _print_resumed(request: TrainRequest, run: Run, data: DataModule) -> None:
    """Where the run stands, and what is otherwise from here on."""
    assert run.training is not None
    print(f"resumed  {request.resume}: {_where(run)}, trained with {run.backend}")
    if run.is_stopped:
        print("stopped  early: to train further, raise --patience, or give --epochs and more than "
              f"{run.num_epochs}")  # fmt: skip
        return
    if len(run.position.epochs) >= run.num_epochs:
        print(f"finished: to train further, give --epochs and more than {len(run.position.epochs)}")
        return
    if run.changes and run.changes[-1].step == run.step:
        described = describe_change(run.changes[-1].before, run.training)
        print(f"changed  {described} from step {run.step:,}")
    schedule, num_steps = run.training.schedule, run.num_epochs * data.num_train_batches
    if isinstance(schedule, Cosine) and schedule.final == 0 and schedule.steps < num_steps:
        print(
            f"note     the cosine schedule ends at step {schedule.steps:,} of {num_steps:,}; from there on "
            f"the rate is 0: --schedule-steps {num_steps} lengthens it"
        )


def _print_result(folder: str | None, run: Run, corpus: Corpus, history: History, samples: list[str]) -> None:
    last = history.records[-1]
    if history.ended == "interrupted":
        print(f"interrupted in epoch {last.epoch} of {run.num_epochs}; the results up to there:")
    if history.ended == "stopped" and run.early_stopping:
        waited = run.early_stopping.waited(history.epochs)
        print(f"stopped early after epoch {last.epoch} of {run.num_epochs}: no better validation perplexity "
              f"for {waited} epoch{'' if waited == 1 else 's'}")  # fmt: skip
    print(describe_score("train", corpus.unit, last.train_perplexity, last.train_bits_per_token))
    print(describe_score(
        "validation", corpus.unit, last.val_perplexity, last.val_bits_per_token,
        per_char=last.val_bits_per_char, per_byte=last.val_bits_per_byte,
    ))  # fmt: skip
    if best := _best_epoch(history.epochs):
        print(f"best        epoch {best.epoch} of {len(history.epochs)}, validation perplexity "
              f"{best.val_perplexity:.3f}")  # fmt: skip
    if last.grad_norm is not None:
        print(f"gradient    {describe_norms(last)}")
    print(f"speed       {thousands(last.tokens_per_second)} tokens/s")
    for sample in samples:
        print(f"sample      {sample}")
    if folder:
        print(f"saved       {folder}{_how_to_go_on(folder, run, history)}")


def _how_to_go_on(folder: str, run: Run, history: History) -> str:
    if history.ended == "finished":
        return ""
    patience = run.early_stopping if history.ended == "stopped" else None
    longer = f" --patience {patience.waited(history.epochs) + patience.patience}" if patience else ""
    return f"; to go on: d2lrnn train --resume {folder}{longer}"


def _best_epoch(epochs: Sequence[EpochRecord]) -> EpochRecord | None:
    """The one with the lowest validation perplexity, the first of equals: that of ``RUN/best``."""
    return min(epochs, key=lambda record: record.val_perplexity, default=None)


def _where(run: Run) -> str:
    """Where a run stands: ``3 of 10 epochs and 4 batches of the next, step 34``."""
    part = run.position.part
    inside = f" and {part.num_batches:,} batches of the next" if part else ""
    return f"{len(run.position.epochs)} of {run.num_epochs} epochs{inside}, step {run.step:,}"


def _samples(learner: Learner, corpus: Corpus, prefix: str, seed: int) -> list[str]:
    """What the model writes after `prefix`.

    Sampled as ``d2lrnn generate`` does: the likeliest characters alone soon repeat themselves.
    """
    return generate(
        learner, corpus.vocab, prefix, _SAMPLE_LENGTH, unit=corpus.unit, lower=False,
        temperature=TEMPERATURE, seed=seed, samples=_NUM_SAMPLES,
    )  # fmt: skip
