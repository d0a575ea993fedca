"""The vocabulary against the book's, and its vectorised paths against the obvious ones."""

from __future__ import annotations

import ast
import copy
import json
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from d2lrnn.data import vocabulary as vocab_module
from d2lrnn.data.vocabulary import FrequencyVocab, Vocab, count_characters, unit_of
from d2lrnn.errors import RunError, SpecError

words = st.sampled_from(["to", "be", "or", "not", "that", "is"])
texts = st.text(max_size=60)

# A busy machine is no failure.
quick = settings(deadline=None, max_examples=40)


def book_idx_to_token(tokens: list[str], min_freq: int, reserved: list[str]) -> list[str]:
    counter = Counter(tokens)
    return sorted({"<unk>", *reserved, *(token for token, freq in counter.items() if freq >= min_freq)})


@quick
@given(st.lists(words), st.integers(0, 4), st.lists(st.sampled_from(["<pad>", "be"])))
def test_tokens_are_the_books(tokens: list[str], min_freq: int, reserved: list[str]) -> None:
    vocab = Vocab(tokens, min_freq, reserved)
    assert vocab.idx_to_token == book_idx_to_token(tokens, min_freq, reserved)
    assert len(vocab) == len(vocab.idx_to_token)
    assert vocab == Vocab.from_counts(Counter(tokens), min_freq, reserved)
    for index, token in enumerate(vocab.idx_to_token):
        assert vocab[token] == vocab.token_to_idx[token] == index
        assert vocab.to_tokens(index) == token
        assert token in vocab


def test_a_list_of_lists_counts_as_one_list() -> None:
    assert Vocab([["to", "be"], [], ["to"]]) == Vocab(["to", "be", "to"])
    assert Vocab([[]]).idx_to_token == Vocab([]).idx_to_token == Vocab().idx_to_token == ["<unk>"]


def test_lookup_of_several_and_of_unknown_tokens() -> None:
    vocab = Vocab(["a", "b"])
    assert vocab["z"] == vocab.unk == 0
    assert vocab[["b", "z", "a"]] == vocab[("b", "z", "a")] == [2, 0, 1]
    assert vocab[[]] == []
    assert "z" not in vocab


def test_frequencies_are_sorted_by_count_and_then_as_they_were_met() -> None:
    vocab = Vocab(["b", "a", "c", "c"], min_freq=2)
    assert vocab.token_freqs == [("c", 2), ("b", 1), ("a", 1)]


PACKAGES = os.environ.get("D2LRNN_BOOK_PACKAGES")
EDITIONS = {"current": Vocab, "first": FrequencyVocab}

pairs = st.tuples(words, words)
#: What tokens are: words, pairs of them as in a bigram model, numbers.
kinds = st.one_of(st.lists(words), st.lists(pairs), st.lists(st.integers(0, 9)))


def books_vocab(edition: str) -> Any:
    """The class of the book's own package, of which nothing else is needed."""
    source = (Path(PACKAGES or "") / edition / "d2l" / "torch.py").read_text(encoding="utf-8")
    wanted = [
        node for node in ast.parse(source).body if getattr(node, "name", "") in ("Vocab", "count_corpus")
    ]
    namespace: dict[str, Any] = {"collections": __import__("collections")}
    exec(compile(ast.Module(wanted, []), edition, "exec"), namespace)
    return namespace["Vocab"]


@pytest.mark.skipif(not PACKAGES, reason="D2LRNN_BOOK_PACKAGES names no folder with the book's packages")
@pytest.mark.parametrize("edition", EDITIONS)
@quick
@given(
    tokens=kinds,
    nested=st.booleans(),
    min_freq=st.integers(0, 3),
    reserved=st.sampled_from([[], ["<pad>", "be"]]),
)
def test_each_edition_has_its_order(
    edition: str, tokens: list[Any], nested: bool, min_freq: int, reserved: list[str]
) -> None:
    text = [tokens[:2], tokens[2:]] if nested else tokens
    try:
        theirs = books_vocab(edition)(text, min_freq, reserved)
    except TypeError:
        # The current edition cannot sort pairs and numbers beside '<unk>': they have the first one's order.
        assert edition == "current"
        assert not all(isinstance(token, str) for token in tokens)
        theirs = books_vocab("first")(text, min_freq, reserved)
    ours = EDITIONS[edition](text, min_freq, reserved)
    assert ours.idx_to_token == theirs.idx_to_token
    assert ours.token_to_idx == theirs.token_to_idx
    assert ours.token_freqs == theirs.token_freqs
    assert len(ours) == len(theirs)
    assert ours.unk == theirs.unk
    assert [ours[token] for token in ours.idx_to_token] == list(range(len(ours)))
    # A tuple is a row of tokens in the book, and a pair can therefore not be looked up there.
    known = [token for token in tokens if not isinstance(token, tuple)]
    assert ours[known] == theirs[known]
    assert ours.to_tokens([0]) == [theirs.idx_to_token[0]]


