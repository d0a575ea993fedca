"""The order of an epoch: shuffled as ever, or permuted without an array of all windows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from d2lrnn.data import orders
from d2lrnn.data.batches import RandomSampling, SlidingWindows
from d2lrnn.data.orders import LARGEST_SHUFFLE, permute, shuffled


def _keys(seed: int) -> npt.NDArray[np.uint64]:
    return np.random.default_rng(seed).bit_generator.random_raw(8)


def _order(num: int, seed: int = 0, size: int = 100) -> npt.NDArray[np.int64]:
    return np.concatenate(list(shuffled(num, size, np.random.default_rng(seed))))


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "LARGEST_SHUFFLE", 10)


@pytest.mark.parametrize("num", [*range(2, 70), 1000, 4095, 4096, 4097])
def test_it_is_a_permutation_of_any_number(num: int) -> None:
    for seed in range(3):
        assert sorted(permute(np.arange(num), num, _keys(seed)).tolist()) == list(range(num))


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("size", [1, 7, 1024, 40_000])
def test_it_comes_in_parts_of_the_size_that_is_asked_for(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = list(shuffled(50_001, size, np.random.default_rng(0)))
    assert {len(part) for part in parts[:-1]} <= {size}
    assert sum(map(len, parts)) == 50_001
    monkeypatch.setattr(orders, "_BLOCK", 3)
    np.testing.assert_array_equal(_order(50_001, size=size), np.concatenate(parts))


def test_billions_come_without_an_array_of_them_and_none_comes_twice() -> None:
    num = 5_000_000_000
    tracemalloc.start()
    try:
        parts = shuffled(num, 1024, np.random.default_rng(0))
        first = np.concatenate([next(parts) for _ in range(300)])
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert len(np.unique(first)) == len(first)
    assert first.min() >= 0
    assert first.max() < num
    # Spread over the whole: the expected mean and standard deviation of uniform numbers.
    assert abs(first.mean() / num - 1 / 2) < 5 / np.sqrt(12 * len(first))
    assert abs(first.std() / num - np.sqrt(1 / 12)) < 0.005


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("num", [100_003, 65_536])
def test_it_looks_random(num: int) -> None:
    """Statistics of uniform permutations, each within five standard deviations of what is expected."""
    for seed in range(4):
        order = _order(num, seed, 1024).astype(np.float64)
        places = np.arange(num)
        # No correlation of a window with its place, nor with the window before it.
        for one, other in ((order, places), (order[1:], order[:-1])):
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(num)
        # Each block of places has its share of each block of windows: chi-squared of a 16 x 16 table.
        table, _, _ = np.histogram2d(places, order, bins=16)
        expected = num / 256
        chi, degrees = ((table - expected) ** 2 / expected).sum(), 15 * 15
        assert abs(chi - degrees) < 5 * np.sqrt(2 * degrees)
        # One window stays where it is, on the average, and one follows the one before it.
        assert np.count_nonzero(order == places) <= 8
        assert np.count_nonzero(np.diff(order) == 1) <= 8
        # Odd and even alternate as often as not, in every lowest bit.
        for bit in range(8):
            changes = np.count_nonzero(np.diff((order.astype(np.int64) >> bit) & 1))
            assert abs(changes - num / 2) < 5 * np.sqrt(num) / 2


@pytest.mark.usefixtures("small_limit")
def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    tokens = np.arange(5000)
    made = []
    for seed, epoch in ((0, 1), (0, 2), (1, 1), (0, 1)):
        data = SlidingWindows(tokens, batch_size=8, num_steps=4, num_train=4000, num_val=500, seed=seed)
        made.append(np.concatenate([batch.inputs[:, 0] for batch in data.train_batches(epoch)]))
    np.testing.assert_array_equal(made[0], made[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.count_nonzero(made[one] == made[other]) < 10


@pytest.mark.usefixtures("small_limit")
def test_it_never_changes() -> None:
    """Saved runs go on in the middle of an epoch: these numbers stand for all versions and machines."""
    assert np.concatenate(list(shuffled(11, 3, np.random.default_rng([0, 1])))).tolist() == [
        0, 2, 3, 9, 4, 7, 1, 10, 6, 8, 5,
    ]  # fmt: skip
    assert next(shuffled(5_000_000_000, 6, np.random.default_rng([0, 1]))).tolist() == [
        478054254, 2698735811, 4390706641, 1264969023, 230557054, 1710383356,
    ]  # fmt: skip


def _sliding_as_before(num: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    order = np.arange(num, dtype=np.min_scalar_type(num))
    np.random.default_rng([seed, epoch]).shuffle(order)
    return order.astype(np.int64)


def _random_as_before(num_tokens: int, size: int, steps: int, seed: int, epoch: int) -> Iterator[list[int]]:
    random = np.random.default_rng([seed, epoch])
    offset = int(random.integers(steps))
    num = (num_tokens - offset - 1) // steps
    starts = offset + steps * np.arange(num)
    random.shuffle(starts)
    for first in range(0, num // size * size, size):
        yield starts[first : first + size].tolist()


@pytest.mark.parametrize("num", [5, 255, 256, 70_000])
def test_up_to_the_limit_sliding_windows_are_shuffled_as_ever(num: int) -> None:
    data = SlidingWindows(np.arange(num + 100), batch_size=64, num_steps=7, num_train=num, num_val=3, seed=5)
    for epoch in (1, 2):
        starts = np.concatenate(
            [batch.inputs[batch.targets[:, 0] >= 0, 0] for batch in data.train_batches(epoch)]
        )
        np.testing.assert_array_equal(starts, _sliding_as_before(num, 5, epoch))


@pytest.mark.parametrize("num_tokens", [60, 2000, 600_000])
def test_up_to_the_limit_random_sampling_is_shuffled_as_ever(num_tokens: int) -> None:
    data = RandomSampling(np.arange(num_tokens), batch_size=4, num_steps=6, seed=3)
    for epoch in (1, 2):
        starts = [batch.inputs[:, 0].tolist() for batch in data.train_batches(epoch)]
        assert starts == list(_random_as_before(len(data.train_tokens), 4, 6, 3, epoch))


def test_the_limit_is_32_megabytes() -> None:
    assert LARGEST_SHUFFLE * np.min_scalar_type(LARGEST_SHUFFLE).itemsize == 32 << 20
