"""Runs that move between frameworks through files, as no environment has all frameworks.

    python tests/exchange.py FOLDER numpy=PYTHON torch=PYTHON …

Every backend trains each run for half of its epochs, stopped inside one; every backend resumes every other's,
and writes down its losses, the text that it generates and the logits behind it; and so with a translator,
from one epoch on. All must agree, whoever began and whoever ended.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from small_data import pairs

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.saving.run_folder import load_run
from d2lrnn.saving.translator_folder import load_translator
from d2lrnn.training.trainer import Trainer

#: A carried state and dropout; the book's GRU; a shuffled order; optimisers that remember. As argv.
RUNS = {
    "lstm": ["--cell", "lstm", "--impl", "concise", "--layers", "2", "--dropout", "0.3", "--hidden", "24",
             "--iterator", "sequential", "--lr", "4"],
    "gru": ["--cell", "gru", "--layers", "2", "--iterator", "random", "--hidden", "24", "--lr", "4"],
    "rnn": ["--cell", "rnn", "--impl", "concise", "--num-train", "3000", "--num-val", "500",
            "--batch-size", "128"],
    "adam": ["--cell", "lstm", "--impl", "concise", "--layers", "2", "--dropout", "0.2", "--hidden", "24",
             "--embedding", "24", "--tied", "--input-dropout", "0.1", "--output-dropout", "0.3",
             "--iterator", "sequential", "--batch-size", "16", "--accumulate", "2", "--optimizer", "adam",
             "--lr", "0.01", "--schedule", "cosine", "--warmup", "10"],
    "mgu": ["--cell", "mgu", "--layers", "2", "--hidden", "24", "--embedding", "8", "--iterator", "random",
            "--optimizer", "rmsprop", "--momentum", "0.5", "--lr", "0.002", "--weight-decay", "0.0001"],
}  # fmt: skip
#: A translator, with attention and dropout, as argv; and what it translates in the end.
TRANSLATOR = ["--embedding", "16", "--hidden", "24", "--layers", "2", "--dropout", "0.1", "--max-tokens", "6",
              "--batch-size", "32", "--lr", "0.01"]  # fmt: skip
SENTENCES = ["I win.", "They sleep here, too.", "Cats sing!"]

NUM_EPOCHS = 4
PREFIX, NUM_TOKENS = "it has", 80

#: The bounds: logits absolute, losses relative.
LOGITS, LOSSES = 1e-5, 1e-4


class _StopError(Exception):
    """Training has reached the step to stop at."""


def write(folder: Path) -> None:
    """Begins every run: one epoch and a half."""
    for name, words in RUNS.items():
        out = folder / name / d2lrnn.backend().name
        assert main(["train", *words, "--epochs", "1", "--out", str(out)]) == 0
        _train_half_an_epoch(out)
    translators = folder.parent / "translators"
    translators.mkdir(exist_ok=True)
    (translators / "pairs.txt").write_text(pairs(), encoding="utf-8")
    words = [str(translators / "pairs.txt"), *TRANSLATOR, "--epochs", "1"]
    assert main(["translate", "train", *words, "--out", str(translators / d2lrnn.backend().name)]) == 0


def _train_half_an_epoch(out: Path) -> None:
    backend, run = d2lrnn.backend(), load_run(out)
    assert run.data is not None
    _, data = run.data.load(run.vocab)
    learner = backend.learner(run.build(backend), run.training or TrainingSpec(), device="cpu")
    if run.optimizer_state:
        learner.import_optimizer_state(run.optimizer_state)

    def stop(*_: object) -> None:
        if learner.step == run.step + data.num_train_batches // 2:
            # Here, not after the trainer has ended: then the epoch would be lost to it.
            parameters, optimizer_state = learner.export_parameters(), learner.export_optimizer_state()
            now = replace(
                run, parameters=parameters, optimizer_state=optimizer_state, position=trainer.position()
            )
            d2lrnn.save_run(now, out)
            raise _StopError

    trainer = Trainer(learner, data, position=run.position, on_step=stop)
    with suppress(_StopError):
        trainer.fit(2)
    assert load_run(out).position.part is not None, "the run was not stopped inside an epoch"


def read(folder: Path) -> None:
    """Ends every run that any backend began."""
    backend = d2lrnn.backend()
    results: dict[str, Any] = {}
    for path in sorted(folder.glob("*/*")):
        begun = f"{path.parent.name}/{path.name}"
        own = Path(shutil.copytree(path, folder.parent / "resumed" / backend.name / begun, symlinks=True))
        result = own.with_suffix(".json")
        assert main(["train", "--resume", str(own), "--epochs", str(NUM_EPOCHS), "--json", str(result)]) == 0
        epochs = json.loads(result.read_text())["epochs"]
        words = ["generate", str(path / "latest"), "--temperature", "0"]
        words += ["--prefix", PREFIX, "--num", str(NUM_TOKENS), "--json", str(result)]
        assert main(words) == 0
        results[begun] = {
            "losses": [[epoch["train_bits_per_token"], epoch["val_bits_per_token"]] for epoch in epochs],
            "text": json.loads(result.read_text())["text"],
            "logits": _logits(path),
        }
    for path in sorted(path for path in (folder.parent / "translators").iterdir() if path.is_dir()):
        results[f"translator/{path.name}"] = _translated(path)
    (folder.parent / f"{backend.name}.json").write_text(json.dumps(results))


def _translated(path: Path) -> dict[str, Any]:
    """What comes of a translator when this backend goes on with it."""
    own = shutil.copytree(
        path, path.parent.parent / "resumed" / d2lrnn.backend().name / "translator" / path.name
    )
    assert main(["translate", "train", "--resume", str(own), "--epochs", str(NUM_EPOCHS)]) == 0
    result = own.with_suffix(".json")
    assert main(["translate", "run", str(own), *SENTENCES, "--beam", "2", "--json", str(result)]) == 0
    epochs = load_translator(own).epochs
    return {
        "losses": [[np.log2(each.train_perplexity), np.log2(each.val_perplexity)] for each in epochs],
        "text": [each["translation"] for each in json.loads(result.read_text())["translations"]],
    }


def _logits(path: Path) -> list[list[float]]:
    backend, run = d2lrnn.backend(), load_run(path)
    assert run.vocab is not None
    learner = backend.learner(d2lrnn.load(path), TrainingSpec(), device="cpu")
    state, logits = learner.initial_state(1), []
    for index in run.vocab[list(PREFIX)]:
        scores, state = learner.predict_step(np.array([index], np.int32), state)
        logits.append(scores[0].tolist())
    return logits


def compare(folder: Path) -> None:
    """Prints what was compared; ends the process with 1 where two backends differ."""
    readers = {path.stem: json.loads(path.read_text()) for path in sorted(folder.parent.glob("*.json"))}
    begun = sorted(next(iter(readers.values())))
    wrong = 0
    for name in [*RUNS, "translator"]:
        of_run = [each for each in begun if each.startswith(f"{name}/")]
        assert len(of_run) == len(readers) > 1, f"{name}: begun by {of_run}, read by {list(readers)}"
        losses = np.array([[readers[reader][each]["losses"] for each in of_run] for reader in readers])
        assert losses.shape == (len(readers), len(readers), NUM_EPOCHS, 2)
        spread = float((losses.max((0, 1)) / losses.min((0, 1)) - 1).max())
        # Who trained the first half decides its parameters to a few digits; the readers of one file do not.
        logits = np.array([[readers[reader][each].get("logits", 0) for each in of_run] for reader in readers])
        apart = float((logits.max(0) - logits.min(0)).max())
        texts = [{str(readers[reader][each]["text"]) for reader in readers} for each in of_run]
        same = all(len(text) == 1 for text in texts)
        fits = same and spread <= LOSSES and apart <= LOGITS
        wrong += not fits
        print(
            f"{name:<10} {len(readers)} backends began and ended it: losses within {spread:.1e}, "
            f"logits within {apart:.1e}, {'the same' if same else 'OTHER'} text{'' if fits else ': FAILED'}"
        )
    sys.exit(wrong)


def exchange(folder: Path, pythons: dict[str, str]) -> None:
    """Does all of it, a process for each backend, in this order and as many at once as processors."""

    def run(what: str, backend: str) -> None:
        command = [pythons[backend], __file__, what, str(folder)]
        environment = os.environ | {"D2LRNN_BACKEND": backend}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False
        )
        if done.returncode:
            sys.exit(f"{done.stdout.decode(errors='replace')}{backend} could not {what}: {done.returncode}")
        print(f"{backend}: {what}", flush=True)

    # Every backend has begun its runs before one reads another's.
    for what in ("write", "read"):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(partial(run, what), pythons))
    compare(folder)


if __name__ == "__main__":
    if sys.argv[1] in ("write", "read"):
        {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
    else:
        exchange(Path(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:]))
