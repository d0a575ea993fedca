"""The right answer: loss and gradients by the reference in float64, computed once for every cell.

    python -m d2lrnn.benchmark.reference SETTING MODEL FILE.npz

It runs in a process of its own, so that no worker's memory includes it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.benchmark.settings import batches, find_model, find_setting, spec_of
from d2lrnn.benchmark.subject import Contestant
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn.registry import backend
from d2lrnn.training.initialization import initial_parameters

#: The loss may differ by so much of itself, and every entry of a parameter's gradient by so much of the
#: largest entry of that parameter's. float32 has 6e-8; sums over tens of thousands of tokens in another order
#: lose one to two digits of it, and a wrong formula is off by 1e-2 or more.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4

#: Of how many training steps from the initial parameters the reference gives the losses. The second is that
#: after one update.
NUM_LOSSES = 2

_REFERENCE = "numpy"


def check_parameters_of(spec: ModelSpec) -> dict[str, FloatArray]:
    """The parameters at which gradients are compared: uniform in ±1/sqrt(h), biases too.

    At the book's start, N(0, 0.01²) and zeros, most gradients are sums that cancel, and say little.
    """
    random, bound = np.random.default_rng(0), spec.num_hiddens**-0.5
    return {
        name: random.uniform(-bound, bound, shape).astype(np.float32).astype(spec.dtype)
        for name, shape in parameter_shapes(spec).items()
    }


def write_reference(setting_name: str, model_name: str, path: Path) -> None:
    """Computes loss and gradients at `check_parameters_of`, and the first losses of training; keeps them."""
    setting = find_setting(setting_name)
    spec = replace(spec_of(setting, find_model(model_name)), dtype="float64")
    chosen = backend(_REFERENCE)
    learner = chosen.learner(chosen.build(spec, check_parameters_of(spec)), setting.training)
    first = list(islice(batches(setting), NUM_LOSSES))
    loss, gradients = learner.gradients(first[0], learner.initial_state(setting.batch_size))
    values = {name: value.astype(np.float32) for name, value in gradients.items()}
    learner.import_parameters(initial_parameters(spec))
    losses = [
        float(learner.train_step(batch, learner.initial_state(setting.batch_size))[0].loss) for batch in first
    ]
    arrays: dict[str, Any] = {**values, "loss": loss, "losses": np.array(losses)}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def fault(
    contestant: Contestant, setting_name: str, reference: Mapping[str, FloatArray]
) -> tuple[str | None, dict[str, float]]:
    """What is wrong with a contestant that holds `check_parameters_of`; None where nothing is.

    Args:
        contestant: a model with those parameters.
        setting_name: where the first batch is from.
        reference: what `write_reference` kept.

    Returns:
        The fault in one line, and how far loss and gradients are off, relative: what goes into the report.
    """
    setting = find_setting(setting_name)
    batch = next(batches(setting))
    loss, gradients = contestant.gradients(batch, contestant.initial_state(setting.batch_size))
    unknown = sorted(set(gradients) - set(reference))
    missing = sorted(set(reference) - {"loss", "losses"} - set(gradients))
    if unknown or missing:
        return f"gradients are missing or unknown: {', '.join(missing + unknown)}", {}
    off = {"loss": relative_difference(loss, float(reference["loss"]))}
    for name, value in gradients.items():
        expected = reference[name]
        if value.shape != expected.shape:
            return f"the gradient of {name} has shape {value.shape}, not {expected.shape}", off
        off[name] = float(np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-30))
    for name, difference in off.items():
        allowed = LOSS_TOLERANCE if name == "loss" else GRADIENT_TOLERANCE
        if not difference <= allowed:  # a NaN is a fault, too
            what = "the loss" if name == "loss" else f"the gradient of {name}"
            return f"{what} is off by {difference:.1e}; {allowed:.0e} is allowed", off
    return None, off


def relative_difference(value: float, expected: float) -> float:
    """How far a number is from the right one, as a part of that."""
    return abs(value - expected) / abs(expected)


if __name__ == "__main__":
    write_reference(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
