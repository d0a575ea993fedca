"""The values of the contract: what they hold, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from d2lrnn.contract.clipping import clip_scale, global_norm
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.dropout import dropout_masks
from d2lrnn.contract.parameters import check_parameters, parameter_shapes
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch, Device, row_slices
from d2lrnn.data.batches import SlidingWindows
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import DeviceError, SpecError
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.metrics import bits_per_token, perplexity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "transformer"}, "unknown cell 'transformer': choose one of rnn, rnn-relu, gru, lstm, mgu"),
        ({"implementation": "magic"}, "unknown implementation"),
        ({"dtype": "float16"}, "unknown dtype"),
        ({"vocab_size": 0}, "vocabulary size is 0"),
        ({"vocab_size": 28.0}, "the vocabulary size is 28.0: it must be a whole number"),
        ({"num_hiddens": "32"}, "the number of hidden units is '32': it must be a whole number"),
        ({"num_layers": True}, "the number of layers is True: it must be a whole number"),
        ({"num_layers": None}, "the number of layers is None: it must be a whole number"),
        ({"embedding_size": np.float32(8)}, "the embedding size is .*8.0.*: it must be a whole number"),
        ({"dropout": "0.5"}, "dropout rate is '0.5': it must be a number"),
        ({"num_hiddens": -3}, "hidden units is -3: it must be at least 1"),
        ({"num_layers": 0}, "number of layers is 0"),
        ({"dropout": 1.0, "implementation": "concise"}, "dropout rate is 1.0"),
        ({"dropout": math.nan, "implementation": "concise"}, "dropout rate is nan"),
        ({"output_dropout": -0.1}, "dropout rate of the outputs is -0.1"),
        ({"input_dropout": 0.1}, "dropout of the inputs needs an embedding"),
        ({"input_dropout": 2.0, "embedding_size": 3}, "dropout rate of the inputs is 2.0"),
        ({"embedding_size": 0}, "embedding size is 0"),
        ({"tied": True}, "a tied head needs an embedding"),
        ({"tied": True, "embedding_size": 16}, "the embedding size is 16, the number of hidden units 32"),
        ({"cell": "gru", "implementation": "concise", "reset_after": False}, "only the scratch one"),
        ({"cell": "mgu", "implementation": "concise"}, "no framework has a layer of the cell mgu"),
        ({"reset_after": True}, "reset_after does not apply to cell='rnn'"),
    ],
)
def test_invalid_models(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ModelSpec(**{"vocab_size": 28, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning rate is 0.0: it must be a number above 0"),
        ({"learning_rate": math.inf}, "learning rate is inf"),
        ({"clip": -1.0}, "clipping norm is -1.0"),
        ({"learning_rate": "1"}, "the learning rate is '1': it must be a number above 0"),
        ({"learning_rate": None}, "the learning rate is None"),
        ({"clip": "1"}, "the clipping norm is '1'"),
        ({"seed": -1}, "seed is -1: it must be 0 or above"),
        ({"seed": 1.0}, "the seed is 1.0: it must be a whole number"),
        ({"accumulate": "2"}, "parts to accumulate is '2': it must be a whole number"),
        ({"accumulate": 0}, "number of parts to accumulate is 0"),
    ],
)
def test_invalid_training(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TrainingSpec(**change)


def test_specs_survive_the_way_through_json() -> None:
    spec = ModelSpec(28, "gru", "concise", 64, 2, dropout=0.1)
    assert ModelSpec(**spec.to_json()) == spec
    assert spec.reset_after is True
    assert ModelSpec(28, "gru").reset_after is False
    assert dataclasses.replace(ModelSpec(28, "gru"), reset_after=True).reset_after is True
    spec = ModelSpec(28, "lstm", num_hiddens=8, embedding_size=8, tied=True, output_dropout=0.5)
    assert ModelSpec(**spec.to_json()) == spec
    data = DataSpec(iterator="sequential", batch_size=8)
    assert DataSpec(**data.to_json()) == data


def test_whole_numbers_of_any_type_go_into_a_saved_run() -> None:
    spec = ModelSpec(np.int64(28), num_hiddens=np.uint8(4), embedding_size=np.int16(3))  # type: ignore[arg-type]
    assert json.loads(json.dumps(spec.to_json())) == ModelSpec(28, num_hiddens=4, embedding_size=3).to_json()
    data = DataSpec(batch_size=np.int32(8), num_train=np.int64(5), seed=np.int8(1))  # type: ignore[arg-type]
    assert json.loads(json.dumps(data.to_json()))["batch_size"] == 8
    assert json.dumps(TrainingSpec(seed=np.int64(3)).to_json())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 32.0}, "batch_size is 32.0: it must be a whole number"),
        ({"batch_size": None}, "batch_size is None: it must be a whole number"),
        ({"num_steps": "5"}, "num_steps is '5': it must be a whole number"),
        ({"num_train": 0}, "num_train is 0: it must be at least 1"),
        ({"num_val": 2.5}, "num_val is 2.5: it must be a whole number"),
        ({"seed": "0"}, "the seed is '0': it must be a whole number"),
        ({"min_freq": -1}, "the least frequency of a token is -1: it must be 0 or above"),
    ],
)
def test_invalid_sizes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        DataSpec(**change)
    if "min_freq" not in change:
        with pytest.raises(SpecError, match=message):
            SlidingWindows(np.arange(50) % 5, **{"batch_size": 2, "num_steps": 3, **change})


def test_invalid_data() -> None:
    with pytest.raises(SpecError, match="unknown iterator 'zigzag': choose one of sliding"):
        DataSpec(iterator="zigzag")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="numbers of windows apply to the sliding iterator only"):
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
    embedded = parameter_shapes(ModelSpec(28, "mgu", "scratch", 4, embedding_size=7))
    assert next(iter(embedded)) == "embedding.w"
    assert (embedded["embedding.w"], embedded["rnn.0.w_x"]) == ((28, 7), (7, 8))
    assert "head.w" not in parameter_shapes(ModelSpec(28, num_hiddens=7, embedding_size=7, tied=True))


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
        assert masks.inputs is None
        assert masks.outputs is None
        assert masks.between is not None
        return masks.between

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


def test_dropout_masks_of_inputs_and_outputs() -> None:
    spec = ModelSpec(
        28, "gru", "concise", 40, 2, 0.5, embedding_size=40, input_dropout=0.5, output_dropout=0.5
    )
    masks = dropout_masks(spec, seed=5, step=3, num_steps=30, batch_size=20)
    assert masks is not None
    inputs, between, outputs = (np.asarray(mask) for mask in masks)
    assert (inputs.shape, between.shape, outputs.shape) == ((30, 20, 40), (1, 30, 20, 40), (30, 20, 40))
    # Of the same rate and shape, and yet each its own.
    for one, other in ((inputs, between[0]), (inputs, outputs), (between[0], outputs)):
        assert 0.4 < float((one == other).mean()) < 0.6
    # Dropout between layers alone, as it was before there were other kinds: saved runs go on with it.
    alone = dropout_masks(
        dataclasses.replace(spec, input_dropout=0.0, output_dropout=0.0), seed=5, step=3, num_steps=30,
        batch_size=20,
    )  # fmt: skip
    assert alone is not None
    np.testing.assert_array_equal(alone.between, between)
    # Pinned, so that no version of NumPy can draw otherwise in silence.
    assert between[0, 0, 0, :12].tolist() == [0, 2, 0, 2, 2, 2, 2, 0, 2, 2, 0, 2]
    part = masks.rows(slice(3, 5))
    np.testing.assert_array_equal(part.between, between[:, :, 3:5])
    np.testing.assert_array_equal(part.inputs, inputs[:, 3:5])


def test_the_rows_of_a_batch_are_cut_into_parts() -> None:
    assert [(s.start, s.stop) for s in row_slices(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert [(s.start, s.stop) for s in row_slices(2, 5)] == [(0, 1), (1, 2)]
    assert [(s.start, s.stop) for s in row_slices(4, 1)] == [(0, 4)]


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
