"""Models that move: saved on one backend, loaded on another, through the files alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parity.models import KINDS, REPRESENTATIVE, drawn_batch, drawn_parameters, name_of

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError
from d2lrnn.generation import generate
from d2lrnn.saving.run_folder import load_run

VOCAB = Vocab(list("abcdefghi "))


@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_a_model_is_exported_as_it_was_built(backend: Backend, spec: ModelSpec) -> None:
    parameters = drawn_parameters(spec)
    found, exported = backend.export_model(backend.build(spec, parameters))
    assert found == spec
    assert list(exported) == list(parameters)
    for name, value in exported.items():
        assert value.dtype == parameters[name].dtype
        np.testing.assert_array_equal(value, parameters[name])


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_saved_and_loaded_it_gives_the_same_logits(
    backend: Backend, reference: Backend, spec: ModelSpec, tmp_path: Path
) -> None:
    """To the reference and back: what is trained here writes the same text there."""
    learner = backend.learner(backend.build(spec, drawn_parameters(spec)), TrainingSpec(), device="cpu")
    batch = drawn_batch(spec, 4, 6)
    for _ in range(3):
        learner.train_step(batch, learner.initial_state(4))
    d2lrnn.save(learner.model, tmp_path / "there", vocab=VOCAB)
    theirs = d2lrnn.load(tmp_path / "there", backend="numpy")
    d2lrnn.save(theirs, tmp_path / "back")
    back = d2lrnn.load(tmp_path / "back", backend=backend.name)
    assert load_run(tmp_path / "there").backend == backend.name
    logits, texts = [], []
    for owner, model in ((backend, learner.model), (reference, theirs), (backend, back)):
        reader = owner.learner(model, TrainingSpec(), device="cpu")
        state = reader.initial_state(4)
        for column in batch.inputs.T:
            scores, state = reader.predict_step(np.ascontiguousarray(column), state)
        logits.append(scores)
        texts.append(generate(reader, VOCAB, "abc", 30))
    np.testing.assert_allclose(logits[1], logits[0], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(logits[2], logits[0])
    assert texts[0] == texts[1] == texts[2]


def test_saved_models_generate(backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = REPRESENTATIVE[0]
    model = backend.build(spec, drawn_parameters(spec))
    d2lrnn.save(model, tmp_path / "with", vocab=VOCAB)
    assert main(["generate", str(tmp_path / "with"), "--prefix", "abc", "--num", "9"]) == 0
    assert len(capsys.readouterr().out.strip("\n")) == 12
    d2lrnn.save(model, tmp_path / "without")
    for words, message in (
        (["generate", str(tmp_path / "without")], "without a vocabulary, which generating text needs"),
        (["evaluate", str(tmp_path / "with")], "holds a model alone"),
        (["train", "--resume", str(tmp_path / "with")], "it can be loaded, and not resumed"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err


def test_what_is_no_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"builtins.dict is not a model of any backend"):
        d2lrnn.save({}, tmp_path)
