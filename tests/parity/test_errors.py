"""The errors of a backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parity.models import drawn_parameters

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.batches import SlidingWindows
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import DeviceError, KindError, ParameterError
from d2lrnn.generation import generate
from d2lrnn.saving.models import save
from d2lrnn.saving.run_folder import save_run
from d2lrnn.training.trainer import Trainer

SPEC = ModelSpec(7, "gru", "concise", 4, num_layers=2)


def test_parameters_that_do_not_fit(backend: Backend) -> None:
    good = drawn_parameters(SPEC)
    with pytest.raises(ParameterError, match=r"missing: head\.b"):
        backend.build(SPEC, {name: good[name] for name in good if name != "head.b"})
    with pytest.raises(ParameterError, match=r"does not have: 'rnn.2.b'"):
        backend.build(SPEC, {**good, "rnn.2.b": good["rnn.1.b"]})
    with pytest.raises(ParameterError, match=r"rnn.0.w_h has shape \(12, 4\)"):
        backend.build(SPEC, {**good, "rnn.0.w_h": good["rnn.0.w_h"].T})
    with pytest.raises(ParameterError, match=r"head\.w holds a value"):
        backend.build(SPEC, {**good, "head.w": good["head.w"] * np.float32(np.nan)})


def test_a_device_that_is_not_there(backend: Backend) -> None:
    model = backend.build(SPEC, drawn_parameters(SPEC))
    with pytest.raises(DeviceError, match=r"no device gpu:99 .*Available here: .*cpu"):
        backend.learner(model, TrainingSpec(), device="gpu:99")
    with pytest.raises(DeviceError, match="'toaster' is not the name of a device"):
        backend.learner(model, TrainingSpec(), device="toaster")


def test_a_model_and_a_learner_are_not_taken_for_each_other(backend: Backend, tmp_path: Path) -> None:
    model = backend.build(SPEC, drawn_parameters(SPEC))
    learner = backend.learner(model, TrainingSpec(), device="cpu")
    data = SlidingWindows(np.arange(200) % 7, batch_size=4, num_steps=5, num_train=100, num_val=20)
    name = type(model).__name__
    for call in (
        lambda: Trainer(model, data),
        lambda: generate(model, Vocab("abcdef"), "a", 3),
    ):
        with pytest.raises(KindError, match=rf"takes a learner, and this is a {name}: backend\.learner"):
            call()
    with pytest.raises(KindError, match=r"save takes a model, and this is a \w+Learner: give learner\.model"):
        save(learner, tmp_path / "run")
    for thing in (model, learner):
        with pytest.raises(KindError, match=r"save_run takes a .*Run, and this is a \w+: a model alone"):
            save_run(thing, tmp_path / "run")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_devices_and_versions(backend: Backend) -> None:
    assert backend.devices()[-1].name == "cpu"
    assert all(backend.versions().values())


@pytest.mark.gpu
def test_the_gpu_gives_the_same_numbers(backend: Backend, reference: Backend) -> None:
    if backend.devices()[0].name == "cpu":
        pytest.skip(f"no GPU that {backend.name} can use on this machine")
    parameters = drawn_parameters(SPEC)
    learner = backend.learner(backend.build(SPEC, parameters), TrainingSpec(clip=0.1), device="gpu")
    judge = reference.learner(reference.build(SPEC, parameters), TrainingSpec(clip=0.1))
    from parity.models import drawn_batch

    batch = drawn_batch(SPEC, batch_size=4, num_steps=6)
    state, judge_state = learner.initial_state(4), judge.initial_state(4)
    for _ in range(5):
        result, state = learner.train_step(batch, state)
        judged, judge_state = judge.train_step(batch, judge_state)
        assert float(result.loss) == pytest.approx(float(judged.loss), rel=1e-5)
