"""What only TensorFlow's workers have: their place, one server each on loopback, one reduction a step."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="this environment has no TensorFlow")

from d2lrnn_tensorflow.workers import Place, bind_to_loopback

from d2lrnn.errors import SpecError
from d2lrnn.workers.engine import free_ports

BEGIN = """
import os, signal, socket, sys, time
import numpy as np
import tensorflow as tf
import d2lrnn
from d2lrnn import ModelSpec, SlidingWindows, TrainingSpec, initial_parameters
from d2lrnn.contract.optimizers import Adam
from d2lrnn.errors import D2LError
from d2lrnn_tensorflow import workers as module
backend = d2lrnn.backend("tensorflow")
"""

#: Worker 1 stops itself after some steps; worker 0 reports.
TRAINING = """
module._SECONDS_TO_ANSWER = 1
workers = backend.join_workers("cpu")
port = int(os.environ["PORT"])
option = socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16
bound = [each.getsockopt(*option) for each in module._listening_at(port)]
assert bound == [b"lo\\0"], bound
spec = ModelSpec(11, "gru", "concise", 8, 2, dropout=0.2, output_dropout=0.1)
model = backend.build(spec, initial_parameters(spec))
learner = backend.learner(model, TrainingSpec(optimizer=Adam()), workers=workers)
data = SlidingWindows(np.arange(400, dtype=np.int32) % 11, batch_size=7, num_steps=5, num_train=30, num_val=9)
for batch in data.train_batches(0):
    result, _ = learner.train_step(batch, learner.initial_state(7))
for batch in data.validation_batches():
    learner.eval_step(batch, learner.initial_state(7))
own = learner._learner
for function in (own._train_part, own._evaluate_part):
    assert function.experimental_get_tracing_count() == 1
    [graph] = [each.graph for each in function._list_all_concrete_functions()]
    assert [node.type for node in graph.get_operations()].count("CollectiveReduceV2") == 1
logits, _ = learner.predict_step(np.zeros(3, np.int32), learner.initial_state(3))
assert logits.shape == (3, 11)
learner.synchronize()
if workers.rank == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
while True:
    learner.train_step(batch, learner.initial_state(7))
"""

ALONE = """
workers = backend.join_workers("cpu")
assert (workers.rank, workers.size, workers.lost()) == (0, 1, None)
assert workers.sum(np.arange(3.0)).tolist() == [0, 1, 2]
workers.close()
"""

LATE = """
tf.ones(3) + 1
backend.join_workers("cpu")
"""

NOBODY_COMES = """
module._PATIENCE = 2
backend.join_workers("cpu")
"""

END = """
try:
    work()
except D2LError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
os._exit(0)
"""


def _config(ports: list[int], index: int) -> str:
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def _started(work: str, ports: list[int], index: int = 0) -> subprocess.Popen[str]:
    """A process that is worker `index` of those that listen at `ports`."""
    body = "".join(f"    {line}\n" for line in work.strip().splitlines())
    environment = {"TF_CONFIG": _config(ports, index), "PORT": str(ports[index])}
    return subprocess.Popen(
        [sys.executable, "-c", f"{BEGIN}def work():\n{body}{END}"],
        env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def _running(*processes: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _printed(process: subprocess.Popen[str]) -> str:
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert ":tensorflow:" not in errors  # the log of what it checks
    return printed


def test_a_step_is_one_reduction_and_one_that_hangs_is_named() -> None:
    ports = free_ports(2)
    first, second = _started(TRAINING, ports), _started(TRAINING, ports, 1)
    with _running(first, second):
        assert _printed(first).startswith("WorkerLostError: worker 1 of 2 is gone: ")
        assert second.poll() is None, second.communicate()


def test_what_keeps_a_worker_from_joining_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        first, second, *others = free_ports(5)
        expected = {
            _started(ALONE, [others[0]]): "",
            _started(LATE, [others[1]]): "SpecError: TensorFlow has computed in this process already: join ",
            _started(ALONE, [busy]): f"SpecError: this worker cannot listen at 127.0.0.1:{busy}: ",
            _started(NOBODY_COMES, [first, second]): (
                f"WorkerLostError: the other workers cannot be reached at 127.0.0.1:{second}: Timeout"
            ),
        }
        with _running(*expected):
            for process, beginning in expected.items():
                printed = _printed(process)
                assert printed.startswith(beginning), (printed, beginning)
                assert len(printed.splitlines()) == bool(beginning)


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "{}",
        "[]",
        '{"cluster": {"worker": ["one:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["one:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["one:1"]}, "task": {"type": "evaluator", "index": 0}}',
        '{"cluster": {"worker": ["one"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["one:1", "one:1"]}, "task": {"type": "worker", "index": 1}}',
    ],
)
def test_a_place_that_makes_no_sense_is_refused(config: str) -> None:
    with pytest.raises(SpecError, match="TF_CONFIG names no place among the workers"):
        Place.read({"TF_CONFIG": config})


def test_without_a_place_nothing_is_joined() -> None:
    with pytest.raises(SpecError, match="TF_CONFIG is not set"):
        Place.read({})


def test_the_first_other_worker_that_is_named_is_lost() -> None:
    place = Place(1, ("a:1", "b:1", "c:1"), chiefs=1)
    assert place.named_in("/job:worker/replica:0/task:0 says that /job:worker/task:1 is down") == 2
    assert place.named_in("/job:chief/replica:0/task:0: Socket closed") == 0
    assert place.named_in("Socket closed") is None


def test_a_socket_that_listens_on_all_addresses_is_kept_to_loopback() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        bind_to_loopback(listener.getsockname()[1])
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == b"lo\0"
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
            pass


def test_a_port_that_stays_open_is_said(monkeypatch: Any) -> None:
    with pytest.warns(RuntimeWarning, match="port 1 of this worker is open to other machines"):
        bind_to_loopback(1)
    monkeypatch.delattr(socket, "SO_BINDTODEVICE")
    with socket.socket() as listener:
        listener.listen()
        with pytest.warns(RuntimeWarning, match="cannot be bound to loopback here: .*SO_BINDTODEVICE"):
            bind_to_loopback(listener.getsockname()[1])