def test_pairs_are_tokens() -> None:
    vocab = Vocab([("so", "it"), ("it", "goes"), ("so", "it")])
    assert vocab.idx_to_token == ["<unk>", ("so", "it"), ("it", "goes")]
    assert vocab["so", "it"] == 1
    assert vocab[[("it", "goes"), ("goes", "on"), "so"]] == [2, 0, 0]
    assert vocab["goes", "on"] == vocab.unk == 0
    assert vocab.to_tokens([1, 0]) == [("so", "it"), "<unk>"]
    assert vocab.encode([("so", "it"), ("it", "so")]).tolist() == [1, 0]
    assert vocab.encode_characters("so").tolist() == [0, 0]
    assert vocab.token_freqs[0] == (("so", "it"), 2)
    assert ("so", "it") in vocab
    # Where all tokens are strings a tuple is a row of them.
    assert Vocab(["so", "it"])["it", "so"] == [1, 2]
    with pytest.raises(
        RunError, match=r"holds \('so', 'it'\), and tokens that are not strings cannot be saved"
    ):
        vocab.to_json()


def test_nothing_is_no_token() -> None:
    for vocab in (Vocab(None, 0, None), FrequencyVocab(None)):
        assert vocab.idx_to_token == ["<unk>"]
    assert FrequencyVocab(["a", "b", "a"], reserved_tokens=["b", "<unk>"]).idx_to_token == ["<unk>", "b", "a"]


@pytest.mark.parametrize("kind", [Vocab, FrequencyVocab])
def test_copies_are_equal(kind: type[Vocab]) -> None:
    vocab = kind([("so", "it"), ("it", "so")])
    vocab.unit, vocab.lower = "word", True
    for other in (copy.deepcopy(vocab), pickle.loads(pickle.dumps(vocab))):
        assert other == vocab
        assert (other["it", "so"], other.unit, other.lower) == (2, "word", True)


@pytest.mark.parametrize(
    ("tokens", "unit"),
    [
        (list("to be"), "char"),
        (["to", "be"], "word"),
        (["<pad>", "<bos>", "a"], "char"),
        (["<", ">", "<>"], "char"),
        (["a", "I", "am"], "word"),
        ([], "char"),
    ],
)
def test_what_a_token_is_can_be_seen(tokens: list[str], unit: str) -> None:
    vocab = Vocab(tokens)
    assert unit_of(vocab) == unit
    vocab.unit = "word"
    assert unit_of(vocab) == "word"


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda i: np.array(i, np.uint8), np.float32])
def test_to_tokens_takes_rows_of_any_length(kind: object) -> None:
    """The book's raises for one index and for none."""
    vocab = Vocab(["a", "b"])
    for indices, tokens in (([], []), ([1], ["a"]), ([2, 0], ["b", "<unk>"])):
        assert vocab.to_tokens(kind(indices)) == tokens  # type: ignore[operator]


@pytest.mark.parametrize("index", [1, np.int32(1), np.array(1), np.uint8(1)])
def test_to_tokens_of_a_number_is_a_token(index: int) -> None:
    assert Vocab(["a", "b"]).to_tokens(index) == "a"


@pytest.mark.parametrize("index", [-1, 3, [0, -1], [3], np.array([1.5]), 0.5])
def test_to_tokens_refuses_what_is_no_index(index: int) -> None:
    with pytest.raises(SpecError, match="is not a token index: they go from 0 to 2"):
        Vocab(["a", "b"]).to_tokens(index)


