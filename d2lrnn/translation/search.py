"""What a translator writes: by greedy search, or by beam search.

Beam search keeps the k likeliest beginnings of a translation. Candidates are compared by the logarithm of
their probability divided by len^0.75, as in the book (Zhang et al., Dive into Deep Learning, section 10.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from d2lrnn.checks import whole_number
from d2lrnn.contract.values import IntArray
from d2lrnn.generation.scores import largest, log_softmax
from d2lrnn.translation.values import Translator, Writing

#: The power of the length by which the logarithm of a probability is divided.
LENGTH_POWER = 0.75


@dataclass(frozen=True)
class Candidate:
    """A translation of one sentence.

    Attributes:
        tokens: what was written, without ``<bos>`` and ``<eos>``.
        log_probability: the logarithm of its probability, natural, with that of ``<eos>`` where it ended.
        ended: whether ``<eos>`` came; else it was cut off.
    """

    tokens: tuple[int, ...]
    log_probability: float
    ended: bool

    @property
    def score(self) -> float:
        """What candidates are compared by."""
        length: int = max(1, len(self.tokens) + self.ended)
        return self.log_probability / float(length**LENGTH_POWER)


def translate(
    translator: Translator,
    source: IntArray,
    lengths: IntArray,
    *,
    begin: int,
    end: int,
    num_steps: int,
    beam: int = 1,
) -> list[Candidate]:
    """The likeliest translation that the search finds, of every sentence.

    Args:
        translator: a trained one.
        source: int32 (B, S).
        lengths: int32 (B,), how many tokens of each row are no padding.
        begin: the index of ``<bos>`` in the target's vocabulary.
        end: that of ``<eos>``.
        num_steps: the most tokens that are written.
        beam: k, the number of beginnings that are kept; 1 is greedy search.

    Raises:
        SpecError: a number is below 1.
    """
    beam = whole_number("the width of the beam", beam)
    num_steps = whole_number("the number of steps", num_steps)
    state = translator.read(source, lengths)
    if beam == 1:
        return _greedy(translator, state, len(source), begin, end, num_steps)
    return [
        _beam(translator, translator.rows(state, np.array([row], np.int32)), begin, end, num_steps, beam)
        for row in range(len(source))
    ]


def _greedy(
    translator: Translator, state: Writing, size: int, begin: int, end: int, num_steps: int
) -> list[Candidate]:
    written: list[list[int]] = [[] for _ in range(size)]
    log_probabilities, ended = np.zeros(size), np.zeros(size, bool)
    tokens = np.full(size, begin, np.int32)
    for _ in range(num_steps):
        logits, state = translator.write(tokens, state)
        tokens = logits.argmax(axis=1).astype(np.int32)
        likely = log_softmax(logits)[np.arange(size), tokens]
        log_probabilities += np.where(ended, 0.0, likely)
        ended |= tokens == end
        for row in np.flatnonzero(~ended):
            written[row].append(int(tokens[row]))
        if ended.all():
            break
    return [
        Candidate(tuple(row), float(likely), bool(over))
        for row, likely, over in zip(written, log_probabilities, ended, strict=True)
    ]


def _beam(
    translator: Translator, state: Writing, begin: int, end: int, num_steps: int, beam: int
) -> Candidate:
    """The search for one sentence; the rows of the batch are the beginnings."""
    open_ones = [Candidate((), 0.0, ended=False)]
    finished: list[Candidate] = []
    tokens = np.array([begin], np.int32)
    for _ in range(num_steps):
        logits, state = translator.write(tokens, state)
        grown = log_softmax(logits) + np.array([each.log_probability for each in open_ones])[:, None]
        parents, chosen = largest(grown, beam)
        following: list[Candidate] = []
        rows: list[int] = []
        for parent, token in zip(parents, chosen, strict=True):
            likely = float(grown[parent, token])
            if token == end:
                finished.append(Candidate(open_ones[parent].tokens, likely, ended=True))
            else:
                following.append(Candidate((*open_ones[parent].tokens, int(token)), likely, ended=False))
                rows.append(int(parent))
        open_ones = following
        # One that ended is not overtaken by what is less likely already: scores of longer ones can be better.
        if not open_ones or len(finished) >= beam:
            break
        state = translator.rows(state, np.array(rows, np.int32))
        tokens = np.array([each.tokens[-1] for each in open_ones], np.int32)
    return _best(finished or open_ones)


def _best(candidates: Sequence[Candidate]) -> Candidate:
    # Of equal ones the smaller tokens: which rounding prefers must not decide.
    return max(candidates, key=lambda each: (each.score, tuple(-token for token in each.tokens)))
