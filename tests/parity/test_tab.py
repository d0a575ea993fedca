"""The tab: the same names on every backend, and the same things behind them."""

from __future__ import annotations

import subprocess
import sys

from d2lrnn import registry
from d2lrnn.contract.protocols import Backend

MODELS = {"RNNScratch", "StackedRNNScratch", "GRUScratch", "LSTMScratch", "RNN", "GRU", "LSTM"}
NAMES = MODELS | {"RNNLMScratch", "RNNLM", "try_gpu", "num_gpus"}


def test_every_tab_has_the_same_names(backend: Backend) -> None:
    tab = registry.tab(backend.name)
    assert set(tab.__all__) >= NAMES
    for name in NAMES:
        assert callable(getattr(tab, name))
        assert getattr(tab, name).__doc__, f"{name} has no docstring"


def test_gpus_are_counted_as_the_backend_lists_them(backend: Backend) -> None:
    tab = registry.tab(backend.name)
    assert tab.num_gpus() == sum(device.name.startswith("gpu") for device in backend.devices())
    # As in the book a GPU that is not there is the CPU; TensorFlow's device is a context that keeps its name.
    device = tab.try_gpu(99)
    assert "cpu" in str(getattr(device, "_device_name", device)).lower()


def test_a_tab_lists_its_names_alone(backend: Backend) -> None:
    tab = registry.tab(backend.name)
    assert dir(tab) == sorted(tab.__all__)
    assert len(set(tab.__all__)) == len(tab.__all__)
    assert all(hasattr(tab, name) for name in dir(tab))


def test_a_tab_is_imported_by_its_name_alone(backend: Backend) -> None:
    code = f"from d2lrnn import {backend.name} as d2l; print(d2l.RNNLM.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"d2lrnn_{backend.name}.")
