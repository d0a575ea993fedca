"""A model reads a text, one token at a time: what each token cost, what was expected, the hidden state.

Shapes are written with B = rows of the text side by side, T = tokens of each, L = layers, h = hidden units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.mapped import span
from d2lrnn.data.vocabulary import TokenArray
from d2lrnn.generation.scores import log_softmax

#: How many guesses are kept of each step.
_GUESSES = 3
#: The most activations that are kept.
_MAX_ACTIVATIONS = 1 << 25


class Guess(NamedTuple):
    """What the model held to be the next token, and how likely."""

    token: int
    probability: float


@dataclass(frozen=True, eq=False)
class Reading:
    """What came of reading.

    Attributes:
        tokens: int32 (B, T).
        bits: the cross-entropy of each token after those before it in its row, float64 (B, T); NaN for the
            first of a row, which nothing comes before.
        guesses: for each token of the first row the likeliest ones, the likeliest first; none for the first.
        hiddens: the outputs h of all layers after each token, (B, T, L, h).
    """

    tokens: IntArray
    bits: FloatArray
    guesses: list[list[Guess]]
    hiddens: FloatArray


def rows_to_read(tokens: TokenArray, num_rows: int, num_steps: int, num_units: int) -> IntArray:
    """The beginning of a text (n,) as rows that follow one another, int32 (B, T).

    Args:
        tokens: the text, at least one token.
        num_rows: the most rows.
        num_steps: the most tokens of each.
        num_units: L h, of which large ones let only some of the rows be read.

    Example:
        >>> rows_to_read(np.arange(9), num_rows=5, num_steps=4, num_units=32).tolist()
        [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    T = min(num_steps, len(tokens))
    B = max(1, min(num_rows, len(tokens) // T, _MAX_ACTIVATIONS // (T * num_units)))
    return span(tokens, 0, B * T).astype(np.int32).reshape(B, T)


def read(learner: Learner, tokens: IntArray) -> Reading:
    """Reads rows of tokens int32 (B, T) from a state of zeros, which is carried from token to token.

    Bits are log2 of one over the probability that the model gave to the token that came.

    Example:
        >>> spec, numpy = ModelSpec(4), d2lrnn.backend("numpy")
        >>> learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
        >>> reading = read(learner, np.array([[1, 2, 3]], np.int32))
        >>> reading.hiddens.shape, [len(guesses) for guesses in reading.guesses]
        ((1, 3, 1, 32), [0, 3, 3])
    """
    B, T = tokens.shape
    bits = np.full((B, T), np.nan)
    guesses: list[list[Guess]] = [[]]
    hiddens = []
    state = learner.initial_state(B)
    for t in range(T):
        logits, state = learner.predict_step(tokens[:, t].copy(), state)
        # A copy: a backend may write the next state where this one is.
        hiddens.append(np.array(learner.export_state(state)[0], np.float32))
        if t + 1 < T:
            log_p = log_softmax(logits)
            bits[:, t + 1] = -log_p[np.arange(B), tokens[:, t + 1]] / math.log(2)
            likeliest = np.argsort(-log_p[0], kind="stable")[:_GUESSES].tolist()
            guesses.append([Guess(token, math.exp(log_p[0, token])) for token in likeliest])
    return Reading(tokens, bits, guesses, np.stack(hiddens).transpose(2, 0, 1, 3))
