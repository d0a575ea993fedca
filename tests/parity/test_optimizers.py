"""Every optimiser against the float64 reference, on every cell; its state, its rate, and accumulation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from parity.models import BACKEND, drawn_batch, learners, name_of

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, slot_shapes
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import PADDING, Batch
from d2lrnn.errors import ParameterError

UPDATES, BATCH_SIZE, NUM_STEPS = 50, 8, 10
CLIP = 0.05

#: Each with a rate at which these models learn.
OPTIMIZERS: dict[str, tuple[Optimizer, float]] = {
    "sgd": (SGD(weight_decay=1e-3), 4.0),
    "momentum": (SGD(momentum=0.9, weight_decay=1e-3), 1.0),
    "nesterov": (SGD(momentum=0.9, nesterov=True), 1.0),
    "adam": (Adam(weight_decay=1e-3), 0.01),
    "adamw": (AdamW(beta1=0.8, beta2=0.99, weight_decay=0.1), 0.005),
    "rmsprop": (RMSprop(), 0.01),
    "rmsprop-momentum": (RMSprop(alpha=0.9, momentum=0.5, weight_decay=1e-3), 0.005),
    "adagrad": (Adagrad(weight_decay=1e-3), 0.1),
}
SPECS = [ModelSpec(11, cell, "scratch", 8) for cell in BACKEND.cells("scratch")]
#: Layouts that differ from the canonical one, and parameters that cells of one layer do not have.
WIDER = [
    ModelSpec(11, cell, "concise", 8, num_layers=2, embedding_size=8, tied=cell == SPECS[0].cell)
    for cell in BACKEND.cells("concise")
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


def _batches() -> list[Batch]:
    """A text that can be learned: every token but one in ten follows from the one before."""
    random = np.random.default_rng(0)
    tokens = np.zeros((UPDATES, BATCH_SIZE, NUM_STEPS + 1), np.int32)
    for t in range(1, NUM_STEPS + 1):
        noise = random.integers(0, 11, (UPDATES, BATCH_SIZE))
        tokens[:, :, t] = np.where(
            random.random((UPDATES, BATCH_SIZE)) < 0.1, noise, 3 * tokens[:, :, t - 1] + 1
        )
        tokens[:, :, t] %= 11
    return [Batch(rows[:, :-1].copy(), rows[:, 1:].copy()) for rows in tokens]


def _train(learner: Learner, batches: list[Batch]) -> tuple[list[float], list[float]]:
    """Losses and norms, the state carried."""
    state, losses, norms = learner.initial_state(BATCH_SIZE), [], []
    for batch in batches:
        result, state = learner.train_step(batch, state)
        losses.append(float(result.loss))
        norms.append(float(result.grad_norm))
    return losses, norms


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_fifty_clipped_steps(
    backend: Backend, reference: Backend, spec: ModelSpec, name: str, dtype: str
) -> None:
    _compare(backend, reference, dataclasses.replace(spec, dtype=dtype), name)


@pytest.mark.parametrize("name", ["momentum", "adamw", "rmsprop-momentum"])
@pytest.mark.parametrize("spec", WIDER, ids=name_of)
def test_other_layouts(backend: Backend, reference: Backend, spec: ModelSpec, name: str) -> None:
    _compare(backend, reference, spec, name)


def _compare(backend: Backend, reference: Backend, spec: ModelSpec, name: str) -> None:
    optimizer, rate = OPTIMIZERS[name]
    tolerance = TOLERANCE[spec.dtype]
    training = TrainingSpec(rate, clip=CLIP, optimizer=optimizer)
    learner, judge = learners(backend, reference, spec, training)
    losses, norms = _train(learner, _batches())
    expected, expected_norms = _train(judge, _batches())
    assert sum(norm > CLIP for norm in expected_norms) > 0.9 * UPDATES, "most steps must be clipped"
    assert expected[-1] < expected[0] - 0.4, "nothing was learned"
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-3)
    judged = judge.export_optimizer_state()
    for slot, value in learner.export_optimizer_state().items():
        atol = 100 * tolerance * float(np.abs(judged[slot]).max())
        np.testing.assert_allclose(value, judged[slot], rtol=0, atol=atol, err_msg=slot)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_goes_out_and_in_to_the_last_bit(backend: Backend, reference: Backend, name: str) -> None:
    """Ten steps, then ten more by a fresh learner that was given all that is exported."""
    optimizer, rate = OPTIMIZERS[name]
    spec = WIDER[-1] if WIDER else SPECS[-1]
    training = TrainingSpec(rate, clip=CLIP, optimizer=optimizer)
    batches = _batches()[:20]
    whole, _ = learners(backend, reference, spec, training)
    expected = [float(whole.train_step(batch, whole.initial_state(BATCH_SIZE))[0].loss) for batch in batches]
    first, _ = learners(backend, reference, spec, training)
    for batch in batches[:10]:
        first.train_step(batch, first.initial_state(BATCH_SIZE))
    exported = first.export_optimizer_state()
    assert {k: v.shape for k, v in exported.items()} == slot_shapes(optimizer, parameter_shapes(spec))
    assert all(value.any() for value in exported.values())
    second, _ = learners(backend, reference, spec, training, seed=5)
    second.import_parameters(first.export_parameters())
    second.import_optimizer_state(exported)
    second.step = first.step
    found = [
        float(second.train_step(batch, second.initial_state(BATCH_SIZE))[0].loss) for batch in batches[10:]
    ]
    assert found == expected[10:]
    for key, value in exported.items():
        np.testing.assert_array_equal(value, first.export_optimizer_state()[key])


def test_a_state_that_does_not_fit_is_refused(backend: Backend, reference: Backend) -> None:
    learner, _ = learners(backend, reference, SPECS[0], TrainingSpec(optimizer=Adam()))
    state = learner.export_optimizer_state()
    with pytest.raises(ParameterError, match=r"optimizer states are missing: optimizer\.v\.head\.b"):
        learner.import_optimizer_state({k: v for k, v in state.items() if k != "optimizer.v.head.b"})
    with pytest.raises(ParameterError, match=r"optimizer state optimizer\.m\.head\.b has shape"):
        learner.import_optimizer_state({**state, "optimizer.m.head.b": np.zeros(2, np.float32)})


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_rate_is_a_number_of_the_step(backend: Backend, reference: Backend, name: str) -> None:
    optimizer, rate = OPTIMIZERS[name]
    spec = dataclasses.replace(SPECS[0], dtype="float64")
    pair = learners(backend, reference, spec, TrainingSpec(rate, clip=CLIP, optimizer=optimizer))
    losses = []
    for learner in pair:
        assert learner.learning_rate == rate
        state, own = learner.initial_state(BATCH_SIZE), []
        for number, batch in enumerate(_batches()[:12]):
            learner.learning_rate = rate / (1 + number)
            result, state = learner.train_step(batch, state)
            own.append(float(result.loss))
        losses.append(own)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)


@pytest.mark.parametrize("parts", [2, 3, 8])
@pytest.mark.parametrize("carried", [True, False], ids=["carried", "fresh"])
def test_accumulation_gives_the_numbers_of_the_whole_batch(
    backend: Backend, reference: Backend, parts: int, carried: bool
) -> None:
    """With dropout, padding, a state that is carried, and parts of unequal sizes."""
    cell = next(name for name in reversed(BACKEND.cells("scratch")))
    spec = ModelSpec(11, cell, "scratch", 8, num_layers=2, dropout=0.3, embedding_size=6,
                     input_dropout=0.2, output_dropout=0.2, dtype="float64")  # fmt: skip
    whole = TrainingSpec(0.01, clip=CLIP, seed=4, optimizer=Adam())
    learner, _ = learners(backend, reference, spec, dataclasses.replace(whole, accumulate=parts))
    _, judge = learners(backend, reference, spec, whole)
    states = [learner.initial_state(BATCH_SIZE), judge.initial_state(BATCH_SIZE)]
    for batch in _batches()[:6]:
        targets = batch.targets.copy()
        targets[-2:] = PADDING
        results = []
        for index, each in enumerate((learner, judge)):
            before = states[index] if carried else each.initial_state(BATCH_SIZE)
            result, states[index] = each.train_step(Batch(batch.inputs, targets), before)
            results.append(result)
        assert float(results[0].loss) == pytest.approx(float(results[1].loss), rel=1e-9)
        assert float(results[0].grad_norm) == pytest.approx(float(results[1].grad_norm), rel=1e-9)
    expected = judge.export_parameters()
    for name, value in learner.export_parameters().items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-9, err_msg=name)
    assert len(learner.export_state(states[0])) == len(find_cell(cell).states)


def test_accumulation_carries_the_state_of_every_row(backend: Backend, reference: Backend) -> None:
    spec = dataclasses.replace(SPECS[-1], dtype="float64")
    pair = [learners(backend, reference, spec, TrainingSpec(1e-9, accumulate=parts))[0] for parts in (1, 3)]
    batch = drawn_batch(spec, BATCH_SIZE, NUM_STEPS)
    states = [each.export_state(each.train_step(batch, each.initial_state(BATCH_SIZE))[1]) for each in pair]
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-12)
