"""What d2lrnn does to the process that MXNet runs in: each test has an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("mxnet")


def _python(code: str, stream: Literal["stdout", "stderr"] = "stdout", **environment: str) -> str:
    """What a fresh interpreter prints."""
    chosen = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MXNET_ENGINE_TYPE")
    env = {k: v for k, v in os.environ.items() if k not in chosen} | environment
    root = Path(__file__).parents[2]
    env["PYTHONPATH"] = os.pathsep.join([str(root), str(root / "backends")])
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    written: str = getattr(done, stream)
    return written.strip()


# Where it computes


@pytest.mark.parametrize(
    ("before", "engine", "in_this_thread"),
    [
        pytest.param("", None, True, id="from the start"),
        pytest.param("mx.nd.waitall()", None, False, id="an engine was there"),
        pytest.param("", "ThreadedEnginePerDevice", False, id="the user's choice"),
    ],
)
def test_mxnet_computes_where_it_is_asked(before: str, engine: str | None, in_this_thread: bool) -> None:
    """In a process of its own, because each has one engine. OpenMP has no thread of its own here."""
    code = f"""
import os, sys
import d2lrnn, d2lrnn_mxnet
import mxnet as mx
{before}
d2lrnn.backend("mxnet")
mx.nd.ones((2,)).wait_to_read()
print(len(os.listdir("/proc/self/task")) == 1, os.environ.get("MXNET_ENGINE_TYPE"))
"""
    environment = {"OMP_NUM_THREADS": "1"} | ({"MXNET_ENGINE_TYPE": engine} if engine else {})
    assert _python(code, **environment) == f"{in_this_thread} {engine}"


def test_the_engine_is_chosen_without_a_word() -> None:
    code = "import os, d2lrnn; d2lrnn.backend('mxnet'); os.write(2, b'still open')"
    assert _python(code, stream="stderr") == "still open"


def test_the_engine_is_chosen_where_nothing_can_be_written() -> None:
    assert _python("import os, d2lrnn; os.close(2); d2lrnn.backend('mxnet'); print('made')") == "made"


# Importing


def test_importing_the_tab_changes_nothing_but_how_long_threads_spin() -> None:
    code = """
import os, random, numpy
before = dict(os.environ), numpy.random.get_state()[1].tolist()
from d2lrnn import mxnet as d2l
import mxnet as mx
changed = set(os.environ.items()) ^ set(before[0].items())
changed = {(k, v) for k, v in changed if not k.startswith(("KMP", "DMLC"))}
print(changed, mx.util.is_np_array(), mx.util.is_np_shape(),
      numpy.random.get_state()[1].tolist() == before[1])
"""
    assert _python(code) == "{('GOMP_SPINCOUNT', '3000')} False False True"
    code = "import d2lrnn_mxnet, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert _python(code, GOMP_SPINCOUNT="7") == "7"
    assert _python(code, OMP_WAIT_POLICY="passive") == "None"


def test_how_long_threads_spin_is_set_before_mxnet_is_loaded() -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "mxnet":
            print(os.environ.get("GOMP_SPINCOUNT"))
sys.meta_path.insert(0, Watch())
import d2lrnn_mxnet.adapter
"""
    assert _python(code).splitlines()[0] == "3000"


def test_without_the_books_set_np() -> None:
    """Models, training and lazily read results, all outside NumPy semantics."""
    code = """
import numpy
from mxnet import np
from d2lrnn import mxnet as d2l, backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch
from d2lrnn.errors import SpecError
from d2lrnn.training.initialization import initial_parameters
layers = [make(5, 4) for make in (d2l.RNNScratch, d2l.GRUScratch, d2l.LSTMScratch)]
layers += [d2l.StackedRNNScratch(5, 4, 2), d2l.RNN(4, 2), d2l.GRU(4, 2), d2l.LSTM(4, 2)]
print({layer(np.ones((2, 3, 5)))[0].shape for layer in layers})
for layer in layers:
    for head in (d2l.RNNLMScratch, d2l.RNNLM):
        assert head(layer, 5)(np.zeros((2, 3), dtype="int32")).shape == (2, 3, 5)
spec = ModelSpec(5, "gru", "concise", 4, num_layers=2)
learner = backend("mxnet").learner(backend("mxnet").build(spec, initial_parameters(spec)), TrainingSpec())
tokens = numpy.zeros((2, 3), numpy.int32)
result, state = learner.train_step(Batch(tokens, tokens), learner.initial_state(2))
print(float(result.loss) > 0, float(result.grad_norm) > 0, state.shape)
"""
    assert _python(code).splitlines() == ["{(2, 3, 4)}", "True True (2, 2, 4)"]
