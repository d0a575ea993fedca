"""A training that memory cannot hold is refused before anything is allocated."""

from __future__ import annotations

import math
import re
import tracemalloc
from pathlib import Path

import pytest

from d2lrnn.cli import memory
from d2lrnn.cli.main import main
from d2lrnn.cli.memory import check_memory
from d2lrnn.cli.output import describe_bytes, describe_size
from d2lrnn.contract.cells import CELLS
from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import SpecError
from d2lrnn.registry import backend
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.model_size import bytes_of_training, num_parameters


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("embedding", [None, 7])
def test_parameters_are_counted_without_making_them(cell: str, layers: int, embedding: int | None) -> None:
    spec = ModelSpec(28, cell, num_hiddens=6, num_layers=layers, embedding_size=embedding)
    assert num_parameters(spec) == sum(map(math.prod, parameter_shapes(spec).values()))


@pytest.mark.parametrize(("words", "message"), [
    (["--hidden", "1000000"],
     "has 8.0 GB: .* parameters, .* take 8.0 TB. Lower --hidden, --layers or --embedding"),
    (["--layers", "100000000"], "the gates and states of .* take .* Lower .*--layers"),
    (["--hidden", "4096", "--batch-size", "60000", "--steps", "1000"],
     "the gates and states of 60,000,000 tokens of a batch take .* Lower --batch-size, --steps"),
    (["--hidden", "1", "--batch-size", "60000", "--steps", "1000"],
     "the logits of .* over 28 symbols, .* take 13.4 GB. Lower --batch-size or --steps"),
])  # fmt: skip
def test_what_is_too_large_is_refused_with_what_to_lower(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on a machine of 8 GB.
    monkeypatch.setattr(memory, "_physical_memory", lambda: 8_000_000_000)
    tracemalloc.start()
    try:
        assert main(["train", *words, "--out", str(tmp_path / "run")]) == 2
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_the_optimizer_remembers_and_parts_of_a_batch_count(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(28, num_hiddens=1000)
    size = 4 * num_parameters(spec)
    monkeypatch.setattr(memory, "_physical_memory", lambda: 3 * size)
    check_memory(spec, TrainingSpec(), 1, 1)
    with pytest.raises(SpecError, match="optimiser's state"):
        check_memory(spec, TrainingSpec(optimizer=Adam()), 1, 1)
    with pytest.raises(SpecError, match="gates and states of 2,000 tokens"):
        check_memory(spec, TrainingSpec(), 200, 10)
    check_memory(spec, TrainingSpec(accumulate=10), 200, 10)


def test_the_memory_of_a_training_by_its_formula() -> None:
    spec = ModelSpec(28, "lstm", num_hiddens=10, num_layers=3, dtype="float64")
    training = TrainingSpec(optimizer=Adam(), accumulate=4)
    needed = bytes_of_training(spec, training, batch_size=30, num_steps=7)
    rows = 8 * 7
    # Parameters, gradients, two moments; i, f, g, o, h, c of every layer; logits and their gradient.
    assert needed.parameters == 4 * 8 * num_parameters(spec)
    assert needed.states == rows * 3 * 10 * 6 * 8
    assert needed.logits == rows * 28 * 2 * 8
    assert needed.total == sum(needed)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_training_needs_no_less_than_is_said(cell: str) -> None:
    """Measured on the reference: at least what is said, and not far more."""
    spec, training = ModelSpec(28, cell, num_hiddens=64), TrainingSpec(optimizer=Adam())
    numpy_backend = backend("numpy")
    corpus, data = DataSpec(batch_size=256, num_steps=32, num_train=256).load()
    batch = next(iter(data.train_batches(1)))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        learner = numpy_backend.learner(
            numpy_backend.build(spec, initial_parameters(spec, 0)), training, device="cpu"
        )
        for _ in range(2):
            learner.train_step(batch, learner.initial_state(256))
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    said = bytes_of_training(spec, training, 256, 32).total
    assert len(corpus.vocab) == 28
    assert said <= peak <= 4 * said


def test_a_training_says_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--num-train", "60", "--num-val", "20", "--steps", "8", "--batch-size", "30", "--epochs", "1"]
    assert main(["train", *argv, "--hidden", "4", "--optimizer", "adam"]) == 0
    spec = ModelSpec(28, num_hiddens=4)
    needed = bytes_of_training(spec, TrainingSpec(optimizer=Adam()), 30, 8).total
    line = f"size     {num_parameters(spec):,} parameters; with their gradients, the optimizer and a step "
    assert f"{line}at least {needed / 1000:.1f} kB\n" in capsys.readouterr().out
    assert describe_size(spec, TrainingSpec(), DataSpec(), 2).endswith(" in each worker")


@pytest.mark.parametrize(("size", "shown"), [
    (0, "0.0 kB"), (999, "1.0 kB"), (999_900, "999.9 kB"), (25e9, "25.0 GB"), (3.2e15, "3,200.0 TB"),
])  # fmt: skip
def test_bytes_for_people(size: float, shown: str) -> None:
    assert describe_bytes(size) == shown
