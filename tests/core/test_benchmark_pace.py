"""How quiet the machine is, and waiting until it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from d2lrnn.benchmark.pace import QUIET, Pacer, pace


def test_the_work_takes_time() -> None:
    assert 0 < pace() < 1


@pytest.mark.parametrize(
    ("measured", "patience", "found", "asked"),
    [
        pytest.param([1.0, 1.1], 60, 1.1, 2, id="quiet"),
        pytest.param([1.0, 2.0, 1.5, 1.1], 60, 1.1, 4, id="quiet again"),
        pytest.param([1.0, 2.0, 2.0, 2.0, 1.0], 6, 2.0, 4, id="out of patience"),
        pytest.param([1.0, 2.0, 1.0], 0, 2.0, 2, id="no patience"),
        pytest.param([2.0, 1.0, 2.0, 1.0], 60, 1.0, 4, id="the least is learned"),
        pytest.param([1.0, None], 60, None, 2, id="not to be measured"),
    ],
)
def test_waiting(measured: Sequence[float | None], patience: float, found: float | None, asked: int) -> None:
    pauses: list[float] = []
    left = list(measured)
    pacer = Pacer(lambda: left.pop(0), patience=patience, sleep=pauses.append)
    while len(measured) - len(left) < asked:
        last = pacer.wait()
    assert (last, len(measured) - len(left)) == (found, asked)
    assert sum(pauses) <= patience


def test_what_an_earlier_run_found_counts() -> None:
    pauses: list[float] = []
    left = [1.0, 0.5]
    assert Pacer(lambda: left.pop(0), least=0.5, patience=60, sleep=pauses.append).wait() == 0.5
    assert len(pauses) == 1
    assert QUIET > 1
