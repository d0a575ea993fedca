"""How the next token is chosen: for every row of a batch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from d2lrnn.checks import whole_number
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.errors import SpecError

#: From the logits of one step (V,) to the index of the next token.
Chooser = Callable[[FloatArray], int]


@dataclass(frozen=True)
class Sampling:
    """The rule by which the next token is chosen. A value.

    Attributes:
        temperature: 0 takes the likeliest token (greedy); 1 samples from the model; above 1 is bolder.
        top_k: sample among the k likeliest tokens only.
        top_p: sample among the fewest tokens whose probabilities add up to at least p (nucleus sampling,
            Holtzman et al. 2020).
        seed: decides what is sampled.

    Raises:
        SpecError: a number is out of its range, or top_k or top_p is given with temperature 0.

    Example:
        >>> Sampling(temperature=0.5, top_k=3)
        Sampling(temperature=0.5, top_k=3, top_p=None, seed=0)
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        temperature, top_p = self.temperature, self.top_p
        if not (isinstance(temperature, Real) and np.isfinite(temperature) and temperature >= 0):
            raise SpecError(f"the temperature is {temperature!r}: it must be a number, 0 (greedy) or above")
        if self.top_k is not None:
            object.__setattr__(self, "top_k", whole_number("top_k", self.top_k))
        if top_p is not None and not (isinstance(top_p, Real) and 0 < top_p <= 1):
            raise SpecError(f"top_p is {top_p!r}: it must be a number above 0 and at most 1")
        object.__setattr__(self, "seed", whole_number("the seed", self.seed, 0))
        if temperature == 0 and (self.top_k is not None or top_p is not None):
            raise SpecError("top_k and top_p need a temperature above 0: at 0 the likeliest token is taken")


class RowChooser:
    """Chooses for the rows of a batch, each with a seed of its own, as `chooser` does for one of them.

    Args:
        sampling: the rule; its seed does not count.
        seeds: one a row.
        allowed: the indices of the tokens that may be chosen, in their order; None allows all. The rule is
            applied as if the model had no others.

    Example:
        >>> choose = RowChooser(Sampling(), seeds=[0, 0], allowed=np.array([0, 2], np.int32))
        >>> choose(np.array([[1.0, 3.0, 2.0], [2.0, 3.0, 1.0]]), np.arange(2))
        array([2, 0], dtype=int32)
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int], allowed: IntArray | None = None) -> None:
        self._sampling, self._allowed = sampling, allowed
        # Each row draws one number a token: what other rows do does not change its text.
        self._draw = [np.random.default_rng(seed).random for seed in seeds]

    def __call__(self, logits: FloatArray, rows: IntArray) -> IntArray:
        """The next tokens int32 (N,) of some rows (N,), by their logits (N, V)."""
        if self._allowed is not None:
            logits = logits[:, self._allowed]
        chosen = self._sampled(logits, rows) if self._sampling.temperature else logits.argmax(axis=1)
        tokens: IntArray = chosen.astype(np.int32) if self._allowed is None else self._allowed[chosen]
        return tokens

    def _sampled(self, logits: FloatArray, rows: IntArray) -> np.ndarray:
        """Inverts the distribution function, the likeliest token first."""
        every = np.arange(len(logits))
        order = np.argsort(-logits, axis=1, kind="stable")[:, : self._sampling.top_k]
        likeliest = logits[every[:, None], order]
        below = likeliest.astype(np.float64) - likeliest[:, :1]
        # Divided last: at the smallest temperatures the logits themselves would become infinite.
        with np.errstate(over="ignore"):
            cumulative = np.exp(below / self._sampling.temperature).cumsum(axis=1)
        last, total = cumulative.shape[1] - 1, cumulative[:, -1]
        if self._sampling.top_p is not None:
            # The fewest whose sum reaches p: every token before which the sum is still below p.
            last = (cumulative < (self._sampling.top_p * total)[:, None]).sum(axis=1)
            total = cumulative[every, last]
        drawn = np.array([self._draw[row]() for row in rows.tolist()])
        position = (cumulative <= (drawn * total)[:, None]).sum(axis=1)
        chosen: np.ndarray = order[every, np.minimum(position, last)]
        return chosen


def chooser(
    *, temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, seed: int = 0
) -> Chooser:
    """The rule for one text; the arguments are those of `Sampling`.

    Raises:
        SpecError: a number is out of its range, or top_k or top_p is given with temperature 0.

    Example:
        >>> chooser()(np.array([0.1, 0.7, 0.2]))
        1
    """
    choose = RowChooser(Sampling(temperature, top_k, top_p, seed), [seed])
    first = np.zeros(1, np.int32)
    return lambda logits: int(choose(logits[None], first)[0])
