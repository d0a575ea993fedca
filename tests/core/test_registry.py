from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

import d2lrnn
from d2lrnn import registry
from d2lrnn.errors import BackendNotInstalledError, D2LError, UnknownBackendError


def test_the_environment_variable_is_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2LRNN_BACKEND", "np")
    assert d2lrnn.backend().name == "numpy"
    monkeypatch.setenv("D2LRNN_BACKEND", "nonsense")
    with pytest.raises(UnknownBackendError, match="unknown backend 'nonsense': choose one of torch, jax"):
        d2lrnn.backend()
    assert d2lrnn.backend("numpy").name == "numpy"


@pytest.mark.parametrize(
    ("alias", "name"),
    [("pytorch", "torch"), ("tf", "tensorflow"), ("keras", "tensorflow"), ("flax", "jax"), ("mx", "mxnet"),
     ("NP", "numpy"), ("numpy", "numpy")],
)  # fmt: skip
def test_aliases(alias: str, name: str) -> None:
    assert registry.find_backend(alias).name == name


def _without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda module: None if module in missing else object())


def test_unset_takes_the_first_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D2LRNN_BACKEND", raising=False)
    _without(monkeypatch)
    assert registry.find_backend().name == "torch"
    _without(monkeypatch, "torch", "optax")
    assert registry.find_backend().name == "tensorflow"
    _without(monkeypatch, "torch", "jax", "tensorflow", "mxnet")
    assert registry.find_backend().name == "numpy"
    monkeypatch.setenv("D2LRNN_BACKEND", "")
    assert registry.find_backend().name == "numpy"


def test_a_backend_that_is_not_installed_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "jax", "flax", "torch", "tensorflow", "mxnet")
    told = r"jax needs jax, flax, which is not .*pip install jax"
    with pytest.raises(BackendNotInstalledError, match=told) as info:
        d2lrnn.backend("jax")
    assert "installed: numpy" in str(info.value)
    with pytest.raises(ImportError, match="pip install torch"):
        exec("from d2lrnn import torch as d2l")


def test_the_tab_is_the_backends_package() -> None:
    from d2lrnn import numpy as d2l

    assert d2l.__name__ == "d2lrnn_numpy"
    assert d2l.RNNScratch(28, 32).num_hiddens == 32


class ThirdParty:
    name = "third"


def test_third_party_backends_come_in_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("Third", f"{__name__}:ThirdParty", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "d2lrnn.backends" else [])
    monkeypatch.setattr(EntryPoint, "load", lambda self: ThirdParty)
    assert d2lrnn.backend("third").name == "third"
    with pytest.raises(D2LError, match=r"choose one of .*numpy, Third"):
        d2lrnn.backend("fourth")
