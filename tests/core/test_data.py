"""The three iterators, each against the book's definition written out slowly, and what it holds back."""

from __future__ import annotations

import random
import re
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from d2lrnn.contract.values import PADDING, Batch
from d2lrnn.data.batches import DataModule, RandomSampling, SequentialPartitioning, SlidingWindows
from d2lrnn.data.corpus import corpus_from_text, load_corpus
from d2lrnn.data.vocabulary import TokenArray
from d2lrnn.errors import SpecError, TextError

Pair = tuple[list[int], list[int]]

# A busy machine is no failure.
quick = settings(deadline=None, max_examples=50)

sizes = {"batch_size": st.integers(1, 6), "num_steps": st.integers(1, 7)}
EVERY = [SlidingWindows, RandomSampling, SequentialPartitioning]
FIRST_EDITION = [RandomSampling, SequentialPartitioning]


def rows_of(batches: Iterator[Batch]) -> list[Pair]:
    """The rows of all batches, less their padding; not those that are nothing else."""
    rows: list[Pair] = []
    for batch in batches:
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            length = len([target for target in targets if target != PADDING])
            assert targets[length:] == [PADDING] * (len(targets) - length), (
                "padding stands at the end of a row"
            )
            assert inputs[length:] == [0] * (len(targets) - length), "the input of padding is 0"
            if length:
                rows.append((inputs[:length], targets[:length]))
    return rows


def windows_from(starts: Sequence[int], num_steps: int) -> list[Pair]:
    """The windows of the text 0, 1, 2, … that begin at `starts`."""
    return [(list(range(i, i + num_steps)), list(range(i + 1, i + num_steps + 1))) for i in starts]


def book_random(corpus: list[int], num_steps: int, offset: int) -> list[Pair]:
    """`seq_data_iter_random` of the first edition up to the shuffling."""
    corpus = corpus[offset:]
    num_subseqs = (len(corpus) - 1) // num_steps
    starts = range(0, num_subseqs * num_steps, num_steps)
    return [(corpus[j : j + num_steps], corpus[j + 1 : j + 1 + num_steps]) for j in starts]


