"""Writing text: the prefix warms the state up, then one token after another is chosen and fed back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from numbers import Real
from typing import Any, Protocol, TypeVar

import numpy as np

from d2lrnn.checks import check_learner, whole_number
from d2lrnn.contract.values import FloatArray, IntArray, State
from d2lrnn.data.corpus import join_tokens, tokenize
from d2lrnn.data.vocabulary import Unit, Vocab, unit_of
from d2lrnn.errors import KindError, PromptError, SpecError

#: From the logits of one step (V,) to the index of the next token.
Chooser = Callable[[FloatArray], int]

_Text = TypeVar("_Text", str, list[str])


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
    prefix: _Text,
    num_tokens: int,
    *,
    unit: Unit | None = None,
    lower: bool | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> _Text:
    """Continues `prefix` by `num_tokens` tokens.

    A list of prefixes becomes a list of texts, written side by side in one batch. Prefixes may have any
    lengths: each row is fed its own prefix, token by token, and then what was chosen for it. The seed holds
    for each row alone, and so a text is the one that its prefix gives by itself, as far as a framework's
    product of several rows and that of one agree: to the last digits of the logits.

    Args:
        learner: the model, from `Backend.learner`.
        vocab: what it was trained with.
        prefix: the beginning, or a list of them; it stays as it is, but for its case where the vocabulary is
            one of lower case. What the vocabulary does not have is fed as the unknown token, with a warning.
        num_tokens: how many tokens to add; 0 returns the prefix.
        unit: ``"char"`` or ``"word"``, words being joined by spaces; None is what the vocabulary says
            (`d2lrnn.data.vocabulary.unit_of`).
        lower: whether the prefix is turned to lower case; None does so where the text that the vocabulary is
            of was (`Vocab.lower`).
        temperature: 0 takes the likeliest token (greedy); 1 samples from the model; above 1 is bolder.
        top_k: sample among the k likeliest tokens only.
        top_p: sample among the fewest tokens whose probabilities add up to at least p (nucleus sampling,
            Holtzman et al. 2020).
        seed: decides what is sampled.

    Returns:
        The prefix and what the model added, or a list of such texts.

    Raises:
        PromptError: a prefix is empty.
        SpecError: a number is out of its range, top_k or top_p is given with temperature 0, or the tokens of
            the vocabulary are no text.
        KindError: `learner` is a model and no learner, or a prefix is no text.

    Example:
        >>> spec, numpy = ModelSpec(4), d2lrnn.backend("numpy")
        >>> learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
        >>> one, other = d2lrnn.generate(learner, Vocab("abc"), ["a", "cab"], 5, temperature=1)
        >>> other == d2lrnn.generate(learner, Vocab("abc"), "cab", 5, temperature=1)
        True
    """
    check_learner(learner, "generate", ("initial_state", "predict_step"))
    num_tokens = whole_number("the number of tokens to generate", num_tokens, 0)
    if unit is None:
        unit = unit_of(vocab)
    if lower is None:
        lower = getattr(vocab, "lower", False)
    prefixes = _prefixes(prefix)
    if lower:
        prefixes = [each.lower() for each in prefixes]
    beginnings = [tokenize(each, unit) for each in prefixes]
    make_chooser = partial(chooser, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    make_chooser()  # also where there are no prefixes, options that cannot be are an error
    written = _continued(learner, vocab, beginnings, num_tokens, [make_chooser() for _ in prefixes])
    texts = _joined(prefixes, written, "" if unit == "char" else " ")
    return texts[0] if isinstance(prefix, str) else texts


def continue_prefix(learner: Predictor, vocab: Vocab, prefix: str | Sequence[str], num_tokens: int) -> Any:
    """What the book's ``predict`` and ``predict_ch8`` do: the likeliest tokens, by `generate`.

    In the book a prefix is also a list of tokens, of one text. Of longer pieces, which are no tokens, a list
    is a list of prefixes, as for `generate`.

    Returns:
        A text, or for a list of prefixes a list of texts.

    Raises:
        PromptError: a prefix is empty.
        SpecError: `num_tokens` is no number of tokens, or the tokens of the vocabulary are no text.
    """
    unit = unit_of(vocab)
    if not isinstance(prefix, str) and all(_is_token(piece, unit) for piece in prefix):
        tokens = [piece.lower() if getattr(vocab, "lower", False) else piece for piece in prefix]
        num_tokens = whole_number("the number of tokens to generate", num_tokens, 0)
        (written,) = _continued(learner, vocab, [tokens], num_tokens, [chooser()])
        return join_tokens([*tokens, *written], unit)
    if isinstance(prefix, str):
        return generate(learner, vocab, prefix, num_tokens)
    return generate(learner, vocab, list(prefix), num_tokens)


def _continued(
    learner: Predictor,
    vocab: Vocab,
    beginnings: Sequence[Sequence[str]],
    num_tokens: int,
    choosers: Sequence[Chooser],
) -> list[list[str]]:
    """The tokens that are added to each beginning, all of them in one batch."""
    if not all(beginnings):
        raise PromptError("the prefix is empty: give at least one token for the model to continue")
    if not beginnings:
        return []
    # A chapter may bring a vocabulary of its own: nothing is asked of it but indices and the list of tokens.
    sequences = [[int(vocab[token]) for token in tokens] for tokens in beginnings]
    known = vocab.idx_to_token
    pairs = zip(chain.from_iterable(beginnings), chain.from_iterable(sequences), strict=True)
    unknown = sorted({token for token, index in pairs if known[index] != token})
    if unknown:
        listed = ", ".join(map(repr, unknown))
        warnings.warn(
            f"the vocabulary does not have {listed}: fed to the model as the unknown token",
            UnknownTokenWarning,
            stacklevel=3,
        )
    lengths = [len(sequence) for sequence in sequences]
    state = learner.initial_state(len(sequences))
    for step in range(max(lengths) + num_tokens - 1):
        tokens = np.array([sequence[step] for sequence in sequences], np.int32)
        logits, state = learner.predict_step(tokens, state)
        for row, sequence in enumerate(sequences):
            if len(sequence) == step + 1:  # else the prefix goes on
                sequence.append(choosers[row](logits[row]))
    # Shorter prefixes were continued until the longest was done.
    added = (sequence[n : n + num_tokens] for n, sequence in zip(lengths, sequences, strict=True))
    return [[known[index] for index in indices] for indices in added]


def _joined(prefixes: Sequence[str], written: Sequence[Sequence[str]], between: str) -> list[str]:
    return [between.join([prefix, *tokens]) for prefix, tokens in zip(prefixes, written, strict=True)]


def _prefixes(prefix: object) -> list[str]:
    """One or several of them; each is a text."""
    several = isinstance(prefix, Iterable) and not isinstance(prefix, str)
    prefixes: list[Any] = list(prefix) if several else [prefix]  # type: ignore[call-overload]  # an iterable, then
    for each in prefixes:
        if not isinstance(each, str):
            raise KindError(f"a prefix is {each!r}: it must be a text, or there must be a list of texts")
    return prefixes


def _is_token(piece: object, unit: Unit) -> bool:
    """Whether a piece of a prefix is no more than one token: a special one has a name in angle brackets."""
    if not isinstance(piece, str):
        return False
    if unit == "word":
        return piece.split() == [piece]
    return len(piece) == 1 or (piece[:1] == "<" and piece[-1:] == ">")


def chooser(
    *, temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, seed: int = 0
) -> Chooser:
    """The rule by which the next token is chosen; the arguments are those of `generate`.

    Raises:
        SpecError: a number is out of its range, or top_k or top_p is given with temperature 0.
    """
    if not (isinstance(temperature, Real) and np.isfinite(temperature) and temperature >= 0):
        raise SpecError(f"the temperature is {temperature!r}: it must be a number, 0 (greedy) or above")
    if top_k is not None:
        top_k = whole_number("top_k", top_k)
    if top_p is not None and not (isinstance(top_p, Real) and 0 < top_p <= 1):
        raise SpecError(f"top_p is {top_p!r}: it must be a number above 0 and at most 1")
    seed = whole_number("the seed", seed, 0)
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
