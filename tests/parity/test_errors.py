"""The errors of a backend."""

from __future__ import annotations

import numpy as np
import pytest
from parity.models import drawn_parameters

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.errors import DeviceError, ParameterError

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