def book_sequential(
    corpus: list[int], batch_size: int, num_steps: int, offset: int
) -> list[tuple[list[list[int]], list[list[int]]]]:
    """`seq_data_iter_sequential` of the first edition."""
    num_tokens = ((len(corpus) - offset - 1) // batch_size) * batch_size
    Xs = np.array(corpus[offset : offset + num_tokens]).reshape(batch_size, -1)
    Ys = np.array(corpus[offset + 1 : offset + 1 + num_tokens]).reshape(batch_size, -1)
    num_batches = Xs.shape[1] // num_steps
    return [
        (Xs[:, i : i + num_steps].tolist(), Ys[:, i : i + num_steps].tolist())
        for i in range(0, num_steps * num_batches, num_steps)
    ]


def made(kind: Callable[..., DataModule], num_tokens: int, **how: object) -> DataModule:
    """The iterator over the text 0, 1, 2, …, or hypothesis' next example where the text is too short."""
    try:
        return kind(np.arange(num_tokens), **how)
    except TextError:
        assume(False)
        raise


# ---- what holds for all of them


@pytest.mark.parametrize("kind", EVERY)
@quick
@given(num_tokens=st.integers(4, 150), epoch=st.integers(0, 3), **sizes)
def test_batches_have_one_shape_and_type(
    kind: type, num_tokens: int, batch_size: int, num_steps: int, epoch: int
) -> None:
    data = made(kind, num_tokens, batch_size=batch_size, num_steps=num_steps)
    train, validation = list(data.train_batches(epoch)), list(data.validation_batches())
    for batch in train + validation:
        assert batch.num_tokens > 0, "a batch of nothing but padding has no mean loss"
        for array in batch:
            assert array.shape == (batch_size, num_steps) == (data.batch_size, data.num_steps)
            assert array.dtype == np.int32
            assert array.flags.c_contiguous
            assert array.flags.owndata
    assert len(validation) == data.num_validation_batches
    assert len(train) >= 1
    if kind is SlidingWindows:
        assert len(train) == data.num_train_batches
    else:
        assert len(train) in (data.num_train_batches, data.num_train_batches - 1)


@pytest.mark.parametrize("kind", EVERY)
@quick
@given(num_tokens=st.integers(4, 150), epoch=st.integers(0, 3), **sizes)
def test_validation_shares_no_token_with_training(
    kind: type, num_tokens: int, batch_size: int, num_steps: int, epoch: int
) -> None:
    data = made(kind, num_tokens, batch_size=batch_size, num_steps=num_steps)
    seen = {token for inputs, targets in rows_of(data.train_batches(epoch)) for token in inputs + targets}
    held_back = {
        token for inputs, targets in rows_of(data.validation_batches()) for token in inputs + targets
    }
    assert held_back
    assert max(seen) < min(held_back)


@pytest.mark.parametrize("kind", EVERY)
def test_an_epoch_is_decided_by_seed_and_number_alone(kind: type) -> None:
    def epoch(seed: int, number: int, before: int = 0) -> list[Pair]:
        data = kind(np.arange(2000), batch_size=4, num_steps=5, seed=seed)
        for earlier in range(before):
            list(data.train_batches(earlier))
        return rows_of(data.train_batches(number))

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator must decide nothing
    first = epoch(3, 2)
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert epoch(3, 2, before=2) == first
    assert epoch(3, 1) != first or kind is SequentialPartitioning  # few offsets: two epochs may share one
    assert len({str(epoch(seed, number)) for seed in range(3) for number in range(3)}) > 3


@pytest.mark.parametrize("kind", EVERY)
def test_two_iterators_at_once_do_not_disturb_each_other(kind: type) -> None:
    data = kind(np.arange(2000), batch_size=4, num_steps=5)
    pairs = zip(data.train_batches(1), data.train_batches(1), strict=True)
    assert all((a.inputs == b.inputs).all() for a, b in pairs)


@pytest.mark.parametrize("kind", EVERY)
def test_batches_are_the_callers_own(kind: type) -> None:
    tokens = np.arange(2000, dtype=np.int32)
    data = kind(tokens, batch_size=1, num_steps=5)
    for batch in [*data.train_batches(0), *data.validation_batches()]:
        assert not np.shares_memory(batch.inputs, batch.targets)
        batch.inputs[:] = batch.targets[:] = 7
    assert (tokens == np.arange(2000)).all()


@pytest.mark.parametrize("kind", EVERY)
def test_a_corpus_and_its_tokens_give_the_same(kind: type) -> None:
    corpus = corpus_from_text("the time traveller " * 100)
    assert corpus.tokens.dtype == np.uint8
    data, plain = (kind(what, batch_size=4, num_steps=5) for what in (corpus, corpus.tokens.astype(np.int64)))
    assert rows_of(data.train_batches(0)) == rows_of(plain.train_batches(0))
    assert rows_of(data.validation_batches()) == rows_of(plain.validation_batches())


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"num_steps": -1}, "num_steps is -1: it must be at least 1"),
        ({"batch_size": 10**12}, "1,000,000,000,000 sequences of"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_invalid_sizes(kind: type, how: dict[str, int], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        kind(np.arange(2000), **how)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(
    "tokens", [np.zeros((10, 10), int), np.zeros(100), np.arange(-1, 99), np.zeros(100, bool)]
)
def test_invalid_tokens(kind: type, tokens: TokenArray) -> None:
    with pytest.raises(SpecError, match="tokens must be"):
        kind(tokens, batch_size=2, num_steps=3)


@pytest.mark.parametrize("kind", EVERY)
@quick
@given(num_tokens=st.integers(0, 80), batch_size=st.integers(1, 20), num_steps=st.integers(1, 40))
@example(num_tokens=5, batch_size=1, num_steps=2)
def test_the_way_out_of_a_short_text_is_one(
    kind: type, num_tokens: int, batch_size: int, num_steps: int
) -> None:
    """What the message proposes works, and one more does not."""
    try:
        kind(np.arange(num_tokens), batch_size=batch_size, num_steps=num_steps)
        return
    except TextError as error:
        message = str(error)
    assert f"has {num_tokens:,} tokens" in message

    def works(**how: int) -> bool:
        try:
            kind(np.arange(num_tokens), **{"batch_size": batch_size, "num_steps": num_steps, **how})
        except TextError as error:
            return "for validation, which" in str(error)  # there is enough to train on
        return True

    for steps in re.findall(r"at most [\d,]+ steps \(--steps (\d+)\)", message):
        assert works(num_steps=int(steps))
        assert not works(num_steps=int(steps) + 1)
    for rows in re.findall(r"a batch size of at most (\d+)", message):
        assert works(batch_size=int(rows))
        assert not works(batch_size=int(rows) + 1)
    if "steps (--steps" not in message and "for validation, which" not in message:
        assert not works(num_steps=1), "there was a way out"


@pytest.mark.parametrize("kind", EVERY)
def test_memory_is_that_of_the_corpus(kind: type) -> None:
    size = 5_000_000
    corpus = corpus_from_text("the time traveller, " * (size // 20))
    how = {"num_train": size - 100_000, "num_val": 90_000} if kind is SlidingWindows else {}
    tracemalloc.start()
    try:
        data = kind(corpus, batch_size=64, num_steps=32, **how)
        built = tracemalloc.get_traced_memory()[1]
        next(data.train_batches(0))
        next(data.validation_batches())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert built < 100_000
    # Beside a few batches, the order of the epoch: four bytes a window, or eight a sequence (first edition).
    order = 4 * size if kind is SlidingWindows else 8 * size // 32
    assert peak < order + 500_000


# ---- sliding windows


@quick
@given(num_tokens=st.integers(4, 150), num_train=st.integers(1, 60), num_val=st.integers(1, 60), **sizes)
def test_sliding_windows_are_all_the_overlapping_ones(
    num_tokens: int, num_train: int, num_val: int, batch_size: int, num_steps: int
) -> None:
    how = {"batch_size": batch_size, "num_steps": num_steps, "num_train": num_train, "num_val": num_val}
    data = made(SlidingWindows, num_tokens, **how)
    assert isinstance(data, SlidingWindows)
    book = windows_from(range(num_tokens - num_steps), num_steps)
    assert data.num_windows == len(book)
    assert sorted(rows_of(data.train_batches(0))) == book[:num_train]
    first = num_train + num_steps
    assert rows_of(data.validation_batches()) == book[first : first + num_val]
    assert len(book[first : first + num_val]) == num_val


@pytest.mark.parametrize("num_train", [100, 1000, 70_000])
def test_sliding_windows_are_shuffled_by_numpys_permutation(num_train: int) -> None:
    """Also with the smaller integers that the order is kept in."""
    data = SlidingWindows(np.arange(num_train + 100), num_steps=3, num_train=num_train, seed=5)
    order = [inputs[0] for inputs, _ in rows_of(data.train_batches(2))]
    assert order == np.random.default_rng([5, 2]).permutation(num_train).tolist()


@pytest.mark.parametrize(
    ("num_tokens", "train", "val"),
    [
        (170_580, 10_000, 5_000),
        (15_000 + 64, 10_000, 5_000),
        (14_999 + 64, 9_999, 5_000),
        (12_000 + 64, 8_000, 4_000),
        (2 + 64, 1, 1),
    ],
)
def test_defaults_are_the_books_or_two_thirds_and_one(num_tokens: int, train: int, val: int) -> None:
    data = SlidingWindows(np.arange(num_tokens))
    assert (data.num_train, data.num_val) == (train, val)
    assert (data.batch_size, data.num_steps, data.carries_state) == (1024, 32, False)


@pytest.mark.parametrize(
    ("how", "train", "val"),
    [
        ({"num_train": 30}, 30, 70),
        ({"num_train": 99}, 99, 1),
        ({"num_val": 30}, 70, 30),
        ({"num_train": 1, "num_val": 1}, 1, 1),
    ],
)
def test_one_number_leaves_the_rest_to_the_other(how: dict[str, int], train: int, val: int) -> None:
    data = SlidingWindows(np.arange(100 + 64), **how)
    assert (data.num_train, data.num_val) == (train, val)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"num_train": 100}, "100 training and 1 or more validation windows of 32 steps do not fit"),
        ({"num_val": 100}, "1 or more training and 100 validation windows"),
        ({"num_train": 60, "num_val": 41}, "60 training and 41 .* 164 tokens, room for 100 windows in all"),
        ({"num_train": 1_000_000}, "1,000,000 training"),
    ],
)
def test_windows_that_do_not_fit(how: dict[str, int], told: str) -> None:
    with pytest.raises(TextError, match=told):
        SlidingWindows(np.arange(100 + 64), **how)


