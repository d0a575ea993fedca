"""Continuing prefixes: texts at once, or one as a stream of its tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar, overload

import numpy as np

from d2lrnn.checks import check_learner, whole_number
from d2lrnn.data.byte_level import BYTE_UNITS
from d2lrnn.data.corpus import join_tokens
from d2lrnn.data.vocabulary import Unit, Vocab, unit_of
from d2lrnn.generation.prefixes import allowed_tokens, beginnings_of, indices_of
from d2lrnn.generation.sampling import RowChooser, Sampling
from d2lrnn.generation.steps import Predictor, next_tokens

_Text = TypeVar("_Text", str, list[str])


@overload
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
    forbid: Collection[str] = (),
    samples: None = None,
) -> _Text: ...
@overload
def generate(
    learner: Predictor,
    vocab: Vocab,
    prefix: str,
    num_tokens: int,
    *,
    unit: Unit | None = None,
    lower: bool | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    forbid: Collection[str] = (),
    samples: int,
) -> list[str]: ...
@overload
def generate(
    learner: Predictor,
    vocab: Vocab,
    prefix: list[str],
    num_tokens: int,
    *,
    unit: Unit | None = None,
    lower: bool | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    forbid: Collection[str] = (),
    samples: int,
) -> list[list[str]]: ...
def generate(
    learner: Predictor,
    vocab: Vocab,
    prefix: Any,
    num_tokens: int,
    *,
    unit: Unit | None = None,
    lower: bool | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    forbid: Collection[str] = (),
    samples: int | None = None,
) -> Any:
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
        unit: what a token is: words are joined by spaces, and bytes that are no whole character become
            U+FFFD; None is what the vocabulary says (`d2lrnn.data.vocabulary.unit_of`).
        lower: whether the prefix is turned to lower case; None does so where the text that the vocabulary is
            of was (`Vocab.lower`).
        temperature: see `d2lrnn.generation.sampling.Sampling`, also for `top_k`, `top_p` and `seed`.
        top_k: sample among the k likeliest tokens only.
        top_p: sample among the fewest tokens whose probabilities add up to at least p.
        seed: decides what is sampled.
        forbid: tokens that are never written, ``["<unk>"]`` for example: the rest is chosen from as if the
            model had no others.
        samples: how many texts to write of each prefix, all in one batch: those of the seeds `seed`,
            ``seed + 1``, … A list of them takes the place of a text; None writes one text.

    Returns:
        The prefix and what the model added, or a list of such texts.

    Raises:
        PromptError: a prefix is empty.
        SpecError: a number is out of its range, top_k or top_p is given with temperature 0, the tokens of
            the vocabulary are no text, or `forbid` names none of them or all.
        KindError: `learner` is a model and no learner, a prefix is no text, or `forbid` is one.

    Example:
        >>> spec, numpy = ModelSpec(4), d2lrnn.backend("numpy")
        >>> learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
        >>> one, other = d2lrnn.generate(learner, Vocab("abc"), ["a", "cab"], 5, temperature=1)
        >>> other == d2lrnn.generate(learner, Vocab("abc"), "cab", 5, temperature=1)
        True
        >>> texts = d2lrnn.generate(learner, Vocab("abc"), "cab", 5, temperature=1, seed=3, samples=2)
        >>> texts[1] == d2lrnn.generate(learner, Vocab("abc"), "cab", 5, temperature=1, seed=4)
        True
    """
    check_learner(learner, "generate", ("initial_state", "predict_step"))
    num_tokens = whole_number("the number of tokens to generate", num_tokens, 0)
    each = 1 if samples is None else whole_number("the number of samples", samples)
    beginnings = beginnings_of(vocab, prefix, unit, lower)
    sampling = Sampling(temperature, top_k, top_p, seed)
    allowed = allowed_tokens(vocab, forbid)
    sequences = indices_of(vocab, beginnings.tokens)
    seeds = [sampling.seed + number for number in range(each)]
    rows = [sequence for sequence in sequences for _ in seeds]
    added = _added(learner, vocab, rows, num_tokens, RowChooser(sampling, seeds * len(sequences), allowed))
    texts = [
        [beginnings.continued(number, added[number * each + sample]) for sample in range(each)]
        for number in range(len(sequences))
    ]
    written = texts if samples is not None else [text for (text,) in texts]
    return written[0] if isinstance(prefix, str) else written


