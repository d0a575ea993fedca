"""PyTorch's recurrent modules as it makes them itself, and what only it can say of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from d2lrnn.ports.conventions import Convention

NAME = "torch"


def seed(number: int) -> None:
    torch.manual_seed(number)


@st.composite
def modules(draw: st.DrawFn, layer: str) -> Any:
    """What makes a module: a strategy may not use the framework's generator."""
    sizes, flags = st.integers(1, 6), st.booleans()
    hidden = draw(sizes)
    options: dict[str, Any] = {"bias": draw(flags)}
    if "RNN" in layer:
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if "Cell" not in layer:
        options |= {"num_layers": draw(st.integers(1, 3)), "batch_first": draw(flags)}
        options |= {"bidirectional": draw(flags)}
        if layer == "nn.LSTM" and hidden > 1 and draw(flags):
            options["proj_size"] = draw(st.integers(1, hidden - 1))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    number, num_inputs = draw(st.integers(0, 9)), draw(sizes)

    def make() -> Any:
        seed(number)
        return getattr(nn, layer.removeprefix("nn."))(num_inputs, hidden, dtype=dtype, **options)

    return make


def default(convention: Convention, num_inputs: int, num_hiddens: int) -> Any:
    return getattr(nn, convention.layer.removeprefix("nn."))(num_inputs, num_hiddens)


def bias_vectors(module: Any, width: int) -> float:
    return sum(value.numel() for name, value in module.named_parameters() if "bias" in name) / width


def called(module: Any, X: Any) -> Any:
    """The outputs of a plain call, sequences with the time first."""
    with torch.no_grad():
        if "Cell" in type(module).__name__:
            after = module(torch.tensor(X[0]))
            return (after[0] if isinstance(after, tuple) else after)[None].numpy()
        first = module.batch_first
        outputs = module(torch.tensor(np.swapaxes(X, 0, 1) if first else X))[0].numpy()
    return np.swapaxes(outputs, 0, 1) if first else outputs


def halves(layer: str) -> Any:
    """What has another type of numbers than any description."""
    return getattr(nn, layer.removeprefix("nn."))(2, 3).half()


class Own(nn.GRU):
    """A subclass, which may compute anything."""


STRANGERS = [nn.Linear(2, 3), Own(2, 3), nn.ModuleList([nn.GRU(2, 3)])]


def ask_dropout(convention: Convention) -> None:
    """Not on inputs, states and last outputs; on what goes from layer to layer, of an RNN seen by step."""
    if convention.form == "cell":
        assert not hasattr(default(convention, 2, 3), "dropout")
        assert convention.dropout == "none"
        return
    kind, X = getattr(nn, convention.layer.removeprefix("nn.")), torch.ones(6, 2, 4)
    one, two = kind(4, 16), kind(4, 16, num_layers=2)
    for module, changes in ((one, False), (two, True)):
        before = module(X)[0]
        module.dropout = 0.5
        assert torch.equal(module(X)[0], before) != changes
    if convention.cell == "rnn":
        with torch.no_grad():
            two.weight_hh_l0.zero_(), two.weight_hh_l1.zero_()
        steps = two(X)[0]
        assert not torch.equal(steps[1], steps[2])
    assert convention.dropout == "on the outputs of every layer but the last, drawn for each step"


def ask_kernel(convention: Convention) -> None:
    """Where there is no GPU nothing can be asked; that the table promises nothing is all."""
    assert convention.kernel == ()
