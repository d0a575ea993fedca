"""Pairs of sentences: what is read, how it is split, and what a batch has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from d2lrnn.contract.values import PADDING
from d2lrnn.errors import SpecError, TextError
from d2lrnn.translation.pairs import BOS, EOS, PAD, PairCorpus, PairSpec, encode_sentences

TEXT = "Go.\tVa !\tof a column more\nno pair\n\nHi, Tom!\tSalut, Tom !\nGo on.\tContinuez.\nRun!\tCours !\n"


def _corpus(text: str = TEXT, **values: Any) -> PairCorpus:
    return PairCorpus(PairSpec("pairs.txt", **{"min_freq": 1, **values}), text)


def test_what_is_a_pair() -> None:
    corpus = _corpus()
    assert sorted(corpus.train + corpus.val) == [
        (["go", "."], ["va", "!"]),
        (["go", "on", "."], ["continuez", "."]),
        (["hi", ",", "tom", "!"], ["salut", ",", "tom", "!"]),
        (["run", "!"], ["cours", "!"]),
    ]
    assert (corpus.num_left_out, len(corpus.val)) == (1, 1)
    assert _corpus(max_tokens=3).num_left_out == 2


def test_the_split_follows_from_the_seed() -> None:
    text = "".join(f"word{n}\tmot{n}\n" for n in range(100))
    one, same, other = (_corpus(text, seed=seed) for seed in (1, 1, 2))
    assert one.val == same.val
    assert one.val != other.val
    assert (len(one.train), len(one.val)) == (90, 10)
    assert not {pair[0][0] for pair in one.train} & {pair[0][0] for pair in one.val}
    first, second = ([tuple(b.source[:, 0]) for b in one.train_batches(epoch)] for epoch in (0, 1))
    assert first != second
    assert sorted(sum(first, ())) == sorted(sum(second, ()))
    assert len(first) == one.num_train_batches == 2
    # What is validated with is not in the vocabulary.
    assert all(one.vocabs[0][pair[0][0]] == one.vocabs[0].unk for pair in one.val)


def test_a_batch() -> None:
    corpus = _corpus(max_tokens=4)
    source, target = corpus.vocabs
    pairs = [(["go", "."], ["va", "!"]), (["hi", ",", "tom", "!"], ["salut", ",", "tom", "!"])]
    batch = corpus.batch(pairs)
    assert [source.to_tokens(row) for row in batch.source] == [
        [source.to_tokens(source[token]) for token in row]
        for row in (["go", ".", EOS, PAD, PAD], ["hi", ",", "tom", "!", EOS])
    ]
    assert batch.lengths.tolist() == [3, 5]
    assert target.to_tokens(batch.inputs[0][:1]) == [BOS]
    np.testing.assert_array_equal(batch.inputs[:, 1:][batch.targets[:, 1:] >= 0],
                                  batch.targets[:, :-1][batch.targets[:, 1:] >= 0])  # fmt: skip
    assert (batch.targets == PADDING).sum(axis=1).tolist() == [2, 0]
    assert batch.num_tokens == 8
    assert [target.to_tokens(int(row[row >= 0][-1])) for row in batch.targets] == [EOS, EOS]


def test_long_sentences_are_cut() -> None:
    vocab = _corpus().vocabs[0]
    tokens, lengths = encode_sentences([["go"] * 9, ["go"]], vocab, 4)
    assert lengths.tolist() == [4, 2]
    assert vocab.to_tokens(tokens[0])[-1] == EOS


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"batch_size": 0}, "the batch size is 0"),
        ({"max_tokens": 0}, "the largest number of tokens is 0"),
        ({"val_share": 1.0}, "the share of the validation is 1.0"),
        ({"val_share": 0.0}, "the share of the validation is 0: it must be above that"),
        ({"source": ""}, "the pairs have no name"),
    ],
)
def test_numbers_out_of_range(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        PairSpec(**{"source": "pairs.txt", **values})


@pytest.mark.parametrize("text", ["no tab\n", "one\tun\n", "\t\n"])
def test_too_few_pairs(text: str) -> None:
    with pytest.raises(TextError, match=r"pairs\.txt has . pairs of sentences, too few to train on"):
        _corpus(text)
