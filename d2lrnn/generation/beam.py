"""Beam search: of the continuations of one length, a likely one.

The logarithm of the probability of a continuation y₁ … yₙ of a prefix x is

    log p(y₁, …, yₙ | x) = Σₜ log softmax(o(x, y₁, …, yₜ₋₁))[yₜ]

with the logits o. In every step each of the k likeliest beginnings is continued by every token, and the k
likeliest of all these are kept. With k = 1 that is greedy search. All continuations have n tokens, so nothing
is divided by a length, as it is for translations (`d2lrnn.translation.search`).

Source: Lowerre 1976, The Harpy speech recognition system; Zhang et al., Dive into Deep Learning, section
10.8.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from d2lrnn.checks import check_learner, whole_number
from d2lrnn.contract.values import IntArray, State, StateArrays
from d2lrnn.data.vocabulary import Unit, Vocab
from d2lrnn.generation.prefixes import allowed_tokens, beginnings_of, indices_of
from d2lrnn.generation.scores import largest, log_softmax
from d2lrnn.generation.steps import Predictor

_Text = TypeVar("_Text", str, list[str])


class BeamPredictor(Predictor, Protocol):
    """What beam search needs of a `d2lrnn.contract.protocols.Learner`: rows of a state in another order."""

    def export_state(self, state: State) -> StateArrays:
        """A state as NumPy arrays (L, B, h)."""

    def import_state(self, arrays: StateArrays) -> State:
        """The inverse of `export_state`."""


def beam_search(
    learner: BeamPredictor,
    vocab: Vocab,
    prefix: _Text,
    num_tokens: int,
    *,
    beam: int,
    unit: Unit | None = None,
    lower: bool | None = None,
    forbid: Collection[str] = (),
) -> _Text:
    """Continues `prefix` by the likeliest `num_tokens` tokens that the search finds.

    Several prefixes are continued one after the other; the rows of a batch are the beginnings that are kept.

    Args:
        learner: the model, from `Backend.learner`.
        vocab: what it was trained with.
        prefix: as for `d2lrnn.generation.generate`, and so `num_tokens`, `unit`, `lower` and `forbid`.
        num_tokens: how many tokens to add.
        beam: k, how many beginnings are kept; 1 is greedy search.
        unit: what a token is.
        lower: whether the prefix is turned to lower case.
        forbid: tokens that are never written.

    Returns:
        The prefix and what was added, or a list of such texts.

    Raises:
        PromptError: a prefix is empty.
        SpecError: a number is out of its range, the tokens of the vocabulary are no text, or `forbid` names
            none of them or all.
        KindError: `learner` is a model and no learner, a prefix is no text, or `forbid` is one.

    Example:
        >>> spec, numpy = ModelSpec(4), d2lrnn.backend("numpy")
        >>> learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
        >>> greedy = d2lrnn.generate(learner, Vocab("abc"), "cab", 5)
        >>> beam_search(learner, Vocab("abc"), "cab", 5, beam=1) == greedy
        True
    """
    check_learner(learner, "beam_search", ("initial_state", "predict_step", "export_state", "import_state"))
    num_tokens = whole_number("the number of tokens to generate", num_tokens, 0)
    beam = whole_number("the width of the beam", beam)
    beginnings = beginnings_of(vocab, prefix, unit, lower)
    allowed = allowed_tokens(vocab, forbid)
    known = vocab.idx_to_token
    texts = [
        beginnings.continued(
            number, [known[index] for index in _likeliest(learner, sequence, num_tokens, beam, allowed)]
        )
        for number, sequence in enumerate(indices_of(vocab, beginnings.tokens))
    ]
    written: Any = texts[0] if isinstance(prefix, str) else texts
    result: _Text = written
    return result


def _likeliest(
    learner: BeamPredictor, prefix: Sequence[int], num_tokens: int, beam: int, allowed: IntArray | None
) -> list[int]:
    """The tokens that are added to one prefix.

    The batch has `beam` rows from the first step on, as a compiled step is one of a fixed size. At first all
    of them are the same beginning, of which one counts.
    """
    state = learner.initial_state(beam)
    for token in prefix[:-1]:
        _, state = learner.predict_step(np.full(beam, token, np.int32), state)
    tokens = np.full(beam, prefix[-1], np.int32)
    scores = np.full(beam, -np.inf)
    scores[0] = 0.0
    steps: list[tuple[IntArray, IntArray]] = []
    for _ in range(num_tokens):
        logits, state = learner.predict_step(tokens, state)
        if allowed is not None:
            logits = logits[:, allowed]
        grown = scores[:, None] + log_softmax(logits)
        parents, chosen = largest(grown, beam)
        scores = grown[parents, chosen]
        tokens = chosen if allowed is None else allowed[chosen]
        steps.append((parents, tokens))
        if not np.array_equal(parents, np.arange(beam)):
            arrays = learner.export_state(state)
            state = learner.import_state(tuple(array[:, parents] for array in arrays))
    return _traced(steps)


def _traced(steps: Sequence[tuple[IntArray, IntArray]]) -> list[int]:
    """The tokens of the likeliest beginning, which is the first row, from the last step back."""
    row, tokens = 0, []
    for parents, chosen in reversed(steps):
        tokens.append(int(chosen[row]))
        row = int(parents[row])
    return tokens[::-1]
