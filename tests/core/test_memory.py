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
from d2lrnn.contract.cells import CELLS
from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.errors import SpecError
from d2lrnn.training.model_size import num_parameters


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
