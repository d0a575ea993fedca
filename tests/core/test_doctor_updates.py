"""Updates that should be one: faults written out here as a person would have made them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn.doctor.updates import UpdateTrace
from d2lrnn.errors import PortError
from d2lrnn.training.schedules import Cosine

NUM_STEPS = 4
SHAPES = {"rnn.0.w_x": (5, 8), "rnn.0.w_h": (8, 8), "rnn.0.b": (8,)}

Arrays = dict[str, FloatArray]
#: The step of a parameter p with gradient g, what is remembered of it, and the number of the step.
Step = Callable[[FloatArray, FloatArray, dict[str, Any], int], FloatArray]


def _drawn(seed: int, scale: float = 1.0) -> Arrays:
    draw = np.random.RandomState(seed)
    return {name: scale * draw.standard_normal(shape) for name, shape in SHAPES.items()}


BEFORE = _drawn(0, 0.3)
GRADIENTS = [_drawn(seed, 0.05) for seed in range(1, NUM_STEPS + 1)]
#: Of two workers each, whose norms differ.
WORKERS = [(_drawn(10 + seed, 0.05), _drawn(20 + seed, 0.4)) for seed in range(NUM_STEPS)]


def _norm(arrays: Arrays) -> float:
    return float(np.sqrt(sum((array**2).sum() for array in arrays.values())))


def _made(step: Step, gradients: list[Arrays] = GRADIENTS, dtype: str = "float64") -> Arrays:
    """What a step makes of the parameters."""
    values = {name: array.copy() for name, array in BEFORE.items()}
    remembered: dict[str, dict[str, Any]] = {name: {"m": 0.0, "v": 0.0} for name in values}
    for t, gradient in enumerate(gradients, start=1):
        for name in values:
            values[name] = step(values[name], gradient[name], remembered[name], t)
    return {name: array.astype(dtype) for name, array in values.items()}


def _adam(
    rate: float = 0.01, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-4, decay: float = 0.0,
    coupled: float = 0.0, corrected: bool = True, where: str = "outside",
) -> Step:  # fmt: skip
    def step(p: FloatArray, g: FloatArray, s: dict[str, Any], t: int) -> FloatArray:
        p, g = p - rate * decay * p, g + coupled * p
        s["m"], s["v"] = beta1 * s["m"] + (1 - beta1) * g, beta2 * s["v"] + (1 - beta2) * g**2
        c1, c2 = (1 - beta1**t, 1 - beta2**t) if corrected else (1, 1)
        if where == "hat":
            return p - rate * np.sqrt(c2) / c1 * s["m"] / (np.sqrt(s["v"]) + epsilon)
        root = np.sqrt(s["v"] / c2 + epsilon) if where == "inside" else np.sqrt(s["v"] / c2) + epsilon
        return p - rate * s["m"] / c1 / root

    return step


def _sgd(rate: float = 0.1, momentum: float = 0.0, dampening: float = 0.0, first: bool = True,
         nesterov: bool = False, coupled: float = 0.0, decay: float = 0.0) -> Step:  # fmt: skip
    def step(p: FloatArray, g: FloatArray, s: dict[str, Any], t: int) -> FloatArray:
        p, g = p - rate * decay * p, g + coupled * p
        s["m"] = momentum * s["m"] + (g if t == 1 and not first else (1 - dampening) * g)
        return p - rate * (g + momentum * s["m"] if nesterov else s["m"])

    return step


def _root(rate: float = 0.01, alpha: float | None = 0.99, epsilon: float = 1e-4, inside: bool = False,
          start: float = 0.0) -> Step:  # fmt: skip
    def step(p: FloatArray, g: FloatArray, s: dict[str, Any], t: int) -> FloatArray:
        s["v"] = start if t == 1 else s["v"]
        s["v"] = s["v"] + g**2 if alpha is None else alpha * s["v"] + (1 - alpha) * g**2
        return p - rate * g / (np.sqrt(s["v"] + epsilon) if inside else np.sqrt(s["v"]) + epsilon)

    return step


def _clipped(how: str, theta: float = 0.5, parts: list[tuple[Arrays, Arrays]] = WORKERS) -> list[Arrays]:
    """The gradients of two workers, added up and clipped somehow."""
    found = []
    for pair in parts:
        if how == "each worker":
            pair = tuple({n: g * min(1, theta / _norm(part)) for n, g in part.items()} for part in pair)
        total = {name: pair[0][name] + pair[1][name] for name in SHAPES}
        if how == "norm":
            total = {name: g * min(1, theta / _norm(total)) for name, g in total.items()}
        if how == "a little":
            total = {name: g * min(1, theta / (_norm(total) + 1e-6)) for name, g in total.items()}
        if how == "each parameter":
            total = {name: g * min(1, theta / _norm({name: g})) for name, g in total.items()}
        if how == "value":
            total = {name: np.clip(g, -theta, theta) for name, g in total.items()}
        found.append(total)
    return found


def _scaled(factor: float) -> list[Arrays]:
    return [{name: factor * g for name, g in gradient.items()} for gradient in GRADIENTS]


def _training(optimizer: Optimizer, rate: float, clip: float | None = None) -> TrainingSpec:
    return TrainingSpec(rate, clip, optimizer=optimizer)


ADAM = _training(Adam(epsilon=1e-4), 0.01)
MOMENTUM = _training(SGD(momentum=0.9), 0.1)
CLIPPED = _training(SGD(), 0.1, 0.5)
PLAIN = _training(SGD(), 0.1)

#: What was meant, what a makes of it, what b makes of it, what b's fault is, and a part of its sentence.
FAULTS: dict[str, tuple[TrainingSpec, Arrays, Arrays, str, str]] = {
    "adam, inside": (
        ADAM,
        _made(_adam()),
        _made(_adam(where="inside")),
        "epsilon inside the root",
        "other side of the root",
    ),
    "adam, hat": (
        ADAM,
        _made(_adam()),
        _made(_adam(where="hat")),
        "epsilon beside the uncorrected root",
        "epsilon hat",
    ),
    "adam, not corrected": (
        ADAM,
        _made(_adam()),
        _made(_adam(corrected=False)),
        "no bias correction",
        "does not correct",
    ),
    "adam, 1e-7": (ADAM, _made(_adam()), _made(_adam(epsilon=1e-7)), "epsilon", "1e-07, where 0.0001"),
    "adam, beta2": (ADAM, _made(_adam()), _made(_adam(beta2=0.99)), "beta2", "0.99, where 0.999"),
    "adam, rate": (ADAM, _made(_adam()), _made(_adam(rate=0.001)), "learning rate", "is 0.001, where 0.01"),
    "adam, decoupled": (
        _training(Adam(0.1, epsilon=1e-4), 0.01),
        _made(_adam(coupled=0.1)),
        _made(_adam(decay=0.1)),
        "weight decay",
        "from the parameter",
    ),
    "adamw, coupled": (
        _training(AdamW(0.1, epsilon=1e-4), 0.01),
        _made(_adam(decay=0.1)),
        _made(_adam(coupled=0.1)),
        "weight decay",
        "to the gradient",
    ),
    "adamw, no decay": (
        _training(AdamW(0.1, epsilon=1e-4), 0.01),
        _made(_adam(decay=0.1)),
        _made(_adam()),
        "weight decay",
        "is 0,",
    ),
    "rmsprop, inside": (
        _training(RMSprop(epsilon=1e-4), 0.01),
        _made(_root()),
        _made(_root(inside=True)),
        "epsilon inside the root",
        "other side of the root",
    ),
    "rmsprop, alpha": (
        _training(RMSprop(epsilon=1e-4), 0.01),
        _made(_root()),
        _made(_root(alpha=0.9)),
        "alpha",
        "0.9, where 0.99",
    ),
    "adagrad, inside": (
        _training(Adagrad(epsilon=1e-4), 0.01),
        _made(_root(alpha=None)),
        _made(_root(alpha=None, inside=True)),
        "epsilon inside the root",
        "other side of the root",
    ),
    "adagrad, begins at 0.1": (
        _training(Adagrad(epsilon=1e-4), 0.01),
        _made(_root(alpha=None)),
        _made(_root(alpha=None, start=0.1)),
        "accumulator",
        "begins at 0.1",
    ),
    "sgd, later dampened": (
        MOMENTUM,
        _made(_sgd(momentum=0.9)),
        _made(_sgd(momentum=0.9, dampening=0.9, first=False)),
        "dampening",
        "from the second step on",
    ),
    "sgd, dampened": (
        MOMENTUM,
        _made(_sgd(momentum=0.9)),
        _made(_sgd(momentum=0.9, dampening=0.9)),
        "dampening",
        "is a mean",
    ),
    "sgd, nesterov": (
        MOMENTUM,
        _made(_sgd(momentum=0.9)),
        _made(_sgd(momentum=0.9, nesterov=True)),
        "Nesterov",
        "has Nesterov's",
    ),
    "sgd, not nesterov": (
        _training(SGD(momentum=0.9, nesterov=True), 0.1),
        _made(_sgd(momentum=0.9, nesterov=True)),
        _made(_sgd(momentum=0.9)),
        "Nesterov",
        "where Nesterov's is meant",
    ),
    "sgd, no momentum": (MOMENTUM, _made(_sgd(momentum=0.9)), _made(_sgd()), "momentum", "is 0, where 0.9"),
    "sgd, decoupled with momentum": (
        _training(SGD(0.1, momentum=0.9), 0.1),
        _made(_sgd(momentum=0.9, coupled=0.1)),
        _made(_sgd(momentum=0.9, decay=0.1)),
        "weight decay",
        "from the parameter",
    ),
    "sgd, sum over the batch": (
        PLAIN,
        _made(_sgd()),
        _made(_sgd(), _scaled(32)),
        "sum for mean",
        "over the batch",
    ),
    "sgd, rate": (PLAIN, _made(_sgd()), _made(_sgd(rate=0.25)), "learning rate", "is 0.25, where 0.1"),
}

CLIPPINGS = {
    "each worker": ("clipped before the sum", "before the sum"),
    "each parameter": ("clipping by each parameter", "each parameter's gradient"),
    "value": ("clipping by value", "every number"),
    "a little": ("clipping by norm and a little", "1e-06"),
    "nothing": ("not clipped", "does not clip"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_fault_of_an_optimiser_is_named(name: str, dtype: str) -> None:
    training, right, wrong, kind, words = FAULTS[name]
    right, wrong = ({n: array.astype(dtype) for n, array in arrays.items()} for arrays in (right, wrong))
    a = UpdateTrace(BEFORE, GRADIENTS, right, training, batch_size=32)
    b = UpdateTrace(BEFORE, GRADIENTS, wrong, batch_size=32)
    for found, it in [(d2lrnn.explain_difference(a, b), "b"), (d2lrnn.explain_difference(b, a), "a")]:
        assert not found.agreed
        assert [cause.kind for cause in found.causes] == [kind], str(found)
        assert words in str(found.causes[0])
        assert found.worst_after is not None
        assert found.worst_after.worst <= found.bound
        assert re.match(rf"{it} |.* in {it}\b", str(found.causes[0])), str(found.causes[0])


@pytest.mark.parametrize("how", CLIPPINGS)
def test_another_clipping_is_named(how: str) -> None:
    kind, words = CLIPPINGS[how]
    a = UpdateTrace(BEFORE, WORKERS, _made(_sgd(), _clipped("norm")), CLIPPED)
    found = d2lrnn.explain_difference(a, UpdateTrace(BEFORE, WORKERS, _made(_sgd(), _clipped(how))))
    assert [cause.kind for cause in found.causes] == [kind], str(found)
    assert words in str(found.causes[0])


@pytest.mark.parametrize(("step", "kinds"), [
    (_adam(where="inside", rate=0.001), {"epsilon inside the root", "learning rate"}),
    (_adam(corrected=False, beta2=0.99), {"no bias correction", "beta2"}),
    (_adam(where="hat", beta2=0.99), {"epsilon beside the uncorrected root", "beta2"}),
])  # fmt: skip
def test_two_faults_of_one_side_are_named(step: Step, kinds: set[str]) -> None:
    a = UpdateTrace(BEFORE, GRADIENTS, _made(_adam()), ADAM)
    found = d2lrnn.explain_difference(a, UpdateTrace(BEFORE, GRADIENTS, _made(step)))
    assert {cause.kind for cause in found.causes} == kinds, str(found)


def test_gradients_and_settings_that_differ_are_named() -> None:
    a = UpdateTrace(BEFORE, GRADIENTS, _made(_sgd()), PLAIN, batch_size=32)
    summed = UpdateTrace(BEFORE, _scaled(32), _made(_sgd(), _scaled(32)))
    found = d2lrnn.explain_difference(a, summed)
    assert [str(cause) for cause in found.causes] == [
        "b's gradients are sums over the batch (32), and a's means"
    ]
    other = UpdateTrace(BEFORE, GRADIENTS, _made(_sgd(rate=0.2)), _training(SGD(), 0.2))
    found = d2lrnn.explain_difference(a, other)
    assert [str(cause) for cause in found.causes] == ["the learning rate is 0.2 in b, and 0.1 in a"]


def test_of_two_that_explain_equally_both_are_told() -> None:
    # From the first step on, dampening is a smaller rate.
    training, right, wrong, _, _ = FAULTS["sgd, dampened"]
    found = d2lrnn.explain_difference(
        UpdateTrace(BEFORE, GRADIENTS, right, training), UpdateTrace(BEFORE, GRADIENTS, wrong)
    )
    assert [[cause.kind for cause in causes] for causes in found.equally] == [["learning rate"]]
    assert "As well it could be: the learning rate in b is 0.01, where 0.1 is meant." in str(found)


def test_what_is_not_known_is_not_named() -> None:
    wrong = {name: array + 0.01 * np.sin(array) for name, array in _made(_adam()).items()}
    a = UpdateTrace(BEFORE, GRADIENTS, _made(_adam()), ADAM)
    found = d2lrnn.explain_difference(a, UpdateTrace(BEFORE, GRADIENTS, wrong))
    assert not found.agreed
    assert not found.explained
    assert "what b made of the parameters is neither what the formula gives" in str(found)


def test_equal_updates_agree() -> None:
    a = UpdateTrace(BEFORE, GRADIENTS, _made(_adam()), ADAM)
    found = d2lrnn.explain_difference(a, UpdateTrace(BEFORE, GRADIENTS, _made(_adam(), dtype="float32")))
    assert found.agreed
    assert found.bound == 1e-6


@pytest.mark.parametrize(("change", "message"), [
    ({"before": {}}, "needs parameters and at least one step"),
    ({"gradients": []}, "needs parameters and at least one step"),
    ({"gradients": [[]]}, "a step has no gradient"),
    ({"after": {"rnn.0.b": BEFORE["rnn.0.b"]}}, "after has rnn.0.b, and before rnn.0.b, rnn.0.w_h and "),
    ({"after": {**BEFORE, "rnn.0.b": np.zeros(3)}}, r"after rnn.0.b has the shape \(3,\), not \(8,\)"),
    ({"training": TrainingSpec(1.0, schedule=Cosine(10))}, "the rate has a schedule"),
])  # fmt: skip
def test_a_trace_that_cannot_be_is_no_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PortError, match=message):
        UpdateTrace(**{"before": BEFORE, "gradients": GRADIENTS, "after": BEFORE, **change})


def test_traces_that_cannot_be_one_are_refused() -> None:
    a = UpdateTrace(BEFORE, GRADIENTS, _made(_adam()))
    b = UpdateTrace(BEFORE, GRADIENTS, BEFORE)
    with pytest.raises(PortError, match="neither trace says what was meant"):
        d2lrnn.explain_difference(a, b)
    with pytest.raises(PortError, match="a has 4 steps, and b 3"):
        d2lrnn.explain_difference(a, UpdateTrace(BEFORE, GRADIENTS[1:], BEFORE))
    less, *gradients = (
        {name: each[name] for name in ("rnn.0.w_x", "rnn.0.b")} for each in [BEFORE, *GRADIENTS]
    )
    fewer = UpdateTrace(less, gradients, less)
    with pytest.raises(PortError, match=r"a and b are of other parameters: rnn\.0\.w_h"):
        d2lrnn.explain_difference(a, fewer)
    with pytest.raises(PortError, match="give two UpdateTraces"):
        d2lrnn.explain_difference(a, lambda X: X)
