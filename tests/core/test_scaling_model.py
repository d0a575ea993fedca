"""``benchmarks/scaling_model.py``, its formulas and ``links.py``, against a play of what they describe."""

from __future__ import annotations

import doctest
import json
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("scaling_model")


@pytest.fixture
def formulas(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("scaling_formulas")


def test_examples(formulas: ModuleType) -> None:
    assert doctest.testmod(formulas) == (0, 11)


def _ring(workers: int, num_bytes: float, latency: float, bandwidth: float, crossings: int = 1) -> float:
    """Plays the rounds of a ring: who has which part of whom, and when."""
    sums = [[{worker} for _ in range(workers)] for worker in range(workers)]
    clock = [0.0] * workers
    for turn in range(2 * (workers - 1)):
        sent = [(worker - turn) % workers for worker in range(workers)]
        parts = [set(sums[worker][part]) for worker, part in enumerate(sent)]
        start = list(clock)
        for worker in range(workers):
            after = (worker + 1) % workers
            arrival = start[worker] + crossings * latency + num_bytes / workers / bandwidth
            clock[after] = max(start[after], arrival)
            sums[after][sent[worker]] |= parts[worker]
    assert all(part == set(range(workers)) for own in sums for part in own)
    return max(clock)


@pytest.mark.parametrize("workers", [2, 3, 8, 64])
def test_a_ring_takes_what_its_rounds_take(formulas: ModuleType, workers: int) -> None:
    link = formulas.Link(0.002, 1e8)
    played = _ring(workers, 3.4e6, *link)
    assert formulas.ring_seconds(workers, 3.4e6, link) == pytest.approx(played)
    # With segments below gloo's largest: two a part, of which two are under way, each after a round trip.
    small = 1e5 * workers
    assert formulas.gloo_seconds(workers, small, link) == pytest.approx(
        _ring(workers, small, *link, crossings=2)
    )


def test_more_segments_of_gloos_ring_take_more_round_trips(formulas: ModuleType) -> None:
    latency_alone = formulas.Link(0.02, math.inf)
    assert formulas.gloo_seconds(2, 16e6, latency_alone) == pytest.approx(8 * 0.04)
    assert formulas.gloo_seconds(4, 16e6, latency_alone) == pytest.approx(12 * 0.04)


@pytest.mark.parametrize(("workers", "servers"), [(2, 1), (8, 1), (8, 4), (8, 8), (2, 4)])
def test_a_server_takes_what_its_link_takes(formulas: ModuleType, workers: int, servers: int) -> None:
    latency, bandwidth, num_bytes = 0.002, 1e8, 3.4e6
    # One after the other, each worker's part of a server through the link of the server ...
    into_server = sum(num_bytes / servers / bandwidth for _ in range(workers))
    # ... or all parts of a worker through its own.
    out_of_worker = sum(num_bytes / servers / bandwidth for _ in range(servers))
    one_way = latency + max(into_server, out_of_worker)
    link = formulas.Link(latency, bandwidth)
    assert formulas.server_seconds(workers, num_bytes, link, servers=servers) == pytest.approx(2 * one_way)


@pytest.mark.parametrize("reduction", ["gloo_seconds", "server_seconds"])
def test_one_worker_sums_with_no_one_and_a_larger_message_takes_longer(
    formulas: ModuleType, reduction: str
) -> None:
    seconds = getattr(formulas, reduction)
    link = formulas.Link.of(0.1, 1.0)
    assert seconds(1, 1e6, link, 1e-9) == 0
    assert 0 < seconds(2, 1e6, link) < seconds(2, 1e6, link, 1e-9) < seconds(2, 2e6, link, 1e-9)


def test_below_the_least_batch_the_efficiency_is_too_low(formulas: ModuleType) -> None:
    computing = formulas.Computing(0.05, 0.004)
    for workers in (8, 1024):
        for reduction in (0.0, 0.3):
            batch = formulas.least_batch(computing, workers, reduction)
            assert batch % workers == 0
            assert formulas.efficiency(computing, workers, batch, reduction) >= 0.8
            assert formulas.efficiency(computing, workers, batch - workers, reduction) < 0.8


def test_the_report_marks_what_is_off(model: ModuleType) -> None:
    def step(seconds: float) -> dict[str, Any]:
        link = {"latency": 0.0, "bandwidth": 1e9}
        return {"link": link, "workers": 2, "own rows": 0.1, "step": seconds, "reduction": 0.1}

    computing = {"1": 0.011, "10": 0.02, "64": 0.074}
    found = {
        "backend": "torch", "message": 1e8, "loopback": 0.0, "computing": computing,
        "steps": [step(0.2), step(0.25), step(0.3)],
    }  # fmt: skip
    backends = [found, {**found, "backend": "mxnet", "steps": []}]
    text = model.report({"processor": "P, 2", "system": "S", "turns": 7, "backends": backends})
    row = "| torch | gloo's ring | 2 | 8 | 0 | 100 | 200 |"
    for measured, off in (("200", "+0%"), ("250", "-20%"), ("300", "-33% ✗")):
        assert f"{row} {measured} | {off} | 100 | 100 |" in text
    assert "| torch | – | 1 | – | – | 74 | 74 | 74 | +0% | – | – |" in text
    assert "computing takes 10 ms + 1 ms a row" in text
    # By a ring, one server, and as many servers as workers, of which each sends and receives three messages.
    for sum_of_8, sum_of_1024 in (("22.4", "221"), ("384", "49,152"), ("48.2", "48.2")):
        assert f"\n| 8 | 100 | {sum_of_8} |" in text
        assert f"\n| 1024 | 100 | {sum_of_1024} |" in text


def test_frames_take_the_time_of_their_link() -> None:
    """Two machines' devices are pairs of sockets here, and the least time is what is looked at."""
    code = """
import json, os, socket, sys, threading, time
from links import Link, carry
pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
threading.Thread(
    target=carry, args=([theirs.fileno() for _, theirs in pairs], Link(0.05, 1e5)), daemon=True
).start()
own = [pair[0] for pair in pairs]
started = time.monotonic()
for size in (1000, 2000):
    own[0].send(bytes([2, 0, 0, 0, 0, 1]) + bytes(size - 6))
received = [(len(own[1].recv(4000)), time.monotonic() - started) for _ in range(2)]
own[1].send(bytes([255] * 6) + bytes(94))
received += [(len(each.recv(4000)), 0) for each in (own[0], own[2])]
own[1].setblocking(False)
try:
    own[1].recv(1)
except BlockingIOError:
    print(json.dumps(received), flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=BENCHMARKS, check=True
    )
    (first, second, *broadcast) = json.loads(done.stdout)
    assert first[0] == 1000
    assert first[1] >= 0.06
    assert second[0] == 2000
    assert second[1] >= 0.08
    assert broadcast == [[100, 0], [100, 0]]
