"""What must be the same on all workers, compared before the first step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from d2lrnn.errors import SpecError
from d2lrnn.workers.protocols import Workers


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
    own = np.concatenate(digests)
    # A sum in which each worker has a place of its own; bytes are whole numbers that float32 holds exactly.
    places = np.zeros((workers.size, len(own)), np.float32)
    places[workers.rank] = own
    gathered = np.split(workers.sum(places), len(what), axis=1)
    for (name, value), digests_of_all in zip(what.items(), gathered, strict=True):
        for rank, other in enumerate(digests_of_all):
            if not np.array_equal(other, digests_of_all[0]):
                raise SpecError(
                    f"worker {rank} of {workers.size} has another {name} than worker 0: here it is {value}; "
                    "start all workers with the same"
                )
