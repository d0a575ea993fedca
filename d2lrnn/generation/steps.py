"""The loop of writing: every row of a batch is fed its prefix, and then what was chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Protocol

import numpy as np

from d2lrnn.contract.values import FloatArray, IntArray, State

#: From logits (N, V), and the indices (N,) of the batch's rows that they are of, to the next tokens (N,).
RowChoice = Callable[[FloatArray, IntArray], IntArray]


class Predictor(Protocol):
    """What writing needs of a model: the part of `d2lrnn.contract.protocols.Learner` that predicts."""

    def initial_state(self, batch_size: int) -> State:
        """The state before the first token."""

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """One time step: tokens int32 (B,) to logits (B, V) as NumPy, and the next state."""


def next_tokens(
    learner: Predictor, sequences: Sequence[Sequence[int]], choose: RowChoice
) -> Iterator[IntArray]:
    """What every row is fed next, int32 (B,), without end: its prefix while it lasts, then what is chosen.

    The first one is that of the second step. A step is computed when its tokens are asked for.

    Args:
        learner: the model.
        sequences: B prefixes of any lengths, at least one token each, as indices.
        choose: called once a step, with the rows whose prefix is done.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    prefixes = np.zeros((len(sequences), lengths.max()), np.int32)
    for row, sequence in zip(prefixes, sequences, strict=True):
        row[: len(sequence)] = sequence
    everyone = np.arange(len(sequences), dtype=np.int32)
    tokens, state = prefixes[:, 0].copy(), learner.initial_state(len(sequences))
    for step in count(1):
        logits, state = learner.predict_step(tokens, state)
        if step < prefixes.shape[1]:
            rows = np.flatnonzero(lengths <= step).astype(np.int32)
            tokens = prefixes[:, step].copy()
            if rows.size:
                tokens[rows] = choose(logits[rows], rows)
        else:
            tokens = choose(logits, everyone)
        yield tokens
