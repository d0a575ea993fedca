from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import FloatArray, IntArray
from d2lrnn.data.corpus import corpus_from_text
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import KindError, PromptError, SpecError
from d2lrnn.generation import UnknownTokenWarning, chooser, continue_prefix, generate, stream
from d2lrnn.training.initialization import initial_parameters

VOCAB = Vocab(list("abcd "))


class Successor:
    """Always bets on the next symbol of the vocabulary; notes what it was fed."""

    def __init__(self, vocab: Any = VOCAB) -> None:
        self.vocab = vocab
        self.batches: list[list[int]] = []

    @property
    def fed(self) -> list[int]:
        return [token for (token,) in self.batches]

    def initial_state(self, batch_size: int) -> int:
        self.batch_size = batch_size
        return 0

    def predict_step(self, tokens: IntArray, state: int) -> tuple[FloatArray, int]:
        assert state == len(self.batches), "the state must be handed on"
        assert tokens.shape == (self.batch_size,)
        assert tokens.dtype == np.int32
        self.batches.append(tokens.tolist())
        logits = np.full((len(tokens), len(self.vocab)), -5.0, np.float32)
        logits[np.arange(len(tokens)), (tokens + 1) % len(self.vocab)] = 5.0
        return logits, state + 1


def _learner() -> Learner:
    spec = ModelSpec(len(VOCAB), "lstm", "concise", 16)
    backend = d2lrnn.backend("numpy")
    return backend.learner(backend.build(spec, initial_parameters(spec)), TrainingSpec())


def _generate(prefix: str, num: int, **options: Any) -> tuple[str, list[int]]:
    learner = Successor()
    return generate(learner, VOCAB, prefix, num, **options), learner.fed


def test_the_prefix_warms_up_and_every_choice_is_fed_back() -> None:
    text, fed = _generate("ba", 2)
    assert text == "babc"
    assert fed == [VOCAB["b"], VOCAB["a"], VOCAB["b"]]
    assert _generate("a", 0)[0] == "a"


def test_a_prefix_is_changed_where_somebody_says_so() -> None:
    assert _generate("A", 1, lower=True)[0] == "ab"
    with pytest.warns(UnknownTokenWarning, match="does not have 'A'"):
        text, fed = _generate("A", 1)
    assert fed == [VOCAB.unk]
    assert text.startswith("A")
    both = Vocab("Aa")
    assert generate(Successor(both), both, "A", 1) == "Aa"


@pytest.mark.parametrize(
    ("text", "unit", "normalized", "prefix", "expected"),
    [
        ("So it goes", "char", False, "So", "So"),
        ("So it goes", "char", True, "So", "so"),
        ("So it goes", "word", False, "So  it", "So  it"),
        ("So it goes", "word", True, "So", "so"),
        ("a b c", "word", False, "a", "a"),
    ],
)
def test_the_vocabulary_of_a_corpus_knows_what_its_text_was(
    text: str, unit: Any, normalized: bool, prefix: str, expected: str
) -> None:
    vocab = corpus_from_text(text, unit=unit, normalized=normalized).vocab
    written = generate(Successor(vocab), vocab, prefix, 2)
    between = " " if unit == "word" else ""
    last = vocab[expected.split()[-1] if unit == "word" else expected[-1]]
    tokens = [vocab.to_tokens((last + step) % len(vocab)) for step in (1, 2)]
    assert written == between.join([expected, *tokens])


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
    learner = Successor(vocab)
    assert generate(learner, vocab, "to  be", 2) == "to  be not or"
    assert generate(Successor(vocab), vocab, "to be", 2, unit="word") == "to be not or"
    vocab.lower = True
    assert generate(Successor(vocab), vocab, "To be", 2) == "to be not or"


def test_tokens_that_are_no_text() -> None:
    pairs = Vocab([("so", "it"), ("it", "goes")])
    with pytest.raises(SpecError, match=r"holds \('so', 'it'\), which is no text"):
        generate(Successor(pairs), pairs, "so", 1)


