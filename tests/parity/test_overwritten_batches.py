"""A caller may overwrite a batch as soon as a step has returned, before anything has waited for it."""

from __future__ import annotations

import json
import subprocess
import sys

from d2lrnn.contract.protocols import Backend

#: What has a framework compute in threads of its own, although the backend would have it in the calling one:
#: it was in use before the backend came. So it is in a notebook whose first cell is the framework's.
IN_USE = {"jax": "import jax.numpy; jax.numpy.zeros(1).block_until_ready()"}

_CODE = """
import json
import numpy as np
import d2lrnn

def aligned(shape):
    # As a framework that takes over memory without a copy wants it.
    memory = np.empty(4 * int(np.prod(shape)) + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + 4 * int(np.prod(shape))].view(np.int32).reshape(shape)

backend = d2lrnn.backend()
cell = backend.cells("scratch")[0]
spec = d2lrnn.ModelSpec(28, cell, "scratch", 128)
shape = (64, 64)

def losses(overwritten):
    model = backend.build(spec, d2lrnn.initial_parameters(spec))
    learner = backend.learner(model, d2lrnn.TrainingSpec(), device="cpu")
    inputs, targets = aligned(shape), aligned(shape)
    random, results = np.random.default_rng(0), []
    for _ in range(12):
        if not overwritten:
            inputs, targets = aligned(shape), aligned(shape)
        inputs[:], targets[:] = random.integers(0, 28, (2, *shape))
        result, _ = learner.train_step(d2lrnn.Batch(inputs, targets), learner.initial_state(shape[0]))
        results.append(result)
        if overwritten:
            inputs[:], targets[:] = 0, 0
    return [float(result.loss) for result in results]

print(json.dumps([losses(False), losses(True)]))
"""


def test_a_batch_may_be_overwritten_while_steps_are_in_flight(backend: Backend) -> None:
    code = f"{IN_USE.get(backend.name, '')}\n{_CODE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, overwritten = json.loads(done.stdout)
    assert len(kept) == 12
    assert kept == overwritten
