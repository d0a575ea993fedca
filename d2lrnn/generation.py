"""Writing text: the prefix warms the state up, then one token after another is chosen and fed back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import numpy as np

from d2lrnn.contract.values import FloatArray, IntArray, State
from d2lrnn.data.corpus import Unit, tokenize
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import PromptError, SpecError

#: From the logits of one step (V,) to the index of the next token.
Chooser = Callable[[FloatArray], int]


class Predictor(Protocol):
    """What writing needs of a model: the part of `d2lrnn.contract.protocols.Learner` that predicts."""

    def initial_state(self, batch_size: int) -> State:
        """The state before the first token."""

    def predict_step(self, tokens: IntArray, state: State) -> tuple[FloatArray, State]:
        """One time step: tokens int32 (B,) to logits (B, V) as NumPy, and the next state."""


class UnknownTokenWarning(UserWarning):
    """A prefix holds what the vocabulary does not have."""


def generate(
    learner: Predictor,
    vocab: Vocab,
    prefix: str,
    num_tokens: int,
    *,
    unit: Unit = "char",
    lower: bool = True,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> str:
    """Continues `prefix` by `num_tokens` tokens.

    Args:
        learner: the model.
        vocab: what it was trained with.
        prefix: the beginning. What the vocabulary does not have is fed as the unknown token, with a warning.
        num_tokens: how many tokens to add; 0 returns the prefix.
        unit: ``"char"`` or ``"word"``, as the model was trained.
        lower: whether the training text was normalised to lower case, and the prefix is to be.
        temperature: 0 takes the likeliest token (greedy); 1 samples from the model; above 1 is bolder.
        top_k: sample among the k likeliest tokens only.
        top_p: sample among the fewest tokens whose probabilities add up to at least p (nucleus sampling,
            Holtzman et al. 2020).
        seed: decides what is sampled.

    Returns:
        The prefix and what the model added.

    Raises:
        PromptError: the prefix is empty.
        SpecError: a number is out of its range, or top_k or top_p is given with temperature 0.
    """
    if num_tokens < 0:
        raise SpecError(f"the number of tokens to generate is {num_tokens}: it must be at least 0")
    choose = chooser(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    if lower:
        prefix = prefix.lower()
    beginning = tokenize(prefix, unit)
    if not beginning:
        raise PromptError("the prefix is empty: give at least one token for the model to continue")
    # A chapter may bring a vocabulary of its own: nothing is asked of it but indices and the list of tokens.
    indices = vocab[beginning]
    known = vocab.idx_to_token
    unknown = sorted({token for token, i in zip(beginning, indices, strict=True) if known[i] != token})
    if unknown:
        listed = ", ".join(map(repr, unknown))
        warnings.warn(
            f"the vocabulary does not have {listed}: fed to the model as the unknown token",
            UnknownTokenWarning,
            stacklevel=2,
        )
    state = learner.initial_state(1)
    for index in indices:
        logits, state = learner.predict_step(np.array([index], np.int32), state)
    written: list[int] = []
    while len(written) < num_tokens:
        written.append(choose(logits[0]))
        if len(written) < num_tokens:
            logits, state = learner.predict_step(np.array(written[-1:], np.int32), state)
    between = " " if unit == "word" else ""
    return between.join([prefix, *(known[index] for index in written)])


def chooser(
    *, temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, seed: int = 0
) -> Chooser:
    """The rule by which the next token is chosen; the arguments are those of `generate`.

    Raises:
        SpecError: a number is out of its range, or top_k or top_p is given with temperature 0.
    """
    if not (np.isfinite(temperature) and temperature >= 0):
        raise SpecError(f"the temperature is {temperature}: it must be 0 (greedy) or above")
    if top_k is not None and top_k < 1:
        raise SpecError(f"top_k is {top_k}: it must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise SpecError(f"top_p is {top_p}: it must be above 0 and at most 1")
    if seed < 0:
        raise SpecError(f"the seed is {seed}: it must be 0 or above")
    if temperature == 0:
        if top_k is not None or top_p is not None:
            raise SpecError("top_k and top_p need a temperature above 0: at 0 the likeliest token is taken")
        return lambda logits: int(logits.argmax())
    random = np.random.default_rng(seed)

    def sample(logits: FloatArray) -> int:
        order, probabilities = _candidates(logits, temperature, top_k, top_p)
        cumulative = np.cumsum(probabilities)
        position = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
        return int(order[min(int(position), len(order) - 1)])

    return sample


def _candidates(
    logits: FloatArray, temperature: float, top_k: int | None, top_p: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that may be sampled, likeliest first, and exp(logits / temperature), up to a factor."""
    order = np.argsort(-logits, kind="stable")[:top_k]
    below = logits[order].astype(np.float64) - logits[order[0]]
    # Divided last: at the smallest temperatures the logits themselves would become infinite.
    with np.errstate(over="ignore"):
        probabilities = np.exp(below / temperature)
    if top_p is not None:
        cumulative = np.cumsum(probabilities)
        # The fewest whose sum reaches p: every token before which the sum is still below p.
        kept = int(np.searchsorted(cumulative, top_p * cumulative[-1], side="left")) + 1
        order, probabilities = order[:kept], probabilities[:kept]
    return order, probabilities
