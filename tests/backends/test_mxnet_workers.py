"""MXNet's engine for several workers: exact sums, and the scheduler and the server beside them.

The engine's processes are started as its own launcher starts them, by the variables alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mxnet")

from d2lrnn_mxnet.workers import join

from d2lrnn.errors import WORKER_LOST, SpecError
from d2lrnn.registry import engine_of

_SERVES = "import d2lrnn_mxnet"
_BEGINS = "import os, d2lrnn, numpy as np; workers = d2lrnn.backend('mxnet').join_workers('cpu')"


def _run(worker: str, size: int) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of the workers by rank, and then of scheduler and server."""
    engine = engine_of("mxnet")
    workers, servers = engine.environments(size)
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "backends")])
    common = {name: value for name, value in os.environ.items() if name not in engine.unset}
    codes = [worker] * size + [_SERVES] * len(servers)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**common, "PYTHONPATH": path, **{k: v for k, v in own.items() if v}},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for code, own in zip(codes, workers + servers, strict=True)
    ]
    try:
        written = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *each) for process, each in zip(processes, written, strict=True)]


def test_sums_are_exact_and_the_servers_leave_with_the_workers() -> None:
    """float64 on servers that add in float32; ranks in the order in which the workers were started."""
    code = f"""{_BEGINS}
for dtype, most in (("float32", 1.2e-7), ("float64", 4.5e-16)):
    for shape in ((), (3,), (40, 50), (3,)):
        scales = 10.0 ** -(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 8)
        drawn = [np.random.default_rng(r).standard_normal(shape) for r in range(workers.size)]
        arrays = [np.asarray(array * scales, dtype) for array in drawn]
        scale, before = sum(abs(array.astype("float64")) for array in arrays), arrays[workers.rank].copy()
        got = workers.sum(arrays[workers.rank])
        assert got.dtype == dtype and got.shape == shape, (got.dtype, got.shape)
        assert (abs(got - sum(array.astype("float64") for array in arrays)) <= most * scale + 1e-18).all()
        assert (arrays[workers.rank] == before).all()
zeros = workers.sum(np.zeros(2))
lost = workers.sum(np.array([1.0, np.inf]))
print(workers.rank, workers.size, zeros.tolist(), np.isfinite(lost).any(), workers.lost())
workers.close()
os._exit(0)
"""
    ended = _run(code, 3)
    expected = [(0, f"{rank} 3 [0.0, 0.0] False None\n", "") for rank in range(3)]
    assert ended == [*expected, (0, "", ""), (0, "", "")]


def test_the_scheduler_names_a_worker_that_dies() -> None:
    """It ends for it, then the server and the other worker, whose call waits without end."""
    code = f"""{_BEGINS}
import threading, time
def watch():
    while True:
        time.sleep(1)
        if (lost := workers.lost()) is not None:
            print(lost, flush=True)
            os._exit(75)
threading.Thread(target=watch, daemon=True).start()
workers.sum(np.ones(3))
if workers.rank:
    os.kill(os.getpid(), 9)
workers.sum(np.ones(3))
"""
    first, second, scheduler, server = _run(code, 2)
    assert second[0] == -9
    assert scheduler == (WORKER_LOST, "", "d2lrnn: worker 1 of 2 gives no sign of life\n")
    assert server == (WORKER_LOST, "", "d2lrnn: the scheduler gives no sign of life\n")
    assert first == (WORKER_LOST, "the scheduler\n", "")


def test_a_place_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in engine_of("mxnet").environments(2)[0][0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DMLC_NUM_WORKER", "two")
    with pytest.raises(SpecError, match="DMLC_NUM_WORKER is 'two': it must be a whole number from 1 on"):
        join(None)
    monkeypatch.delenv("DMLC_PS_ROOT_URI")
    with pytest.raises(SpecError, match="DMLC_PS_ROOT_URI is not set"):
        join(None)