@pytest.mark.parametrize("name", ["num_train", "num_val"])
@pytest.mark.parametrize("number", [0, -5])
def test_no_windows_of_a_kind(name: str, number: int) -> None:
    with pytest.raises(SpecError, match=f"{name} is {number}: it must be at least 1"):
        SlidingWindows(np.arange(1000), **{name: number})


def test_the_last_batch_is_filled_up() -> None:
    data = SlidingWindows(np.arange(1, 40), batch_size=4, num_steps=3, num_train=6, num_val=5)
    assert (data.num_train_batches, data.num_validation_batches) == (2, 2)
    last = list(data.train_batches(0))[-1]
    assert (last.inputs[2:] == 0).all()
    assert (last.targets[2:] == PADDING).all()
    assert last.num_tokens == 2 * 3


# ---- the first edition's


@quick
@given(num_tokens=st.integers(4, 150), epoch=st.integers(0, 9), **sizes)
def test_random_sampling_is_the_books(num_tokens: int, batch_size: int, num_steps: int, epoch: int) -> None:
    data = made(RandomSampling, num_tokens, batch_size=batch_size, num_steps=num_steps)
    assert isinstance(data, RandomSampling)
    rows = rows_of(data.train_batches(epoch))
    offset = rows[0][0][0] % num_steps
    book = book_random(data.train_tokens.tolist(), num_steps, offset)
    assert len(rows) == len(book) // batch_size * batch_size
    assert len({str(row) for row in rows}) == len(rows), "a sequence came twice"
    assert all(row in book for row in rows)