def test_a_list_of_prefixes_gives_a_list_of_texts() -> None:
    learner = Successor()
    assert generate(learner, VOCAB, ["ba", "a", "d"], 2) == ["babc", "abc", "d <unk>"]
    assert [len(batch) for batch in learner.batches] == [3, 3, 3]
    assert generate(Successor(), VOCAB, ["cb"], 0) == ["cb"]
    silent = Successor()
    assert generate(silent, VOCAB, [], 3) == []
    assert silent.batches == []
    with pytest.warns(UnknownTokenWarning, match="does not have '!', '9'") as all_:
        generate(Successor(), VOCAB, ["a!", "9"], 1)
    assert len(all_) == 1
    with pytest.raises(PromptError, match="the prefix is empty"):
        generate(Successor(), VOCAB, ["a", ""], 1)
    with pytest.raises(SpecError, match="seed is -1"):
        generate(Successor(), VOCAB, [], 1, seed=-1)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5}, {"temperature": 0.7, "top_k": 3, "seed": 5}])
def test_every_text_of_a_batch_is_the_one_of_its_prefix_alone(options: dict[str, Any]) -> None:
    prefixes = ["ab", "c", "dab ca", "ab", " "]
    texts = generate(_learner(), VOCAB, prefixes, 30, **options)
    assert texts == [generate(_learner(), VOCAB, prefix, 30, **options) for prefix in prefixes]
    assert texts[0] == texts[3]


def test_the_books_predict_takes_texts_and_lists_of_tokens() -> None:
    assert continue_prefix(Successor(), VOCAB, "ba", 2) == "babc"
    assert continue_prefix(Successor(), VOCAB, ["b", "a"], 2) == "babc"
    assert continue_prefix(Successor(), VOCAB, ("b", "<unk>"), 1) == "b<unk>a"
    # What is longer than a token is a text.
    assert continue_prefix(Successor(), VOCAB, ["ba", "a"], 2) == ["babc", "abc"]
    words = Vocab(["to", "be", "or", "not", "so"])
    assert continue_prefix(Successor(words), words, ["to", "be"], 2) == "to be not or"
    assert continue_prefix(Successor(words), words, ["to be", "or"], 1) == ["to be not", "or so"]
    words.lower = True
    assert continue_prefix(Successor(words), words, ["To", "Be"], 2) == "to be not or"
    with pytest.raises(PromptError, match="the prefix is empty"):
        continue_prefix(Successor(), VOCAB, [], 3)
    with pytest.raises(SpecError, match="tokens to generate is -1"):
        continue_prefix(Successor(), VOCAB, ["a"], -1)


def test_a_model_is_no_learner() -> None:
    spec = ModelSpec(len(VOCAB))
    model = d2lrnn.backend("numpy").build(spec, initial_parameters(spec))
    with pytest.raises(KindError, match="generate takes a learner, and this is a LanguageModel: "):
        generate(model, VOCAB, "a", 3)
    assert issubclass(KindError, TypeError)


@pytest.mark.parametrize("prefix", [3, None, ["a", 3], [["a"]]])
def test_a_prefix_is_a_text(prefix: Any) -> None:
    with pytest.raises(KindError, match=r"a prefix is .*: it must be a text"):
        generate(Successor(), VOCAB, prefix, 1)


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
        ({"seed": 0.5}, "the seed is 0.5: it must be a whole number"),
        ({"temperature": "1"}, "the temperature is '1': it must be a number"),
        ({"temperature": 1.0, "top_k": 2.0}, "top_k is 2.0: it must be a whole number"),
        ({"temperature": 1.0, "top_p": "0.5"}, "top_p is '0.5'"),
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
    with pytest.raises(SpecError, match="tokens to generate is '5': it must be a whole number"):
        _generate("a", "5")  # type: ignore[arg-type]


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
    learner = _learner()
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