def stream(
    learner: Predictor,
    vocab: Vocab,
    prefix: str,
    num_tokens: int,
    *,
    unit: Unit | None = None,
    lower: bool | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    forbid: Collection[str] = (),
) -> Iterator[str]:
    """The text that `generate` returns, in pieces: the prefix, then a token at a time, as it is made.

    Where tokens are bytes, a piece is one character or more: what is not yet whole is held back.

    Arguments, errors and warnings are those of `generate`. They come at the call; a token is computed when it
    is asked for, and not before.

    Example:
        >>> spec, numpy = ModelSpec(4), d2lrnn.backend("numpy")
        >>> learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
        >>> pieces = list(stream(learner, Vocab("abc"), "cab", 5, temperature=1))
        >>> pieces[0], "".join(pieces) == d2lrnn.generate(learner, Vocab("abc"), "cab", 5, temperature=1)
        ('cab', True)
    """
    check_learner(learner, "stream", ("initial_state", "predict_step"))
    num_tokens = whole_number("the number of tokens to generate", num_tokens, 0)
    beginnings = beginnings_of(vocab, [prefix], unit, lower)
    sampling = Sampling(temperature, top_k, top_p, seed)
    choose = RowChooser(sampling, [sampling.seed], allowed_tokens(vocab, forbid))
    sequences = indices_of(vocab, beginnings.tokens)
    known, start = vocab.idx_to_token, len(sequences[0]) - 1
    # Exactly as many as are asked for: none is computed for nothing.
    added = islice(next_tokens(learner, sequences, choose), start, start + num_tokens)
    return beginnings.pieces(known[tokens[0]] for tokens in added)


def continue_prefix(learner: Predictor, vocab: Vocab, prefix: str | Sequence[str], num_tokens: int) -> Any:
    """What the book's ``predict`` and ``predict_ch8`` do: the likeliest tokens, by `generate`.

    In the book a prefix is also a list of tokens, of one text. Of longer pieces, which are no tokens, and
    where tokens are bytes, a list is a list of prefixes, as for `generate`.

    Returns:
        A text, or for a list of prefixes a list of texts.

    Raises:
        PromptError: a prefix is empty.
        SpecError: `num_tokens` is no number of tokens, or the tokens of the vocabulary are no text.
    """
    unit = unit_of(vocab)
    each_is_token = not isinstance(prefix, str) and all(_is_token(piece, unit) for piece in prefix)
    if each_is_token and unit not in BYTE_UNITS:
        tokens = [piece.lower() if getattr(vocab, "lower", False) else piece for piece in prefix]
        num_tokens = whole_number("the number of tokens to generate", num_tokens, 0)
        sequences = indices_of(vocab, [tokens])
        (added,) = _added(learner, vocab, sequences, num_tokens, RowChooser(Sampling(), [0]))
        return join_tokens([*tokens, *added], unit)
    if isinstance(prefix, str):
        return generate(learner, vocab, prefix, num_tokens)
    return generate(learner, vocab, list(prefix), num_tokens)


def _added(
    learner: Predictor,
    vocab: Vocab,
    sequences: Sequence[Sequence[int]],
    num_tokens: int,
    choose: RowChooser,
) -> list[list[str]]:
    """The tokens that are added to each sequence, all of them in one batch."""
    if not sequences:
        return []
    lengths = [len(sequence) for sequence in sequences]
    steps = islice(next_tokens(learner, sequences, choose), max(lengths) + num_tokens - 1)
    written = np.array(list(steps), np.int32).reshape(-1, len(sequences)).T
    known = vocab.idx_to_token
    # Shorter prefixes were continued until the longest was done.
    return [
        [known[index] for index in row[length - 1 : length - 1 + num_tokens].tolist()]
        for row, length in zip(written, lengths, strict=True)
    ]


def _is_token(piece: object, unit: Unit) -> bool:
    """Whether a piece of a prefix is no more than one token: a special one has a name in angle brackets."""
    if not isinstance(piece, str):
        return False
    if unit == "word":
        return piece.split() == [piece]
    return len(piece) == 1 or (piece[:1] == "<" and piece[-1:] == ">")
