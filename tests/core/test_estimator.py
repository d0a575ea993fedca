"""The language model in scikit-learn's manner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn import LanguageModel
from d2lrnn.cli.main import main
from d2lrnn.errors import SpecError, TextError

TEXT = "the time traveller came back and told us of the time to come. " * 12


def _model(**params: Any) -> LanguageModel:
    small: dict[str, Any] = {
        "cell": "gru",
        "num_hiddens": 8,
        "batch_size": 64,
        "num_epochs": 2,
        "backend": "numpy",
    }
    return LanguageModel(**(small | params))


def test_it_is_trained_as_the_command_line_trains(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    options = ["--cell", "gru", "--hidden", "8", "--batch-size", "64", "--epochs", "2", "--backend", "numpy"]
    assert main(["train", str(tmp_path / "text.txt"), *options, "--out", str(tmp_path / "run")]) == 0
    run, model = d2lrnn.load_run(tmp_path / "run"), _model().fit(TEXT)
    assert model.vocab_ == run.vocab
    for name, value in model.learner_.export_parameters().items():
        np.testing.assert_array_equal(value, run.parameters[name])


def test_it_measures_and_writes() -> None:
    model = _model(learning_rate=2.0, num_epochs=6)
    assert model.fit(TEXT) is model
    perplexity = model.perplexity("the time to come is the time of the traveller")
    assert perplexity < 0.8 * len(model.vocab_)
    assert model.score("the time to come is the time of the traveller") == -perplexity
    assert model.perplexity("zqj zqj zqj zqj zqj zqj zqj zqj zqj zqj") > perplexity
    assert model.generate("the time", 10, temperature=0.5, seed=1).startswith("the time")
    assert "\n" in model.fit([TEXT, TEXT]).vocab_


def test_parameters_are_read_copied_and_changed() -> None:
    model = _model()
    copy = type(model)(**model.get_params())
    assert copy.get_params(deep=False) == model.get_params()
    assert copy.set_params(cell="lstm", dropout=0.5) is copy
    assert (copy.cell, model.cell) == ("lstm", "gru")
    with pytest.raises(SpecError, match="unknown parameter 'hiddens': choose one of cell, "):
        copy.set_params(seed=7, hiddens=3)
    assert copy.seed == 0


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(SpecError, match=r"knows no text yet: call fit\(text\) first"):
        _model().generate("the", 3)
    with pytest.raises(TextError, match="has 3 tokens: to train on windows of 32 steps it needs at least 66"):
        _model().fit("abc")
    _model(num_epochs=1, batch_size=2).fit("ab" * 33)
    with pytest.raises(SpecError, match="unknown optimizer 'nadam'"):
        _model(optimizer="nadam").fit(TEXT)