@quick
@given(num_tokens=st.integers(4, 150), epoch=st.integers(0, 9), **sizes)
def test_sequential_partitioning_is_the_books(
    num_tokens: int, batch_size: int, num_steps: int, epoch: int
) -> None:
    data = made(SequentialPartitioning, num_tokens, batch_size=batch_size, num_steps=num_steps)
    assert isinstance(data, SequentialPartitioning)
    batches = [(b.inputs.tolist(), b.targets.tolist()) for b in data.train_batches(epoch)]
    offset = batches[0][0][0][0]
    assert 0 <= offset <= num_steps
    assert batches == book_sequential(data.train_tokens.tolist(), batch_size, num_steps, offset)


@pytest.mark.parametrize(
    ("kind", "offsets"), [(RandomSampling, range(5)), (SequentialPartitioning, range(6))]
)
def test_every_offset_of_the_book_occurs(kind: type, offsets: range) -> None:
    """random.randint(0, num_steps - 1) for random sampling, random.randint(0, num_steps) for sequential."""
    data = kind(np.arange(100), batch_size=1, num_steps=5)
    seen = {min(rows_of(data.train_batches(epoch)))[0][0] for epoch in range(300)}
    assert seen == set(offsets)


def test_random_sampling_is_shuffled_and_sequential_is_not() -> None:
    rows = rows_of(RandomSampling(np.arange(2000), batch_size=4, num_steps=5).train_batches(0))
    assert rows != sorted(rows)
    batches = SequentialPartitioning(np.arange(2000), batch_size=4, num_steps=5).train_batches(0)
    firsts = [batch.inputs[0, 0] for batch in batches]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("kind", FIRST_EDITION)
@quick
@given(num_tokens=st.integers(4, 150), val_fraction=st.floats(0.01, 0.99), **sizes)
def test_every_validation_target_counts_once(
    kind: type, num_tokens: int, batch_size: int, num_steps: int, val_fraction: float
) -> None:
    how = {"batch_size": batch_size, "num_steps": num_steps, "val_fraction": val_fraction}
    data = made(kind, num_tokens, **how)
    rows = rows_of(data.validation_batches())
    num_val = round(num_tokens * val_fraction)
    pairs = sorted(pair for inputs, targets in rows for pair in zip(inputs, targets, strict=True))
    assert pairs == [(i, i + 1) for i in range(num_tokens - num_val, num_tokens - 1)]
    if kind is RandomSampling:
        starts = [inputs[0] for inputs, _ in rows]
        assert starts == list(range(num_tokens - num_val, num_tokens - 1, num_steps))


