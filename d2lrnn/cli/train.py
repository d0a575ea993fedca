"""``d2lrnn train``: a new run, or a saved one that is resumed."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from d2lrnn.cli.commands.generate import TEMPERATURE
from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.config import config_of
from d2lrnn.cli.history_csv import HistoryCSV
from d2lrnn.cli.new_run import new_run
from d2lrnn.cli.out_folder import own_folder
from d2lrnn.cli.output import (
    describe_backend,
    describe_versions,
    specified,
)
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.progress import ProgressDisplay
from d2lrnn.cli.resumed_run import resumed_run
from d2lrnn.cli.seeds import train_seeds
from d2lrnn.cli.tensorboard_events import TensorBoardEvents, check_tensorboard
from d2lrnn.cli.terminal_curve import PerplexityCurve, check_plot
from d2lrnn.cli.train_messages import print_beginning, print_result, print_resumed
from d2lrnn.cli.workers import is_shared, train_with_workers
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.values import Device
from d2lrnn.data.batches import DataModule
from d2lrnn.data.corpus import Corpus
from d2lrnn.errors import INTERRUPTED, DivergedError, OccupiedError
from d2lrnn.generation import generate
from d2lrnn.generation.prompts import prompt_of
from d2lrnn.registry import backend, engine_of
from d2lrnn.saving.callbacks import SaveRun
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import check_config, check_folder, hold_folder, mend_history, run_folder_of
from d2lrnn.training.callbacks import Callback, EarlyStopping
from d2lrnn.training.history import EpochRecord, Progress
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
    check_plot(request.plot)
    check_tensorboard(request.tensorboard, resumed=request.resume is not None)
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
    print_beginning(run, corpus, data, num_workers=workers.size if workers else None)
    if request.resume:
        print_resumed(request.resume, run, data)

    table = HistoryCSV(request.csv, run.position.epochs) if first and request.csv is not None else None
    events = None
    if first and request.tensorboard is not None:
        events = TensorBoardEvents(request.tensorboard, run.identity, run.step, run.position.epochs)
    curve = PerplexityCurve(run.position.epochs) if request.plot else None
    display = ProgressDisplay(run.num_epochs, curve=curve)
    callbacks: list[Callback] = []
    if folder:
        saving = SaveRun(
            run, folder, backend=chosen, every=request.save_every, keep=request.keep,
            overwrite=request.overwrite, config=config_of(replace(run, backend=chosen.name)),
        )  # fmt: skip
        callbacks.append(saving)
    if run.early_stopping:
        callbacks.append(EarlyStopping(run.early_stopping))

    def step_ended(progress: Progress) -> None:
        display.step(progress)
        if events:
            events.step(learner.step, learner.learning_rate, progress)

    def epoch_ended(record: EpochRecord) -> None:
        display.epoch(record)
        if curve:
            curve.epochs = tuple(trainer.history.epochs)
        if trainer.history.cut_short is None:
            if table:
                table.epoch(trainer.history.epochs)
            if events:
                events.epoch(learner.step, record)

    trainer = Trainer(
        learner, data, position=run.position, on_step=step_ended, on_epoch=epoch_ended, callbacks=callbacks,
        plot=False,
    )  # fmt: skip
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
        if curve:
            curve.show()
    written = [each for each in (table, events) if each]
    if not history.records:
        for each in written:
            each.close()
        print("interrupted before the first step: nothing was learned")
        return INTERRUPTED
    if not first:
        return INTERRUPTED if history.ended == "interrupted" else 0
    samples = _samples(learner, corpus, run.prompt or prompt_of(corpus), run.training.seed)
    print_result(folder, run, corpus, history, samples)
    write_json(request.json, {
        **specified(run, chosen, device),
        "changes": [{"step": each.step, "before": each.before.to_json()} for each in run.changes],
        "early_stopping": asdict(run.early_stopping) if run.early_stopping else None,
        "ended": history.ended,
        "epochs": history.to_json(),
        "samples": samples,
        "saved": folder,
    })  # fmt: skip
    for each in written:
        each.close()
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


def _samples(learner: Learner, corpus: Corpus, prefix: str, seed: int) -> list[str]:
    """What the model writes after `prefix`.

    Sampled as ``d2lrnn generate`` does: the likeliest characters alone soon repeat themselves.
    """
    return generate(
        learner, corpus.vocab, prefix, _SAMPLE_LENGTH, unit=corpus.unit, lower=False,
        temperature=TEMPERATURE, seed=seed, samples=_NUM_SAMPLES,
    )  # fmt: skip
