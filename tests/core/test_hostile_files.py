"""Checkpoints that were damaged, or made to do damage."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hostile
import numpy as np
import pytest

from d2lrnn.contract.optimizers import SGD, slot_name
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import RunError
from d2lrnn.saving.run import Change, Run
from d2lrnn.saving.run_folder import load_run, save_run
from d2lrnn.training.history import EpochPart, EpochRecord, Position
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.schedules import Cosine

NUMBER = 2000


def _saved(folder: Path, num_hiddens: int, num_epochs: int = 1) -> Path:
    vocab = Vocab(list("abcdefg "))
    spec = ModelSpec(len(vocab), "lstm", "concise", num_hiddens, 2, dropout=0.1)
    state = tuple(np.ones((2, 4, num_hiddens), np.float32) for _ in range(2))
    epochs = tuple(EpochRecord(n, 9 / 7, 8 / 7, n / 7, n / 9, 1e6 / 7, 7) for n in range(1, num_epochs + 1))
    position = Position(9, epochs, EpochPart(2, 5.5, 77, 0.5, state))
    data = DataSpec(batch_size=4, iterator="sequential")
    training = TrainingSpec(optimizer=SGD(momentum=0.5), schedule=Cosine(steps=100))
    parameters = initial_parameters(spec)
    run = Run(spec, parameters, vocab, data, training, position, 5, "0" * 64, "numpy", {}, "this run",
              {slot_name("m", name): value for name, value in parameters.items()},
              (Change(5, TrainingSpec()),))  # fmt: skip
    save_run(run, folder)
    return folder


@pytest.mark.slow
def test_every_mutated_checkpoint_is_refused_or_loads_to_the_same_model(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "run", 16)
    command = [sys.executable, hostile.__file__, str(folder), str(NUMBER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = re.fullmatch(rf"{NUMBER} mutations, (\d+) refused\n", done.stdout)
    assert found
    assert int(found[1]) > 0.9 * NUMBER


def test_loading_takes_little_more_than_the_file(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "run", 1100)
    size = sum(path.stat().st_size for path in (folder / "latest").glob("*.safetensors"))
    assert size > 100e6
    # Not `getrusage`, whose peak is that of the process that this one was forked from, where it is larger.
    code = (
        "import re, sys, numpy, safetensors.numpy; from d2lrnn.saving.run_folder import load_run\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = peak(); load_run(sys.argv[1]); print(peak() - before)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.2 * size


def test_a_long_history_takes_no_more_than_twice_the_file(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "run", 2, num_epochs=50_000)
    file = folder / "latest" / "run.json"
    assert file.stat().st_size > 10e6
    assert _traced_peak(folder, tmp_path) < 2 * file.stat().st_size


#: Valid vocabularies of which memory holds many times what the file has: short tokens, each with its objects,
#: as many as make the table that finds them double in size; and long ones, all of whose characters take the
#: place of the widest.
VOCABULARIES = {
    "short": [chr(0x10000 + number) for number in range(43_692)],
    "wide": [f"\N{GRINNING FACE}{number:08}" + "x" * 8000 for number in range(1000)],
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_vocabulary_takes_as_much_memory_as_the_page_on_resuming_says(
    name: str, tied: bool, tmp_path: Path
) -> None:
    vocab = Vocab(VOCABULARIES[name])
    embedding = {"embedding_size": 1, "tied": True} if tied else {}
    spec = ModelSpec(len(vocab), num_hiddens=1, **embedding)
    folder = tmp_path / "run"
    save_run(Run(spec, initial_parameters(spec), vocab), folder)
    arrays, description = ((folder / file).stat().st_size for file in ("model.safetensors", "run.json"))
    least = 2 * (arrays + description)
    most = arrays + 5 * description + 200 * len(vocab) + (1 << 20)
    assert least < _traced_peak(folder, tmp_path) < most


def _traced_peak(folder: Path, tmp_path: Path) -> int:
    """The memory that loading a run takes, in a process of its own."""
    # What is imported at the first load is no part of the second one.
    code = (
        "import sys, tracemalloc; from d2lrnn.saving.run_folder import load_run\n"
        "load_run(sys.argv[2]); tracemalloc.start()\n"
        "load_run(sys.argv[1]); print(tracemalloc.get_traced_memory()[1])"
    )
    command = [sys.executable, "-c", code, str(folder), str(_saved(tmp_path / "short", 2))]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("name", ["model.safetensors", "run.json", "SHA256SUMS"])
def test_a_file_without_end_is_refused_by_its_size(name: str, tmp_path: Path) -> None:
    """To hash it would take hours."""
    folder = _saved(tmp_path / "run", 4)
    os.truncate(folder / "latest" / name, 1 << 40)
    with pytest.raises(RunError, match=rf"{name} is damaged: it has [^:]*bytes"):
        load_run(folder)


@pytest.mark.parametrize("mutation", hostile.MUTATIONS)
def test_a_mutation_changes_the_folder(
    tmp_path: Path, mutation: Callable[[Path, random.Random], None]
) -> None:
    """Else the test above would prove nothing."""
    folder = _saved(tmp_path / "run", 4)
    before = _contents(folder)
    mutation((folder / "latest").resolve(), random.Random(1))
    assert _contents(folder) != before


def _contents(folder: Path) -> dict[str, object]:
    return {
        str(path): (path.is_symlink(), path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }
