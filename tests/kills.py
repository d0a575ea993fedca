"""Kills training with SIGKILL at random moments, and resumes it after each.

    python tests/kills.py FOLDER NUMBER        # on the backend that D2LRNN_BACKEND names

The moments lie within the time that a few saves take here. After every kill the folder must hold a whole run
that has lost nothing that was saved; in the end the history must be that of a run that was never killed, to
the last bit. What is wrong is printed and ends the process with 1.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.errors import RunError
from d2lrnn.saving import callbacks as saving
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import load_run, save_run

#: A state that is carried, dropout, and checkpoints inside an epoch: all that a resume has to bring back.
MODEL = ["--cell", "lstm", "--impl", "concise", "--layers", "2", "--hidden", "6", "--dropout", "0.3"]
DATA = ["--iterator", "sequential", "--batch-size", "64", "--steps", "60"]
SAVING = ["--save-every", "4", "--keep", "2"]
#: A kill comes no later than the save of this number.
NUM_SAVES = 4


def train_in_child(words: list[str], report: int) -> None:
    """Never returns; writes the step of every checkpoint that was saved to `report`."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)

    def save_and_report(run: Run, folder: str, *, keep: int, overwrite: bool) -> Path:
        saved = save_run(run, folder, keep=keep, overwrite=overwrite)
        os.write(report, f"{run.step}\n".encode())
        return saved

    saving.save_run = save_and_report
    os._exit(main(words))


def start(words: list[str]) -> tuple[int, int]:
    """A process that trains, and the end of a pipe on which it reports its saves."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        train_in_child(words, writer)
    os.close(writer)
    return child, reader


def seconds_of_saves(folder: Path) -> float:
    """How long training takes from its start to the end of its first `NUM_SAVES` saves."""
    started = time.perf_counter()
    child, reader = start(["train", *MODEL, *DATA, *SAVING, "--epochs", "100000", "--out", str(folder)])
    with os.fdopen(reader) as reported:
        saved = [reported.readline() for _ in range(NUM_SAVES)]
        seconds = time.perf_counter() - started
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not all(saved):
        sys.exit("training ended before it had saved")
    return seconds


def train_and_kill(words: list[str], seconds: float) -> int:
    """The step of the last checkpoint that was saved before the kill; -1 where there was none."""
    child, reader = start(words)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as reported:
        saved = reported.read().split("\n")[:-1]
    if not os.WIFSIGNALED(status):
        sys.exit(f"training ended by itself with {os.waitstatus_to_exitcode(status)}")
    return int(saved[-1]) if saved else -1


def check(folder: Path, number: int) -> str:
    """Empty where all is well."""
    chance = random.Random(0)
    # Imported once, before the children are made of this process.
    d2lrnn.backend()
    longest = seconds_of_saves(folder.with_name("measured"))
    step, in_vain = -1, 0
    for count in range(number):
        # A checkpoint that was not named yet when the first save was killed is not a saved run.
        new = [*MODEL, *DATA, "--out", str(folder), "--overwrite"]
        begin = ["--resume", str(folder)] if step >= 0 else new
        words = ["train", *begin, *SAVING, "--epochs", "100000"]
        saved = train_and_kill(words, chance.uniform(0.0, longest))
        in_vain = in_vain + 1 if saved < 0 else 0
        if in_vain == 5:  # the machine has become slower
            longest, in_vain = 2 * longest, 0
        step = max(step, saved)
        try:
            found = load_run(folder).step
        except RunError as error:
            if step < 0:
                continue
            return f"after kill {count}: {error}"
        if found < step:
            return f"after kill {count}: step {found} is there, {step} had been saved"
        step = found
    run = load_run(folder)
    epochs = len(run.position.epochs) + 2
    if main(["train", "--resume", str(folder), "--epochs", str(epochs), *SAVING]) != 0:
        return "the last resume failed"
    whole = folder.with_name("whole")
    if main(["train", *MODEL, *DATA, "--epochs", str(epochs), "--out", str(whole)]) != 0:
        return "the run in one go failed"
    killed, expected = load_run(folder), load_run(whole)
    for mine, theirs in zip(killed.history, expected.history, strict=True):
        if {**mine, "tokens_per_second": 0} != {**theirs, "tokens_per_second": 0}:
            return f"other numbers: {mine} in place of {theirs}"
    names = sorted(path.name for path in folder.iterdir())
    # Two that are kept and the best one, two links to them, three files for other programs.
    if len(names) > 8 or any(name.startswith(".") for name in names):
        return f"more is left than was to be kept: {names}"
    print(f"{number} kills, {epochs} epochs, {killed.step} steps")
    return ""


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[1]), int(sys.argv[2])) or 0)