def test_to_tokens_refuses_a_matrix() -> None:
    with pytest.raises(SpecError, match=r"not an array of shape \(1, 2\)"):
        Vocab(["a", "b"]).to_tokens(np.array([[0, 1]]))


@pytest.mark.parametrize("tokens", [["a", {}], [["a"], ["b", ["c"]]], ["a", ("b", [])]])
def test_tokens_must_be_hashable(tokens: list[Any]) -> None:
    with pytest.raises(SpecError, match=r"a token is .*: it must be hashable, as strings and tuples are"):
        Vocab(tokens)
    with pytest.raises(SpecError, match=r"least frequency of a token is 1\.5: it must be a whole number"):
        Vocab(["a"], min_freq=1.5)  # type: ignore[arg-type]


def test_equality_and_repr() -> None:
    assert Vocab("ab") == Vocab("bba")
    assert Vocab("ab") != Vocab("abc")
    assert Vocab("ab") != ["<unk>", "a", "b"]
    assert repr(Vocab("ab")) == "<Vocab of 3 tokens: '<unk>', 'a', 'b'>"
    assert repr(Vocab("abcdefgh")).endswith("'d', …>")


@pytest.mark.parametrize(
    ("size", "dtype"), [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "int32")]
)
def test_indices_have_the_smallest_type(size: int, dtype: str) -> None:
    vocab = Vocab.from_json(["<unk>", *(str(number) for number in range(size - 1))])
    assert vocab.index_dtype == dtype
    encoded = vocab.encode([vocab.idx_to_token[-1], "<unk>"])
    assert encoded.dtype == dtype
    assert encoded.tolist() == [size - 1, 0]


@pytest.mark.parametrize("piece", [1, 3, 1 << 18])
@quick
@given(text=texts, alphabet=texts)
@example(text="a\ud800\udc00", alphabet="\udc00😀")  # lone surrogates
def test_characters_are_counted_and_encoded_like_lists_of_them(piece: int, text: str, alphabet: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocab_module, "_PIECE", piece)
        counts = count_characters(text)
        vocab = Vocab(list(alphabet), reserved_tokens=["word"])
        encoded = vocab.encode_characters(text)
        encoded_words = vocab.encode(list(text))
    assert counts == Counter(text)
    assert list(counts) == sorted(counts)
    assert encoded.tolist() == encoded_words.tolist() == vocab[list(text)]
    assert encoded.dtype == encoded_words.dtype == vocab.index_dtype


def test_bytes_are_code_points() -> None:
    vocab = Vocab("ab\xe9")
    for codes in (b"ba\xe9\xff", bytearray(b"ba\xe9\xff")):
        assert vocab.encode_characters(codes).tolist() == vocab[["b", "a", "\xe9", "\xff"]]
        assert count_characters(codes) == {"a": 1, "b": 1, "\xe9": 1, "\xff": 1}


def test_large_vocabularies_of_characters() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 300))) + "😀"
    vocab = Vocab(text)
    encoded = vocab.encode_characters(text)
    assert encoded.dtype == np.uint16
    assert vocab.to_tokens(encoded) == list(text)


@quick
@given(st.lists(texts))
def test_json_gives_the_same_vocabulary_back(tokens: list[str]) -> None:
    vocab = Vocab(tokens)
    again = Vocab.from_json(json.loads(json.dumps(vocab.to_json())))
    assert again == vocab
    assert again.token_to_idx == vocab.token_to_idx
    assert again.token_freqs == []


def test_json_keeps_the_order() -> None:
    assert Vocab.from_json(["<unk>", "z", "a"])[["z", "a", "m"]] == [1, 2, 0]


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        ({"<unk>": 0}, "is a dict: it must be a list of tokens"),
        (None, "is a NoneType: it must be a list of tokens"),
        (["<unk>", 1], "holds 1, which is not a string"),
        (["a", "b"], "lacks the token '<unk>'"),
        ([], "lacks the token '<unk>'"),
        (["<unk>", "a", "b", "a"], "holds 'a' more than once"),
    ],
)
def test_json_that_is_no_vocabulary_is_refused(tokens: object, problem: str) -> None:
    with pytest.raises(RunError, match=problem):
        Vocab.from_json(tokens)
