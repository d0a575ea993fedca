"""The order of an epoch: a shuffled array, or for very many windows a permutation that is computed.

Shuffling takes an array of all windows: gigabytes, where there are billions. Above `LARGEST_SHUFFLE` windows
an epoch's order is a keyed permutation of [0, n), which gives the window at any place of the order by itself
and needs no memory: a Feistel network over the bits of a number, repeated until the number is below n (cycle
walking).

Sources: Luby, Rackoff, How to construct pseudorandom permutations from pseudorandom functions, 1988 (the
network); Black, Rogaway, Ciphers with arbitrary finite domains, 2002 (cycle walking); Mitchell, Stokes,
Frank, Holmes, Bandwidth-optimal random shuffling for GPUs, 2021 (both, to shuffle); Steele, Lea, Flood, Fast
splittable pseudorandom number generators, 2014 (the round function, SplitMix64's finalizer).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

#: Up to so many windows an epoch is shuffled, with at most 32 MB for its order; more are permuted.
LARGEST_SHUFFLE = 1 << 23

#: Numbers are permuted so many at a time: NumPy's calls cost more than the work on a small batch.
_BLOCK = 1 << 14
#: Four make the network secure where the round function is random; this one is weaker.
_ROUNDS = 8
_Words = npt.NDArray[np.uint64]


def shuffled(
    num: int, size: int, random: np.random.Generator, first: int = 0
) -> Iterator[npt.NDArray[np.integer[Any]]]:
    """The numbers [0, num) in random order, `size` at a time; the last array can be shorter.

    Args:
        num: n.
        size: how many at a time.
        random: decides the order; it is drawn from at the first array, and not after it.
        first: the array to begin with, of those that there are from the beginning of the order.

    Example:
        >>> [part.tolist() for part in shuffled(5, 2, np.random.default_rng(0))]
        [[2, 4], [3, 0], [1]]
    """
    if num > LARGEST_SHUFFLE:
        yield from _permuted(num, size, random, first)
        return
    # Like `permutation`, but with two or four bytes a number in place of eight.
    order = np.arange(num, dtype=np.min_scalar_type(num))
    random.shuffle(order)
    for start in range(first * size, num, size):
        yield order[start : start + size]


def _permuted(
    num: int, size: int, random: np.random.Generator, first: int
) -> Iterator[npt.NDArray[np.int64]]:
    # Raw, as NumPy promises that these stay the same in all its versions.
    keys = random.bit_generator.random_raw(_ROUNDS)
    block = size * max(1, _BLOCK // size)
    for begin in range(first * size, num, block):
        order = permute(np.arange(begin, min(begin + block, num)), num, keys)
        for start in range(0, len(order), size):
            yield order[start : start + size]


def permute(numbers: npt.NDArray[np.int64], num: int, keys: _Words) -> npt.NDArray[np.int64]:
    """The places of `numbers`, (m,) in [0, num), in a permutation of [0, num).

    Args:
        numbers: any of [0, num).
        num: n, at least 2 and below 2**62.
        keys: decide the permutation, one for each round of the network, (r,).

    Example:
        >>> keys = np.random.default_rng(0).bit_generator.random_raw(8)
        >>> sorted(permute(np.arange(1000), 1000, keys).tolist()) == list(range(1000))
        True
    """
    bits = (num - 1).bit_length()
    low = bits // 2
    values = _network(numbers.astype(np.uint64), bits - low, low, keys)
    # The network permutes all numbers of these bits, and more than half of them are below n. The others go
    # through it again: the cycle that one is on leads back to where it began, which is below n.
    outside = np.flatnonzero(values >= num)
    while len(outside):
        walked = _network(values[outside], bits - low, low, keys)
        values[outside] = walked
        outside = outside[walked >= num]
    return values.astype(np.int64)


def _network(values: _Words, high: int, low: int, keys: _Words) -> _Words:
    """A Feistel network over numbers of `high` + `low` bits; each round changes the one half by the other."""
    low_mask, high_mask = np.uint64((1 << low) - 1), np.uint64((1 << high) - 1)
    left, right = values >> np.uint64(low), values & low_mask
    for number, key in enumerate(keys):
        if number % 2:
            right = right ^ (_mixed(left, key) & low_mask)
        else:
            left = left ^ (_mixed(right, key) & high_mask)
    return left << np.uint64(low) | right


def _mixed(values: _Words, key: np.uint64) -> _Words:
    """Bits that depend on all bits of the value and of the key: SplitMix64's finalizer."""
    mixed = values + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
