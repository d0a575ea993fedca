"""Greedy and beam search on probabilities that are written down."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from d2lrnn.errors import SpecError
from d2lrnn.translation.search import Candidate, translate

A, B, C, EOS = range(4)

#: The book's example: after A the likeliest is B, but A, C, B is likelier as a whole than A, B, C.
TREE = {
    (): {A: 0.5, B: 0.2, C: 0.2, EOS: 0.1},
    (A,): {A: 0.1, B: 0.4, C: 0.3, EOS: 0.2},
    (A, B): {A: 0.2, B: 0.2, C: 0.4, EOS: 0.2},
    (A, C): {A: 0.1, B: 0.6, C: 0.2, EOS: 0.1},
    (A, B, C): {A: 0.0, B: 0.2, C: 0.2, EOS: 0.6},
    (A, C, B): {A: 0.1, B: 0.2, C: 0.1, EOS: 0.6},
}
ELSE = {A: 0.25, B: 0.25, C: 0.25, EOS: 0.25}


class Written:
    """A translator whose state is what it has written."""

    def read(self, source: Any, lengths: Any) -> list[tuple[int, ...]]:
        return [() for _ in source]

    def write(self, tokens: Any, state: list[tuple[int, ...]]) -> tuple[Any, list[tuple[int, ...]]]:
        # The first token is that of the beginning, which is not written.
        after = [() if token == 9 else (*row, int(token)) for token, row in zip(tokens, state, strict=True)]
        with np.errstate(divide="ignore"):
            logits = [np.log([TREE.get(row, ELSE)[token] for token in range(4)]) for row in after]
        return np.array(logits, np.float32), after

    def rows(self, state: list[tuple[int, ...]], rows: Any) -> list[tuple[int, ...]]:
        return [state[row] for row in rows]


def _found(beam: int, size: int = 1, num_steps: int = 5) -> list[Candidate]:
    source = np.zeros((size, 2), np.int32)
    return translate(
        Written(),  # type: ignore[arg-type]
        source, np.full(size, 2, np.int32), begin=9, end=EOS, num_steps=num_steps, beam=beam,
    )  # fmt: skip


def test_greedy_search_takes_the_likeliest_token() -> None:
    found = _found(1, size=3)
    assert [each.tokens for each in found] == [(A, B, C)] * 3
    assert found[0].log_probability == pytest.approx(math.log(0.5 * 0.4 * 0.4 * 0.6), rel=1e-6)
    assert found[0].score == pytest.approx(found[0].log_probability / 4**0.75)


def test_beam_search_finds_what_is_likelier_as_a_whole() -> None:
    (found,) = _found(2)
    assert found.tokens == (A, C, B)
    assert found.log_probability == pytest.approx(math.log(0.5 * 0.3 * 0.6 * 0.6), rel=1e-6)
    assert [each.tokens for each in _found(3, size=2)] == [(A, C, B)] * 2


def test_what_does_not_end_is_cut_off() -> None:
    for beam in (1, 2):
        (found,) = _found(beam, num_steps=1)
        assert (found.tokens, found.ended) == ((A,), False)


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(SpecError, match="the width of the beam is 0"):
        _found(0)
    with pytest.raises(SpecError, match="the number of steps is 0"):
        _found(1, num_steps=0)
