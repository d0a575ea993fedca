"""Beam search: against the search through all texts, and as greedy search."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.vocabulary import UNKNOWN, Vocab
from d2lrnn.errors import KindError, PromptError, SpecError
from d2lrnn.generation import beam_search, generate

VOCAB = Vocab("abc")
LENGTH = 5


def _learner(seed: int = 0, vocab: Vocab = VOCAB) -> Learner:
    """A model whose state matters: with large weights, it is no chain of single tokens."""
    spec = ModelSpec(len(vocab), "lstm", "concise", 6, num_layers=2, dtype="float64")
    random = np.random.default_rng(seed)
    drawn = {name: 2 * random.standard_normal(shape) for name, shape in parameter_shapes(spec).items()}
    numpy = d2lrnn.backend("numpy")
    return numpy.learner(numpy.build(spec, drawn), TrainingSpec())


def _log_probability(learner: Learner, prefix: str, added: tuple[str, ...]) -> float:
    state, total = learner.initial_state(1), 0.0
    text = [*prefix, *added]
    for position, token in enumerate(text[:-1]):
        logits, state = learner.predict_step(np.array([VOCAB[token]], np.int32), state)
        if position >= len(prefix) - 1:
            exact = logits[0] - np.logaddexp.reduce(logits[0])
            total += float(exact[VOCAB[text[position + 1]]])
    return total


def _likeliest(learner: Learner, prefix: str, tokens: list[str]) -> str:
    texts = product(tokens, repeat=LENGTH)
    return prefix + "".join(max(texts, key=lambda text: _log_probability(learner, prefix, text)))


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_that_keeps_everything_finds_the_likeliest_text(seed: int) -> None:
    learner = _learner(seed)
    every = len(VOCAB) ** (LENGTH - 1)
    assert beam_search(learner, VOCAB, "cab", LENGTH, beam=every) == _likeliest(
        learner, "cab", VOCAB.idx_to_token
    )
    assert beam_search(learner, VOCAB, "cab", LENGTH, beam=every, forbid=[UNKNOWN, "a"]) == _likeliest(
        learner, "cab", ["b", "c"]
    )


def test_a_beam_of_one_is_greedy_search_and_a_wider_one_finds_more() -> None:
    better = 0
    for seed in range(12):
        learner = _learner(seed)
        for forbid in ([], [UNKNOWN]):
            greedy = generate(learner, VOCAB, "ab", 12, forbid=forbid)
            assert beam_search(learner, VOCAB, "ab", 12, beam=1, forbid=forbid) == greedy
        wide = beam_search(learner, VOCAB, "ab", 12, beam=8, forbid=[UNKNOWN])
        gain = _log_probability(learner, "ab", tuple(wide[2:])) - _log_probability(
            learner, "ab", tuple(greedy[2:])
        )
        assert gain > -1e-9
        better += gain > 1e-9
    assert better >= 3


def test_several_prefixes_and_none() -> None:
    learner = _learner()
    texts = beam_search(learner, VOCAB, ["a", "bca"], 6, beam=3)
    assert texts == [beam_search(learner, VOCAB, prefix, 6, beam=3) for prefix in ("a", "bca")]
    assert beam_search(learner, VOCAB, ["a"], 0, beam=3) == ["a"]
    assert beam_search(learner, VOCAB, [], 6, beam=3) == []


def test_words() -> None:
    vocab = Vocab(["to", "be", "or"])
    text = beam_search(_learner(1, vocab), vocab, "to", 3, beam=2)
    assert text.startswith("to ")
    assert len(text.split(" ")) == 4


@pytest.mark.parametrize(
    ("prefix", "options", "error", "message"),
    [
        ("a", {"beam": 0}, SpecError, "the width of the beam is 0"),
        ("a", {"beam": 1.5}, SpecError, "the width of the beam is 1.5"),
        ("", {"beam": 2}, PromptError, "the prefix is empty"),
        (3, {"beam": 2}, KindError, "a prefix is 3"),
        ("a", {"beam": 2, "forbid": "<unk>"}, KindError, "forbidden is the text '<unk>'"),
        ("a", {"beam": 2, "forbid": ["x"]}, SpecError, "'x' is forbidden, which is no token"),
    ],
)
def test_what_cannot_be(prefix: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        beam_search(_learner(), VOCAB, prefix, 2, **options)
    model: Any = _learner().model
    with pytest.raises(KindError, match="beam_search takes a learner"):
        beam_search(model, VOCAB, "a", 2, beam=2)
