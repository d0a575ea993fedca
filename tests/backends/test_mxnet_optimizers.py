"""The optimisers on MXNet: its own give other numbers, as d2lrnn_mxnet.optimizers describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pytest
from parity.models import drawn_batch, drawn_parameters

from d2lrnn.contract import optimizers
from d2lrnn.contract.specs import ModelSpec, TrainingSpec

mx = pytest.importorskip("mxnet")

from d2lrnn_mxnet.adapter import MXNetBackend  # noqa: E402
from d2lrnn_mxnet.optimizers import STEPS  # noqa: E402
from mxnet import np  # noqa: E402

BACKEND = MXNetBackend()


@pytest.fixture(autouse=True)
def numpy_semantics() -> Iterator[None]:
    """As in the book's cells. The library itself does without: test_mxnet_process.py."""
    with mx.util.np_shape(True), mx.util.np_array(True):
        yield


def _builtin(optimizer: Any, p: Any, g: Any) -> Any:
    """What MXNet's own optimiser makes of a parameter in one step."""
    array, gradient = mx.nd.array(p), mx.nd.array(g)
    optimizer.update(0, array, gradient, optimizer.create_state(0, array))
    return array.asnumpy()


@pytest.mark.parametrize(
    ("mine", "theirs", "epsilon"),
    [
        (optimizers.Adam(epsilon=0.1), mx.optimizer.Adam, 0.1 * (1 - 0.999) ** 0.5),
        (optimizers.Adagrad(epsilon=0.1), mx.optimizer.AdaGrad, None),
        (optimizers.RMSprop(alpha=0.9, epsilon=0.1), mx.optimizer.RMSProp, None),
    ],
    ids=["adam", "adagrad", "rmsprop"],
)
def test_mxnets_own_optimisers_add_epsilon_elsewhere(mine: Any, theirs: Any, epsilon: float | None) -> None:
    p, g = numpy.linspace(-1, 1, 7), numpy.linspace(0.2, 2, 7)
    value, slots = np.array(p, dtype="float64"), {s: np.zeros(7, dtype="float64") for s in mine.slots}
    STEPS[mine.name](mine, value, np.array(g, dtype="float64"), slots, 0.5, 1, 1.0)
    name = "eps" if theirs is mx.optimizer.AdaGrad else "epsilon"
    own = _builtin(theirs(learning_rate=0.5, **{name: 0.1}), p, g)
    assert numpy.abs(own - value.asnumpy()).max() > 1e-3
    if epsilon is not None:
        same = _builtin(theirs(learning_rate=0.5, **{name: epsilon}), p, g)
        # Its operator has 1 - 0.999 in float32.
        numpy.testing.assert_allclose(same, value.asnumpy(), atol=1e-5)
    else:  # inside the root
        square = slots["v"].asnumpy()
        numpy.testing.assert_allclose(own, p - 0.5 * g / numpy.sqrt(square + 0.1), atol=1e-6)


@pytest.mark.parametrize("optimizer", [optimizers.SGD(momentum=0.9), optimizers.Adam()], ids=repr)
def test_an_optimisers_state_has_the_parameters_layout(optimizer: Any) -> None:
    """Its arrays lie as Gluon's do, transposed and with a second bias, and come out canonical."""
    spec = ModelSpec(11, "gru", "concise", 8, num_layers=2, embedding_size=8, tied=True)
    learner = BACKEND.learner(
        BACKEND.build(spec, drawn_parameters(spec)),
        TrainingSpec(optimizer=optimizer, clip=None),
        device="cpu",
    )
    batch, state = drawn_batch(spec, 2, 4), learner.initial_state(2)
    _, gradients = learner.gradients(batch, state)
    learner.train_step(batch, state)
    exported = learner.export_optimizer_state()
    for name, gradient in gradients.items():
        expected = gradient if optimizer.name == optimizers.SGD.name else 0.1 * gradient
        numpy.testing.assert_allclose(exported[f"optimizer.m.{name}"], expected, rtol=1e-5, atol=1e-8)
    learner.import_optimizer_state({name: value * 2 for name, value in exported.items()})
    for name, value in learner.export_optimizer_state().items():
        numpy.testing.assert_array_equal(value, exported[name] * 2)
