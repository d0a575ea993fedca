"""The models that are verified, what they are given, and how they are trained.

All is small and drawn: a backend that compiles spends its time on the number of programs. So a model is
trained by one optimiser in float32, a scratch one by SGD and a concise one by Adam, and in float64 a concise
one by the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.optimizers import SGD, Adam
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, DType, FloatArray, Implementation, StateArrays

#: V, h, L, B and T. Of two layers one is fed by tokens, and one by the other.
VOCAB_SIZE, NUM_HIDDENS, NUM_LAYERS, BATCH_SIZE, NUM_STEPS = 11, 8, 2, 8, 10

#: How many updates are made; there is one loss more, after the last of them.
UPDATES = 20

#: How a model is trained, by the name of the column in the report. Most steps are clipped. Both optimisers
#: have the slot m, which holds the gradient after the first step.
TRAININGS: dict[str, TrainingSpec] = {
    kind.name: TrainingSpec(rate, clip=0.05, optimizer=optimizer)
    for kind, rate, optimizer in ((SGD, 1.0, SGD(momentum=0.9)), (Adam, 0.01, Adam()))
}  # fmt: skip

#: The part of the text that cannot be foretold.
_NOISE = 0.1


@dataclass(frozen=True)
class Task:
    """A model, and what is done with it.

    Attributes:
        spec: the model.
        trainings: names of `TRAININGS`.
    """

    spec: ModelSpec
    trainings: tuple[str, ...]

    @property
    def name(self) -> str:
        """``gru scratch``, or ``gru scratch, reset after`` where that is not what a scratch GRU does."""
        after = find_cell(self.spec.cell).reset_bias is not None and self.spec.reset_after
        reset = ", reset after" if after and self.spec.implementation == "scratch" else ""
        return f"{self.spec.cell} {self.spec.implementation}{reset}"


def tasks(backend: Backend, reference: Backend, chosen: Collection[str] = ()) -> Iterator[Task]:
    """All models that both backends have: first in float32, then in float64.

    Args:
        backend: what is verified.
        reference: what it is compared with.
        chosen: names of cells; empty takes all.
    """
    dtypes: tuple[DType, ...] = get_args(DType)
    for dtype in dtypes:
        for spec in _specs(backend, reference):
            if chosen and spec.cell not in chosen:
                continue
            yield Task(replace(spec, dtype=dtype), _trainings(spec, dtype))


def _trainings(spec: ModelSpec, dtype: DType) -> tuple[str, ...]:
    sgd, adam = TRAININGS
    if spec.implementation == "concise":
        return (adam,) if dtype == "float32" else (sgd,)
    if dtype == "float32":
        return (sgd,)
    # A cell without a layer in the frameworks has no concise model: it meets the other optimiser here.
    return () if find_cell(spec.cell).has_layer else (adam,)


def _specs(backend: Backend, reference: Backend) -> Iterator[ModelSpec]:
    implementations: tuple[Implementation, ...] = get_args(Implementation)
    for implementation in implementations:
        known = reference.cells(implementation)
        for name in backend.cells(implementation):
            if name in known:
                spec = ModelSpec(VOCAB_SIZE, name, implementation, NUM_HIDDENS, NUM_LAYERS)
                yield spec
                if spec.reset_after is False:
                    yield replace(spec, reset_after=True)


def not_compared(backend: Backend, reference: Backend) -> list[str]:
    """The names of cells, another package's, of which the reference has no formula."""
    return [name for name in backend.cells("scratch") if name not in reference.cells("scratch")]


class Given(NamedTuple):
    """What a model is given beside its parameters.

    Attributes:
        inputs: of the recurrent layers, (T, B, V).
        state: the one that the layers start from.
        batches: one for each loss.
    """

    inputs: FloatArray
    state: StateArrays
    batches: list[Batch]


def given(spec: ModelSpec) -> Given:
    """The same for every backend and both types: float32 holds all of it.

    The text can be learned: every token but one in ten follows from the one before.
    """
    draw = np.random.RandomState(0)

    def uniform(*shape: int) -> FloatArray:
        return draw.uniform(-1, 1, shape).astype(np.float32).astype(spec.dtype)

    inputs = uniform(NUM_STEPS, BATCH_SIZE, VOCAB_SIZE)
    state = tuple(uniform(NUM_LAYERS, BATCH_SIZE, NUM_HIDDENS) for _ in range(spec.num_states))
    draw = np.random.RandomState(1)
    tokens = np.zeros((UPDATES + 1, BATCH_SIZE, NUM_STEPS + 1), np.int32)
    for t in range(1, NUM_STEPS + 1):
        unforeseen = draw.randint(0, VOCAB_SIZE, tokens.shape[:2])
        follows = (3 * tokens[:, :, t - 1] + 1) % VOCAB_SIZE
        tokens[:, :, t] = np.where(draw.uniform(size=tokens.shape[:2]) < _NOISE, unforeseen, follows)
    batches = [Batch(rows[:, :-1].copy(), rows[:, 1:].copy()) for rows in tokens]
    return Given(inputs, state, batches)
