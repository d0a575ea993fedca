"""What only JAX's several workers have: one all-reduce, donated memory, ports, messages, heartbeats."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

from d2lrnn_jax.adapter import JaxBackend  # noqa: E402
from d2lrnn_jax.optimizers import initial_state as initial_slots  # noqa: E402
from d2lrnn_jax.shared import shared_training_step  # noqa: E402
from d2lrnn_jax.states import initial_state  # noqa: E402
from d2lrnn_jax.workers import enter  # noqa: E402
from jax.sharding import Mesh  # noqa: E402

from d2lrnn import initial_parameters  # noqa: E402
from d2lrnn.contract.dropout import dropout_masks  # noqa: E402
from d2lrnn.contract.optimizers import Adam  # noqa: E402
from d2lrnn.contract.specs import ModelSpec  # noqa: E402
from d2lrnn.contract.values import Batch  # noqa: E402
from d2lrnn.errors import SpecError  # noqa: E402
from d2lrnn.workers.engine import free_ports  # noqa: E402

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")

#: Joins, sums, and prints the addresses on which this process listens.
PROGRAM = """
import json, os, numpy as np, d2lrnn
workers = d2lrnn.backend("jax").join_workers("cpu")
total = workers.sum(np.array([workers.rank, 1.0]))
sockets = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
           if os.path.islink(f"/proc/self/fd/{fd}")}
rows = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
listening = [row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
lost = workers.lost()
workers.close()
print(json.dumps([workers.rank, total.tolist(), listening, lost, workers.lost()]))
"""
#: Joins from one place after another, and prints why it cannot.
REFUSED = """
import json, os, sys, d2lrnn
from d2lrnn.errors import SpecError
for place in json.loads(sys.argv[1]):
    os.environ.update(place)
    try:
        d2lrnn.backend("jax").join_workers()
    except SpecError as error:
        print(error)
    for name in place:
        del os.environ[name]
"""
#: An address of loopback that is no machine's name; and as the kernel writes it, also as one of IPv6.
LOOPBACK, LISTENING = "127.0.0.2", {"0200007F", "0000000000000000FFFF00000200007F"}


def _environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**kept, "JAX_PLATFORMS": "cpu", **variables}


def _place(rank: int, size: int, port: int) -> dict[str, str]:
    return dict(zip(VARIABLES, (f"{LOOPBACK}:{port}", str(size), str(rank)), strict=True))


def test_two_processes_sum_on_loopback_and_say_nothing() -> None:
    [port] = free_ports(1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=_environment(**_place(rank, 2, port)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for rank, process in enumerate(processes):
        out, error = process.communicate(timeout=300)
        assert (process.returncode, error) == (0, "")
        number, total, listening, lost, lost_after = json.loads(out)
        assert (number, total, lost, lost_after) == (rank, [1, 2], None, None)
        # The coordination service listens in the first, gloo in each.
        assert len(listening) == 2 - rank
        assert set(listening) <= LISTENING


def test_one_all_reduce_in_a_step_that_donates() -> None:
    spec = ModelSpec(11, "gru", "concise", 8, 2, dropout=0.5)
    module, variables = JaxBackend().build(spec, initial_parameters(spec)).unbind()
    params = variables["params"]
    step = shared_training_step(module, Adam(), 1.0, Mesh(np.array(jax.local_devices()[:1]), ("data",)))
    tokens = np.zeros((4, 5), np.int32)
    masks = dropout_masks(spec, seed=0, step=0, num_steps=5, batch_size=4)
    slots = initial_slots(Adam(), params)
    state = initial_state(module, params, 4)
    stop = np.zeros((1, 1), np.int32)
    lowered = step.lower(params, slots, 0.1, 0, 20, Batch(tokens, tokens), state, masks, stop)
    assert len(re.findall(r"stablehlo\.all_reduce", lowered.as_text())) == 1
    # The optimiser's own count of steps is not read.
    given = sum(array.ndim > 0 for array in jax.tree.leaves((params, slots)))
    assert len(re.findall(r"tf\.aliasing_output|jax\.buffer_donor", lowered.as_text())) == given


def test_a_place_that_is_not_whole_or_makes_no_sense_is_refused() -> None:
    whole = _place(0, 2, 1)
    places = [{}, {**whole, "JAX_PROCESS_ID": "2"}, {**whole, "JAX_NUM_PROCESSES": "two"}]
    places += [{name: whole[name] for name in VARIABLES if name != missing} for missing in VARIABLES]
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, json.dumps(places)],
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    nowhere, beyond, no_number, *missing = done.stdout.splitlines()
    assert all(name in nowhere for name in VARIABLES)
    assert "process_id" in beyond
    assert "two" in no_number
    assert all(f"{name} is not set" in line for name, line in zip(VARIABLES, missing, strict=True))


def test_workers_join_before_anything_is_computed() -> None:
    jax.local_devices()
    with pytest.raises(SpecError, match="before anything else"):
        enter()
