from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import PromptError, SpecError
from d2lrnn.generation import UnknownTokenWarning, chooser, generate
from d2lrnn.training.initialization import initial_parameters

VOCAB = Vocab(list("abcd "))


class Successor:
    """Always bets on the next symbol of the vocabulary; notes what it was fed."""

    def __init__(self) -> None:
        self.fed: list[int] = []

    def initial_state(self, batch_size: int) -> int:
        assert batch_size == 1
        return 0

    def predict_step(self, tokens: IntArray, state: int) -> tuple[FloatArray, int]:
        assert state == len(self.fed), "the state must be handed on"
        self.fed.append(int(tokens[0]))
        logits = np.full((1, len(VOCAB)), -5.0, np.float32)
        logits[0, (tokens[0] + 1) % len(VOCAB)] = 5.0
        return logits, state + 1


def _generate(prefix: str, num: int, **options: Any) -> tuple[str, list[int]]:
    learner = Successor()
    return generate(learner, VOCAB, prefix, num, **options), learner.fed  # type: ignore[arg-type]


def test_the_prefix_warms_up_and_every_choice_is_fed_back() -> None:
    text, fed = _generate("ba", 2)
    assert text == "babc"
    assert fed == [VOCAB["b"], VOCAB["a"], VOCAB["b"]]
    assert _generate("a", 0)[0] == "a"


def test_upper_case_is_lowered_where_the_text_was() -> None:
    assert _generate("A", 1)[0] == "ab"
    with pytest.warns(UnknownTokenWarning, match="does not have 'A'"):
        text, fed = _generate("A", 1, lower=False)
    assert fed == [VOCAB.unk]
    assert text.startswith("A")


def test_what_is_unknown_is_fed_as_such_with_one_warning() -> None:
    told = "does not have '!', '9': fed to the model as the unknown token"
    with pytest.warns(UnknownTokenWarning, match=told) as all_:
        text, fed = _generate("9!a", 1)
    assert len(all_) == 1
    assert text == "9!ab"
    assert fed == [VOCAB.unk, VOCAB.unk, VOCAB["a"]]


def test_words_are_joined_by_spaces() -> None:
    vocab = Vocab(["to", "be", "or", "not", "so"])
    assert vocab["be"] + 1 == vocab["not"]
    learner = Successor()
    text = generate(learner, vocab, "To  be", 2, unit="word")  # type: ignore[arg-type]
    assert text == "to  be not or"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 1.0, "top_k": 0}, "top_k is 0: it must be at least 1"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p is 0.0"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": 3}, "need a temperature above 0"),
        ({"top_p": 0.5}, "need a temperature above 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_invalid_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _generate("a", 1, **options)


def test_invalid_prefixes() -> None:
    with pytest.raises(PromptError, match="the prefix is empty"):
        _generate("", 5)
    with pytest.raises(PromptError, match="the prefix is empty"):
        _generate("  ", 5, unit="word")
    with pytest.raises(SpecError, match="tokens to generate is -1"):
        _generate("a", -1)


LOGITS = np.log(np.array([0.05, 0.5, 0.15, 0.3]))


def _frequencies(**options: Any) -> np.ndarray:
    choose = chooser(seed=1, **options)
    counts = np.bincount([choose(LOGITS) for _ in range(20000)], minlength=4)
    return counts / counts.sum()


def test_greedy_takes_the_likeliest() -> None:
    assert chooser()(LOGITS) == 1


def test_sampling_follows_the_distribution() -> None:
    np.testing.assert_allclose(_frequencies(temperature=1.0), np.exp(LOGITS), atol=0.01)
    hot = np.exp(LOGITS / 2)
    np.testing.assert_allclose(_frequencies(temperature=2.0), hot / hot.sum(), atol=0.01)


@pytest.mark.parametrize("temperature", [1e-3, 1e-308, 5e-324])
def test_the_smallest_temperatures_take_the_likeliest(temperature: float) -> None:
    np.testing.assert_array_equal(_frequencies(temperature=temperature), [0, 1, 0, 0])
    np.testing.assert_array_equal(_frequencies(temperature=temperature, top_p=1.0), [0, 1, 0, 0])


def test_top_k_and_top_p_cut_the_tail() -> None:
    np.testing.assert_allclose(_frequencies(temperature=1.0, top_k=2), [0, 5 / 8, 0, 3 / 8], atol=0.01)
    # 0.5 alone is below 0.7; with 0.3 it reaches it.
    np.testing.assert_allclose(_frequencies(temperature=1.0, top_p=0.7), [0, 5 / 8, 0, 3 / 8], atol=0.01)
    np.testing.assert_allclose(_frequencies(temperature=1.0, top_p=0.5), [0, 1, 0, 0])
    np.testing.assert_allclose(_frequencies(temperature=1.0, top_p=1.0), np.exp(LOGITS), atol=0.01)
    np.testing.assert_allclose(_frequencies(temperature=1.0, top_k=99), np.exp(LOGITS), atol=0.01)


def test_the_seed_decides_what_is_sampled() -> None:
    spec = ModelSpec(len(VOCAB), "lstm", "concise", 16)
    backend = d2lrnn.backend("numpy")
    learner = backend.learner(backend.build(spec, initial_parameters(spec)), TrainingSpec())
    texts = [generate(learner, VOCAB, "ab", 40, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0].replace("<unk>", "?")) == 42


class SomeonesVocab:
    """A vocabulary as a chapter defines one: by index and by token, and no more. ``in`` would never end."""

    idx_to_token = VOCAB.idx_to_token

    def __len__(self) -> int:
        return len(VOCAB)

    def __getitem__(self, tokens: Any) -> Any:
        if isinstance(tokens, (list, tuple)):
            return [self[token] for token in tokens]
        return VOCAB.token_to_idx.get(tokens, VOCAB.unk)


def test_a_vocabulary_of_ones_own_will_do() -> None:
    with pytest.warns(UnknownTokenWarning, match="does not have '!'"):
        assert generate(Successor(), SomeonesVocab(), "b!a", 1) == "b!ab"  # type: ignore[arg-type]