@quick
@given(num_tokens=st.integers(4, 300), **sizes)
def test_validation_rows_continue_each_other(num_tokens: int, batch_size: int, num_steps: int) -> None:
    data = made(
        SequentialPartitioning, num_tokens, batch_size=batch_size, num_steps=num_steps, val_fraction=0.5
    )
    batches = list(data.validation_batches())
    for row in range(batch_size):
        inputs = np.concatenate([batch.inputs[row] for batch in batches])
        targets = np.concatenate([batch.targets[row] for batch in batches])
        length = int((targets != PADDING).sum())
        assert (targets[length:] == PADDING).all(), "a row that was padding came to life again"
        assert (targets[:length] == inputs[:length] + 1).all()
        assert (np.diff(inputs[:length]) == 1).all()


def test_training_rows_continue_each_other() -> None:
    batches = list(SequentialPartitioning(np.arange(2000), batch_size=4, num_steps=5).train_batches(3))
    for earlier, later in pairwise(batches):
        assert (later.inputs[:, 0] == earlier.targets[:, -1]).all()


def test_only_sequential_partitioning_carries_the_state() -> None:
    assert [kind.carries_state for kind in EVERY] == [False, False, True]


@pytest.mark.parametrize("kind", FIRST_EDITION)
@pytest.mark.parametrize("val_fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_invalid_fractions(kind: type, val_fraction: float) -> None:
    with pytest.raises(SpecError, match="the validation fraction is"):
        kind(np.arange(2000), val_fraction=val_fraction)


@pytest.mark.parametrize("kind", FIRST_EDITION)
def test_a_validation_part_that_is_empty(kind: type) -> None:
    with pytest.raises(TextError, match="has 2,000 tokens, 1 of them for validation, which needs at least 2"):
        kind(np.arange(2000), val_fraction=0.0005)


def test_a_text_that_is_too_short_for_a_batch() -> None:
    with pytest.raises(TextError) as caught:
        RandomSampling(np.arange(1000))
    assert str(caught.value) == (
        "the text has 1,000 tokens, 900 of them for training: a batch of 32 sequences of 35 steps needs at "
        "least 1,155. Take a longer text, a batch size of at most 24 or at most 27 steps (--steps 27)"
    )
    with pytest.raises(TextError) as caught:
        SlidingWindows(np.arange(50))
    assert str(caught.value) == (
        "the text has 50 tokens: a training and a validation window of 32 steps need at least 66. "
        "Take a longer text or at most 24 steps (--steps 24)"
    )


# ---- the same on every backend


def test_the_order_is_the_same_whatever_numpys_version() -> None:
    """The backends' environments have different versions of NumPy, and train on the same batches."""
    tokens = np.arange(100_000)
    sliding = next(SlidingWindows(tokens, batch_size=5).train_batches(1))
    assert sliding.inputs[:, 0].tolist() == [1639, 1056, 6156, 4993, 6336]
    sampling = next(RandomSampling(tokens, batch_size=5).train_batches(1))
    assert sampling.inputs[:, 0].tolist() == [8068, 71733, 19758, 32918, 86258]
    sequential = [next(SequentialPartitioning(tokens).train_batches(epoch)) for epoch in range(5)]
    assert [int(batch.inputs[0, 0]) for batch in sequential] == [30, 18, 35, 18, 16]


def test_descriptions_are_one_line() -> None:
    tokens = np.arange(170_580)
    sliding, sampling, sequential = (kind(tokens).describe() for kind in EVERY)
    assert sliding == (
        "15,064 of 170,580 tokens, sliding windows of 32 steps, shuffled: 10,000 for training and 5,000 for "
        "validation, in batches of 1,024"
    )
    assert sampling == (
        "all 170,580 tokens, random sampling of sequences of 35 steps: 153,522 for training and 17,058 for "
        "validation, in batches of 32"
    )
    assert sequential == (
        "all 170,580 tokens, sequential partitioning, 35 steps at a time, state carried: 153,522 for "
        "training and 17,058 for validation, in batches of 32"
    )


def test_they_are_data_modules() -> None:
    tokens = np.arange(2000)
    modules: list[DataModule] = [
        SlidingWindows(tokens),
        RandomSampling(tokens),
        SequentialPartitioning(tokens),
    ]
    assert all(module.num_train_batches > 0 for module in modules)


@pytest.mark.parametrize("iterator", [SlidingWindows, RandomSampling, SequentialPartitioning])
def test_data_knows_its_corpus_where_it_was_given(iterator: Any) -> None:
    corpus = load_corpus("sample")
    assert iterator(corpus).corpus is corpus
    assert iterator(corpus.tokens).corpus is None
