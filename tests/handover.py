"""One run that several engines train in turn, with other numbers of workers: the losses of one in one go.

    python tests/handover.py FOLDER torch=PYTHON jax=PYTHON …

Every backend named gets the run from the one before: the first is killed in the middle of an epoch, the
others go on from its last checkpoint for an epoch each. The last has no workers. The run in one go is that of
the first backend, alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

#: A carried state, dropout, what an optimiser remembers, rows of padding, parts.
RUN = ["--cell", "lstm", "--impl", "concise", "--layers", "2", "--hidden", "16", "--dropout", "0.3",
       "--iterator", "sequential", "--batch-size", "7", "--accumulate", "2", "--optimizer", "adam",
       "--lr", "0.01", "--clip", "0.5"]  # fmt: skip
WORKERS = [2, 3, 2]
TOLERANCE = 1e-4
#: Of a machine on which much else runs.
PATIENCE = 300.0


def main(folder: Path, pythons: dict[str, str]) -> int:
    """Runs it, and returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    names, last = list(pythons), len(pythons) + 1
    whole = _trained(pythons, names[0], RUN, last, folder / "whole.json")
    shared = folder / "shared"
    _begin_and_kill([*RUN, "--out", str(shared)], names[0], pythons[names[0]], shared)
    got: dict[int, tuple[float, float]] = {}
    for number, name in enumerate(names[1:], 1):
        words = ["--resume", str(shared)]
        if name != names[-1]:
            words += ["--workers", str(WORKERS[number])]
        # The first epoch may not be whole yet.
        got |= _trained(pythons, name, words, number + 2, folder / f"{name}.json")
        print(f"{name}: epochs up to {number + 2}", flush=True)
    differences = [
        abs(one / other - 1) for epoch in whole for one, other in zip(whole[epoch], got[epoch], strict=True)
    ]
    print(f"perplexities of {len(whole)} epochs, {' -> '.join(names)}: at most {max(differences):.1e} apart")
    return 0 if max(differences) <= TOLERANCE else 1


def _trained(
    pythons: dict[str, str], name: str, words: list[str], epochs: int, result: Path
) -> dict[int, tuple[float, float]]:
    """Perplexities of training and validation by epoch."""
    command = [pythons[name], "-m", "d2lrnn", "train", *words, "--epochs", str(epochs), "--json", str(result)]
    subprocess.run(command, check=True, env=_environment(name), stdout=subprocess.DEVNULL)
    records = json.loads(result.read_text())["epochs"]
    return {each["epoch"]: (each["train_perplexity"], each["val_perplexity"]) for each in records}


def _begin_and_kill(words: list[str], name: str, python: str, out: Path) -> None:
    """Trains with two workers until the middle of the second epoch, and kills one of them."""
    command = [python, "-m", "d2lrnn", "train", *words, "--workers", str(WORKERS[0]), "--epochs", "100"]
    process = subprocess.Popen([*command, "--save-every", "5"], env=_environment(name),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip
    until = time.monotonic() + PATIENCE
    while not (out / "latest").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(max(map(int, children)), signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE)
    print(errors.decode().splitlines()[-1])


def _environment(name: str) -> dict[str, str]:
    return {**os.environ, "D2LRNN_BACKEND": name}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:])))
