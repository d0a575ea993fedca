"""The lines of docs/workers.md on two hosts, which are two network namespaces and the cable between them."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers.hosts import Host, Job, TwoHosts, two_hosts, wait_until, why_not
from workers.runs import PATIENCE, PROMISED, RUN, alone, errors_under_torchrun, read, start, write_text

from d2lrnn.errors import INTERRUPTED, WORKER_LOST, WRONG_INPUT
from d2lrnn.saving.run_folder import load_run

BACKEND = os.environ.get("D2LRNN_BACKEND", "")
#: What of the page is of which backend.
LINES = {"torch": ["torch", "torchrun"], "jax": ["jax"], "tensorflow": ["tensorflow"], "mxnet": ["mxnet"]}

pytestmark = [
    pytest.mark.of_the_core,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(BACKEND not in LINES, reason=f"{BACKEND} has no engine"),
]

#: What listens on all addresses at the port that was given, and cannot be helped.
OPEN = {"torchrun", "tensorflow"}


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


@pytest.mark.slow
@pytest.mark.parametrize("what", LINES.get(BACKEND, [])[:1])
def test_also_over_a_slow_cable_that_loses_some(what: str, folder: Path) -> None:
    with two_hosts(slow=True) as hosts:
        check_run(what, hosts, folder)


def check_run(what: str, hosts: TwoHosts, folder: Path) -> None:
    options = "--epochs 3"
    jobs = start(what, hosts, folder, options, "result", errors_apart=what == "torchrun")
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
    # Torchrun's agents write of their own: that the other has ended, or that there is no DNS.
    errors = errors_under_torchrun(folder) if what == "torchrun" else a.errors + b.errors
    lines = errors.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("epoch ") for line in lines), lines
    assert not (folder / "result-host-b.json").exists()
    result, expected = read(folder / "result-host-a.json"), alone(folder, options)
    for epoch, other in zip(result["epochs"], expected["epochs"], strict=True):
        for name in ("train_perplexity", "val_perplexity"):
            assert epoch[name] == pytest.approx(other[name], rel=1e-6)
    assert (folder / RUN / "latest").exists()
    assert any(listening.values())
    for host in hosts:
        for address, port, program in listening[host.name]:
            known = address in (host.address, "127.0.0.1") or (what in OPEN and port == 29500)
            assert known, (address, port, program)
        assert not host.processes()
        assert not host.listening()


def begun(hosts: TwoHosts, folder: Path, what: str, options: str = "") -> list[Job]:
    """Jobs of a run without end that have saved something."""
    jobs = start(what, hosts, folder, f"--epochs 1000000 {options}")
    wait_until("a checkpoint", (folder / RUN / "latest").exists, PATIENCE, *jobs)
    return jobs


def kill(host: Host) -> None:
    (pid,) = host.workers()
    os.kill(pid, signal.SIGKILL)


def kill_all(host: Host) -> None:
    """As where the machine loses its power, but for what the kernel still says to the others."""
    host.end_all()


def stop(host: Host) -> None:
    (pid,) = host.workers()
    os.kill(pid, signal.SIGSTOP)


def stop_all(host: Host) -> None:
    """As where the machine hangs."""
    for pid in host.processes():
        os.kill(pid, signal.SIGSTOP)


#: What happens to which host, and what the two then say.
FAILURES = {
    "killed b": (kill, 1, ("worker 1 of 2 ", "worker 1 of 2 .* was killed by signal 9")),
    "killed a": (kill, 0, ("worker 0 of 2 .* was killed by signal 9", "worker 0 of 2 ")),
    "cut": (None, 0, ("worker 1 of 2 ", "worker 0 of 2 ")),
    "stopped b": (stop, 1, ("worker 1 of 2 ", "worker 1 of 2 .* gives no sign of life")),
    "stopped a": (stop, 0, ("worker 0 of 2 .* gives no sign of life", "worker 0 of 2 ")),
    "gone b": (kill_all, 1, ("worker 1 of 2 ", None)),
    "gone a": (kill_all, 0, (None, "worker 0 of 2 ")),
    "hangs b": (stop_all, 1, ("worker 1 of 2 ", None)),
    "hangs a": (stop_all, 0, (None, "worker 0 of 2 ")),
}
#: Those that take part in a plain nox: what the core does about the others is the same for all backends.
QUICK = ("killed b", "killed a")
#: Where MXNet's processes meet, and all that another host hears of.
SCHEDULER = "the scheduler"


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow) for case in FAILURES]
)
@pytest.mark.parametrize("what", LINES.get(BACKEND, [])[:1])
def test_where_a_worker_is_lost_all_end_and_say_which(
    what: str, case: str, hosts: TwoHosts, folder: Path
) -> None:
    act, number, expected = FAILURES[case]
    jobs = begun(hosts, folder, what)
    began = time.monotonic()
    if act is None:
        hosts.cut()
    else:
        act(list(hosts)[number])
    for job, pattern in zip(jobs, expected, strict=True):
        if pattern is None:
            continue
        code = job.wait(2 * PROMISED)
        wait_until("an empty host", lambda host=job.host: not host.processes(), PROMISED)
        took = time.monotonic() - began
        said = job.said
        print(f"{job.host.name}, {took:.1f} s: {said}")
        assert took < PROMISED, (took, said)
        assert code == WORKER_LOST, said
        if what != "mxnet":
            assert len(said) == 1
            assert re.match(pattern, said[0])
        else:
            # A host with the scheduler and the server has three commands, which all say why they end.
            assert len(said) == (3 if job is jobs[0] else 1)
            assert any(re.match(f"{pattern}|{SCHEDULER}", line) for line in said)
        ends = [line.endswith(f"; to go on: d2lrnn train --resume {RUN}, for every worker") for line in said]
        assert sum(ends) == 1
        assert not job.host.listening()
    for job in jobs:
        job.host.end_all()
        job.popen.wait()
    run = load_run(str(folder / RUN))
    assert run.position.epochs


@pytest.mark.parametrize("what", LINES.get(BACKEND, [])[:1])
def test_an_interrupt_on_one_host_ends_both_with_a_checkpoint(
    what: str, hosts: TwoHosts, folder: Path
) -> None:
    jobs = begun(hosts, folder, what)
    (worker,) = hosts.b.workers()
    supervisor = int(Path(f"/proc/{worker}/stat").read_text().rpartition(") ")[2].split()[1])
    os.kill(supervisor, signal.SIGINT)
    assert [job.wait(PATIENCE) for job in jobs] == [INTERRUPTED, INTERRUPTED]
    assert [job.said for job in jobs] == [[], []]
    assert f"saved       {RUN}; to go on: d2lrnn train --resume {RUN}" in jobs[0].output
    assert load_run(str(folder / RUN)).position.epochs


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="torchrun starts workers of torch")
def test_torchrun_ends_where_a_worker_is_killed(hosts: TwoHosts, folder: Path) -> None:
    jobs = begun(hosts, folder, "torchrun")
    began = time.monotonic()
    kill(hosts.b)
    codes = [job.wait(2 * PROMISED) for job in jobs]
    assert time.monotonic() - began < PROMISED
    assert codes == [1, 1]  # torchrun's own, and a report of its own behind the line
    for job in jobs:
        assert [line[:14] for line in job.said] == ["worker 1 of 2 "]
        assert job.said[0].endswith(f"; to go on: d2lrnn train --resume {RUN}, for every worker")
        assert not job.host.processes()
        assert not job.host.listening()


@pytest.mark.slow
@pytest.mark.parametrize("what", LINES.get(BACKEND, []))
def test_restart_goes_on_from_the_last_checkpoint(what: str, hosts: TwoHosts, folder: Path) -> None:
    jobs = begun(hosts, folder, what, "--restart 1")
    kill(hosts.b)
    wait_until("the restart", lambda: all("; started again from" in job.errors for job in jobs), 100, *jobs)
    latest = folder / RUN / "latest"
    before = latest.resolve()
    wait_until("a new checkpoint", lambda: latest.resolve() != before, PATIENCE, *jobs)
    assert "resumed  runs/book" in jobs[0].output
    hosts.a.end_all()
    assert jobs[1].wait(2 * PROMISED) == (1 if what == "torchrun" else WORKER_LOST)
    jobs[0].popen.wait()


def test_another_text_on_one_host_is_an_error(hosts: TwoHosts, folder: Path) -> None:
    what = LINES[BACKEND][0]
    other = folder / "other"
    other.mkdir()
    # With the same characters, as long and drawn otherwise: the model is the same.
    lines = (folder / "book.txt").read_text().splitlines()
    (other / "book.txt").write_text("\n".join(lines[::-1]) + "\n")
    jobs = start(what, hosts, folder, "--epochs 1", folders=[folder, other])
    assert [job.wait(PATIENCE) for job in jobs] == [WRONG_INPUT, WRONG_INPUT]
    for job in jobs:
        assert job.said[-1].startswith(
            "worker 1 of 2 has another text than worker 0: here it is that with the"
        )


def test_another_host_without_the_folder_says_where_the_run_is(hosts: TwoHosts, folder: Path) -> None:
    what = LINES[BACKEND][0]
    other = folder / "other"
    other.mkdir()
    write_text(other)
    a, b = start(what, hosts, folder, "--epochs 1000000", folders=[folder, other])
    wait_until("a checkpoint", (folder / RUN / "latest").exists, PATIENCE, a, b)
    kill(hosts.b)
    assert [b.wait(2 * PROMISED), a.wait(2 * PROMISED)] == [WORKER_LOST, WORKER_LOST]
    assert b.errors.endswith(
        f"; to go on, if worker 0 has saved: d2lrnn train --resume {RUN}, for every worker\n"
    )
