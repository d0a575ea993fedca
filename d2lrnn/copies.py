"""What a copy or a pickle of a learner is made of, in backends whose compiled functions have no copy."""

from __future__ import annotations

from collections.abc import Callable

from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import Model, Parameters


def restored_learner(
    backend: Callable[[], Backend],
    model: Model,
    training: TrainingSpec,
    device: str,
    step: int,
    learning_rate: float,
    optimizer_state: Parameters,
) -> Learner:
    """The learner that these belong to: a learner's ``__reduce__`` names this function.

    Args:
        backend: makes the backend: its class.
        model: what the learner trains, a copy by now.
        training: how.
        device: its name for `Backend.learner`.
        step: training steps taken.
        learning_rate: of the next step.
        optimizer_state: `Learner.export_optimizer_state`.

    Raises:
        DeviceError: the learner was pickled on another machine, and there is no such device here.
    """
    learner = backend().learner(model, training, device=device)
    learner.step, learner.learning_rate = step, learning_rate
    learner.import_optimizer_state(optimizer_state)
    return learner
