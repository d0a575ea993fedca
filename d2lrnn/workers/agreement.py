"""What all workers have: gathered, and compared before the first step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import SpecError
from d2lrnn.workers.protocols import Workers


def gathered(workers: Workers, array: FloatArray) -> FloatArray:
    """The arrays of all workers, one after another (N, …); collective.

    A sum in which each has a place of its own: the engine needs no other operation.
    """
    places = np.zeros((workers.size, *array.shape), array.dtype)
    places[workers.rank] = array
    return workers.sum(places)


def check_same(workers: Workers, what: Mapping[str, str]) -> None:
    """Compares what all workers have with what worker 0 has; collective.

    Args:
        workers: all of them.
        what: descriptions by name, under the same names everywhere.

    Raises:
        SpecError: some worker has something else, on all workers; the message says what this one has.

    Example:
        >>> class Two:
        ...     rank, size = 1, 2
        ...     def sum(self, array):
        ...         return array + np.float32([[7], [0]])
        >>> check_same(Two(), {"version": "d2lrnn 0.4"})
        Traceback (most recent call last):
            ...
        d2lrnn.errors.SpecError: worker 1 of 2 has another version than worker 0: here it is d2lrnn 0.4; ...
    """
    digests = [np.frombuffer(hashlib.sha256(each.encode()).digest(), np.uint8) for each in what.values()]
    # Bytes are whole numbers, which float32 holds exactly.
    of_all = gathered(workers, np.concatenate(digests).astype(np.float32))
    for (name, value), digests_of_all in zip(what.items(), np.split(of_all, len(what), axis=1), strict=True):
        for rank, other in enumerate(digests_of_all):
            if not np.array_equal(other, digests_of_all[0]):
                raise SpecError(
                    f"worker {rank} of {workers.size} has another {name} than worker 0: here it is {value}; "
                    "start all workers with the same"
                )
