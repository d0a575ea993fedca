"""The values that cross the border: what they hold, and what they refuse."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from d2lrnn.contract.clipping import clip_scale, global_norm
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import dropout_masks
from d2lrnn.contract.parameters import check_parameters, initial_parameters, parameter_shapes
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch, Device
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import DeviceError, SpecError
from d2lrnn.training.metrics import bits_per_token, perplexity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "transformer"}, "unknown cell 'transformer': choose one of rnn, gru, lstm"),
        ({"implementation": "magic"}, "unknown implementation"),
        ({"dtype": "float16"}, "unknown dtype"),
        ({"vocab_size": 0}, "vocabulary size is 0"),
        ({"num_hiddens": -3}, "hidden units is -3: it must be at least 1"),
        ({"num_layers": 0}, "number of layers is 0"),
        ({"dropout": 1.0, "implementation": "concise"}, "dropout rate is 1.0"),
        ({"dropout": math.nan, "implementation": "concise"}, "dropout rate is nan"),
        ({"dropout": 0.1}, "dropout belongs to the concise models"),
        ({"cell": "gru", "implementation": "concise", "reset_after": False}, "only the scratch GRU"),
        ({"reset_after": True}, "reset_after belongs to the GRU"),
    ],
)
def test_models_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ModelSpec(**{"vocab_size": 28, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning rate is 0.0: it must be a number above 0"),
        ({"learning_rate": math.inf}, "learning rate is inf"),
        ({"clip": -1.0}, "clipping norm is -1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_training_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TrainingSpec(**change)


def test_specs_survive_the_way_through_json() -> None:
    spec = ModelSpec(28, "gru", "concise", 64, 2, dropout=0.1)
    assert ModelSpec(**spec.to_json()) == spec
    assert spec.reset_after is True
    assert ModelSpec(28, "gru").reset_after is False
    assert dataclasses.replace(ModelSpec(28, "gru"), reset_after=True).reset_after is True
    training = TrainingSpec(0.5, None, 7)
    assert TrainingSpec(**training.to_json()) == training
    data = DataSpec(iterator="sequential", batch_size=8)
    assert DataSpec(**data.to_json()) == data


def test_data_that_cannot_be() -> None:
    with pytest.raises(SpecError, match="unknown iterator 'zigzag': choose one of sliding"):
        DataSpec(iterator="zigzag")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="window counts belong to the sliding iterator"):
        DataSpec(iterator="random", num_train=5)


def test_padding_is_not_counted() -> None:
    targets = np.array([[1, 0, PADDING], [PADDING] * 3], np.int32)
    assert Batch(np.zeros((2, 3), np.int32), targets).num_tokens == 2


def test_shapes_of_the_canonical_parameters() -> None:
    assert parameter_shapes(ModelSpec(28, "rnn", "scratch", 4)) == {
        "rnn.0.w_x": (28, 4), "rnn.0.w_h": (4, 4), "rnn.0.b": (4,), "head.w": (4, 28), "head.b": (28,),
    }  # fmt: skip
    gru = parameter_shapes(ModelSpec(28, "gru", "concise", 4, 2))
    assert gru["rnn.1.w_x"] == (4, 12)
    assert gru["rnn.1.b_hn"] == (4,)
    assert "rnn.0.b_hn" not in parameter_shapes(ModelSpec(28, "gru", "scratch", 4))
    assert parameter_shapes(ModelSpec(28, "lstm", "concise", 4))["rnn.0.b"] == (16,)


def test_initial_values_are_the_same_everywhere() -> None:
    """Pinned, so that NumPy's versions, the backends' environments among them, cannot part in silence."""
    scratch = initial_parameters(ModelSpec(28, "rnn", "scratch", 32), seed=0)
    concise = initial_parameters(ModelSpec(28, "gru", "concise", 32, 2), seed=0)
    assert float(scratch["rnn.0.w_x"][0, 0]) == pytest.approx(0.0014296869, rel=1e-6)
    assert float(concise["rnn.1.b_hn"][3]) == pytest.approx(0.03594023, rel=1e-6)
    assert 0.009 < float(scratch["rnn.0.w_h"].std()) < 0.011
    assert not scratch["rnn.0.b"].any()
    assert 0.9 * 32**-0.5 < float(np.abs(concise["rnn.0.w_h"]).max()) <= 32**-0.5


def test_initial_values_depend_on_seed_and_name_alone() -> None:
    one = initial_parameters(ModelSpec(28, "rnn", "concise", 8), seed=1)
    deeper = initial_parameters(ModelSpec(28, "rnn", "concise", 8, 3), seed=1)
    for name, value in one.items():
        np.testing.assert_array_equal(value, deeper[name])
    assert not np.array_equal(deeper["rnn.1.w_h"], deeper["rnn.2.w_h"])
    other = initial_parameters(ModelSpec(28, "rnn", "concise", 8), seed=2)
    assert not np.array_equal(one["head.w"], other["head.w"])
    wide = initial_parameters(ModelSpec(28, "rnn", "concise", 8, dtype="float64"), seed=1)
    assert wide["head.w"].dtype == np.float64
    np.testing.assert_array_equal(wide["head.w"], one["head.w"])


def test_checked_parameters_are_contiguous() -> None:
    spec = ModelSpec(5, "rnn", "scratch", 3)
    values = {name: np.asfortranarray(value) for name, value in initial_parameters(spec).items()}
    assert all(value.flags.c_contiguous for value in check_parameters(spec, values).values())


def test_dropout_masks() -> None:
    spec = ModelSpec(28, "gru", "concise", 40, 3, dropout=0.3)

    def draw(seed: int = 5, step: int = 0) -> np.ndarray:
        masks = dropout_masks(spec, seed=seed, step=step, num_steps=30, batch_size=20)
        assert masks is not None
        return masks

    masks = draw()
    assert masks.shape == (2, 30, 20, 40)
    assert masks.dtype == np.float32
    assert set(np.unique(masks).tolist()) == {0.0, float(np.float32(1 / 0.7))}
    assert float((masks == 0).mean()) == pytest.approx(0.3, abs=0.01)
    # Neither layers nor steps nor sequences share a mask; a step's number and the seed decide it.
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0, 0], masks[0, 1])
    assert not np.array_equal(masks[0, 0, 0], masks[0, 0, 1])
    np.testing.assert_array_equal(masks, draw())
    assert not np.array_equal(masks, draw(step=1))
    assert not np.array_equal(masks, draw(seed=6))
    single = dataclasses.replace(spec, num_layers=1)
    assert dropout_masks(single, seed=0, step=0, num_steps=2, batch_size=2) is None


def test_clipping() -> None:
    gradients = [np.array([3.0, 0.0]), np.array([[4.0]])]
    assert global_norm(gradients) == 5.0
    assert clip_scale(5.0, 1.0) == 0.2
    assert clip_scale(0.5, 1.0) == 1.0
    assert clip_scale(5.0, None) == 1.0


def test_perplexity_is_made_of_totals() -> None:
    assert perplexity(10 * math.log(7), 10) == pytest.approx(7)
    assert perplexity(1e6, 1) == math.inf
    assert math.isnan(perplexity(0.0, 0))
    assert bits_per_token(8 * math.log(2), 4) == pytest.approx(2)


def test_devices_are_chosen_by_name() -> None:
    two = [Device("gpu:0", "a"), Device("gpu:1", "b"), Device("cpu", "c")]
    assert choose_device("auto", two).name == "gpu:0"
    assert choose_device("gpu", two).name == "gpu:0"
    assert choose_device("gpu:1", two).name == "gpu:1"
    assert choose_device("cpu", two).name == "cpu"
    with pytest.raises(DeviceError, match=r"no device gpu:7 for this backend. Available here: gpu:0 \(a\)"):
        choose_device("gpu:7", two)
