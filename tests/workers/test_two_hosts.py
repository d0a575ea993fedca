"""The lines of docs/workers.md on two hosts, which are two network namespaces and the cable between them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers.hosts import Job, TwoHosts, two_hosts, wait_until, why_not
from workers.runs import PATIENCE, RUN, alone, read, start, write_text

BACKEND = os.environ.get("D2LRNN_BACKEND", "")
#: What of the page is of which backend.
LINES = {"torch": ["torch", "torchrun"], "jax": ["jax"], "tensorflow": ["tensorflow"], "mxnet": ["mxnet"]}

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

#: What listens beside the workers on addresses that nobody gave, and cannot be helped.
OPEN = {"torchrun": "/torchrun "}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_text(tmp_path)
    return tmp_path


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts() as both:
        yield both


@pytest.mark.parametrize("what", LINES.get(BACKEND, []))
def test_the_numbers_are_those_of_one_process(what: str, hosts: TwoHosts, folder: Path) -> None:
    check_run(what, hosts, folder)


@pytest.mark.parametrize("what", LINES.get(BACKEND, [])[:1])
def test_also_over_a_slow_cable_that_loses_some(what: str, folder: Path) -> None:
    with two_hosts(slow=True) as hosts:
        check_run(what, hosts, folder)


def check_run(what: str, hosts: TwoHosts, folder: Path) -> None:
    options = "--epochs 3"
    jobs = start(what, hosts, folder, options, "result")
    listening: dict[str, set[tuple[str, int, str]]] = {host.name: set() for host in hosts}
    until = time.monotonic() + PATIENCE
    while any(job.popen.poll() is None for job in jobs) and time.monotonic() < until:
        for host in hosts:
            listening[host.name] |= host.listening()
        time.sleep(0.1)
    a, b = jobs
    codes = [job.wait(1) for job in jobs]
    assert codes == [0, 0], a.errors + b.errors
    assert "workers  2\n" in a.output
    assert b.output == ""
    if what != "torchrun":  # which says how many threads it leaves to a worker
        assert a.errors == b.errors == ""
    assert not (folder / "result-host-b.json").exists()
    result, expected = read(folder / "result-host-a.json"), alone(folder, options)
    for epoch, other in zip(result["epochs"], expected["epochs"], strict=True):
        for name in ("train_perplexity", "val_perplexity"):
            assert epoch[name] == pytest.approx(other[name], rel=1e-6)
    assert (folder / RUN / "latest").exists()
    assert any(listening.values())
    for host in hosts:
        for address, port, program in listening[host.name]:
            given = address in (host.address, "127.0.0.1")
            assert given or OPEN.get(what, "nothing") in program, (address, port, program)
        assert not host.processes()
        assert not host.listening()


def begun(hosts: TwoHosts, folder: Path, what: str) -> list[Job]:
    """Jobs of a run without end that have saved something."""
    jobs = start(what, hosts, folder, "--epochs 1000000")
    wait_until("a checkpoint", (folder / RUN / "latest").exists, PATIENCE, *jobs)
    return jobs
