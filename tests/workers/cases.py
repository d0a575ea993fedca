"""What several workers train: every model, optimiser, iterator and precision, mixed so that each occurs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
from parity.models import KINDS, drawn_parameters, name_of
from parity.test_optimizers import OPTIMIZERS

from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, FloatArray
from d2lrnn.data.batches import DataModule, RandomSampling, SequentialPartitioning, SlidingWindows

UPDATES, NUM_STEPS, CLIP = 50, 10, 0.05
_SIZES = (8, 7, 2, 5, 1, 6, 3, 8, 7, 1, 4)


@dataclass(frozen=True)
class Case:
    """A model, how it is trained, and on what.

    Attributes:
        carried: whether a batch goes on from the state after the one before.
        validation: batches that are evaluated after training, from the state after it.
    """

    name: str
    spec: ModelSpec
    training: TrainingSpec
    parameters: dict[str, FloatArray]
    batches: list[Batch]
    carried: bool
    validation: list[Batch]


def cases(dtype: str) -> Iterator[Case]:
    """One for every model, with the rest in turn; batches of 1 to 8 rows, whole and accumulated."""
    # Lengths without a common factor, and none with the step at which a test takes every third case.
    turns = (cycle(each) for each in (OPTIMIZERS, _SIZES, (1, 3, 1, 1, 2), (0, 1, 2, 1, 0, 2, 2)))
    for spec, optimizer, size, accumulate, kind in zip(KINDS, *turns, strict=False):
        # A unit of a ReLU that is zero but for rounding is on in one run and off in the other.
        precise = "float64" if spec.cell == "rnn-relu" else dtype
        rates = {"dropout": 0.3 if spec.num_layers > 1 else 0.0, "output_dropout": 0.2}
        rates["input_dropout"] = 0.2 if spec.embedding_size else 0.0
        dropped = replace(spec, dtype=precise, **rates)
        value, learning_rate = OPTIMIZERS[optimizer]
        training = TrainingSpec(learning_rate, CLIP, seed=3, optimizer=value, accumulate=accumulate)
        data = _data(kind, size)
        name = f"{name_of(spec)}-{optimizer}-{type(data).__name__}-{size}-{accumulate}-{precise}"
        batches: list[Batch] = []
        while len(batches) < UPDATES:
            batches += data.train_batches(len(batches))
        parameters, validation = drawn_parameters(dropped), list(data.validation_batches())[:3]
        yield Case(name, dropped, training, parameters, batches[:UPDATES], data.carries_state, validation)


def _data(kind: int, batch_size: int) -> DataModule:
    tokens = _text(1200)
    if kind == 0:
        # The last batch of an epoch is filled up with padding.
        windows = 20 * batch_size + 1
        return SlidingWindows(
            tokens, batch_size=batch_size, num_steps=NUM_STEPS, num_train=windows, num_val=11
        )
    if kind == 1:
        return RandomSampling(tokens, batch_size=batch_size, num_steps=NUM_STEPS)
    return SequentialPartitioning(tokens, batch_size=batch_size, num_steps=NUM_STEPS)


def _text(length: int) -> np.ndarray:
    """A text that can be learned: every token but one in ten follows from the one before."""
    random = np.random.default_rng(0)
    tokens = [0]
    for _ in range(length):
        tokens.append(int(random.integers(11)) if random.random() < 0.1 else (3 * tokens[-1] + 1) % 11)
    return np.array(tokens, np.int32)