@pytest.mark.parametrize("options", [{"temperature": 1.5, "seed": 3}, {"temperature": 0.7, "top_p": 0.9}, {}])
def test_samples_are_the_texts_of_one_seed_after_the_other(options: dict[str, Any]) -> None:
    learner, prefixes = _learner(), ["ab", "c", "dab ca"]
    first = options.pop("seed", 0)
    expected = [
        [generate(learner, VOCAB, prefix, 30, seed=first + number, **options) for number in range(4)]
        for prefix in prefixes
    ]
    assert generate(learner, VOCAB, prefixes, 30, seed=first, samples=4, **options) == expected
    assert generate(learner, VOCAB, "ab", 30, seed=first, samples=4, **options) == expected[0]
    assert generate(learner, VOCAB, "ab", 30, seed=first, samples=1, **options) == expected[0][:1]
    assert generate(learner, VOCAB, [], 30, samples=4) == []
    assert len(set(expected[0])) == (4 if options else 1)


def test_samples_are_one_batch() -> None:
    learner = Successor()
    assert generate(learner, VOCAB, ["ba", "a"], 2, samples=3) == [["babc"] * 3, ["abc"] * 3]
    assert [len(batch) for batch in learner.batches] == [6, 6, 6]
    with pytest.raises(SpecError, match="the number of samples is 0"):
        generate(learner, VOCAB, "a", 2, samples=0)


def test_what_is_forbidden_is_never_written() -> None:
    learner = Successor()
    assert generate(learner, VOCAB, "d", 2) == "d <unk>"
    # The likeliest of the others, all of them alike, is the first.
    assert generate(Successor(), VOCAB, "d", 2, forbid=["<unk>", " "]) == "dab"
    assert generate(Successor(), VOCAB, "d", 9, forbid={"<unk>"}, temperature=3.0).count("<unk>") == 0
    assert list(stream(Successor(), VOCAB, "d", 2, forbid=["<unk>", " "])) == ["d", "a", "b"]
    # It may still be read.
    with pytest.warns(UnknownTokenWarning):
        assert generate(Successor(), VOCAB, "!", 1, forbid=["<unk>"]) == "!a"


def test_what_cannot_be_forbidden() -> None:
    with pytest.raises(KindError, match="forbidden is the text '<unk>': it must be a list"):
        generate(Successor(), VOCAB, "a", 2, forbid="<unk>")
    with pytest.raises(SpecError, match="'x' is forbidden, which is no token of the vocabulary"):
        generate(Successor(), VOCAB, "a", 2, forbid=["x"])
    with pytest.raises(SpecError, match="every token of the vocabulary is forbidden"):
        generate(Successor(), VOCAB, "a", 2, forbid=VOCAB.idx_to_token)


def test_a_stream_has_every_token_before_the_next_is_computed() -> None:
    learner = Successor()
    pieces = stream(learner, VOCAB, "ba", 3)
    assert learner.fed == []
    seen = [(next(pieces), len(learner.fed)) for _ in range(4)]
    # The prefix is there before anything is computed; it takes two steps to read it.
    assert seen == [("ba", 0), ("b", 2), ("c", 3), ("d", 4)]
    assert list(pieces) == []
    assert len(learner.fed) == 4, "nothing is computed that nobody sees"


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "top_k": 3, "seed": 9}])
def test_a_stream_is_the_text_in_pieces(options: dict[str, Any]) -> None:
    learner = _learner()
    pieces = list(stream(learner, VOCAB, "ab", 20, **options))
    assert len(pieces) == 21
    assert "".join(pieces) == generate(learner, VOCAB, "ab", 20, **options)
    assert list(stream(learner, VOCAB, "ab", 0)) == ["ab"]
    words = Vocab(["to", "be", "or", "not"])
    words.lower = True
    assert list(stream(Successor(words), words, "To be", 2)) == ["to be", " not", " or"]


def test_what_is_wrong_with_a_stream_is_told_at_once() -> None:
    with pytest.raises(PromptError, match="the prefix is empty"):
        stream(Successor(), VOCAB, "", 3)
    with pytest.raises(SpecError, match="the temperature is -1"):
        stream(Successor(), VOCAB, "a", 3, temperature=-1)
    with pytest.warns(UnknownTokenWarning, match="does not have '!'") as all_:
        stream(Successor(), VOCAB, "!", 3)
    assert all_[0].filename == __file__
    model: Any = object()
    with pytest.raises(KindError, match="stream takes a learner"):
        stream(model, VOCAB, "a", 3)
