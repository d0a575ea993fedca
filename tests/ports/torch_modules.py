"""PyTorch's recurrent modules as it makes them itself, and what only it can say of them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hypothesis import strategies as st
from ports.user_files import Files
from torch import nn

from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.formats.protocol import Hints

NAME = "torch"

LAYERS = (nn.RNN, nn.GRU, nn.LSTM)


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
    kind = getattr(nn, layer.removeprefix("nn."))
    behind = [] if "Cell" in layer else draw(st.lists(sizes, max_size=2))
    as_it_is, other = draw(st.sampled_from([list, tuple, nn.ModuleList])), draw(st.sampled_from(LAYERS))

    def make() -> Any:
        seed(number)
        first = kind(num_inputs, hidden, dtype=dtype, **options)
        if not behind:
            return first
        made, width = [first], (1 + first.bidirectional) * (options.get("proj_size", 0) or hidden)
        for size in behind:
            made.append(other(width, size, dtype=dtype, batch_first=options["batch_first"]))
            width = size
        return as_it_is(made)

    return make


def default(convention: Convention, num_inputs: int, num_hiddens: int) -> Any:
    return getattr(nn, convention.layer.removeprefix("nn."))(num_inputs, num_hiddens)


def bias_vectors(module: Any, width: int) -> float:
    return sum(value.numel() for name, value in module.named_parameters() if "bias" in name) / width


def number_of_modules(module: Any) -> int:
    """How many the layers of a built stack are in."""
    return len(module) if isinstance(module, nn.ModuleList) else 1


def called(module: Any, X: Any) -> Any:
    """The outputs of a plain call, sequences with the time first."""
    with torch.no_grad():
        if "Cell" in type(module).__name__:
            after = module(torch.tensor(X[0]))
            return (after[0] if isinstance(after, tuple) else after)[None].numpy()
        layers = module if isinstance(module, (list, tuple, nn.ModuleList)) else [module]
        outputs = torch.tensor(X)
        for layer in layers:
            first = layer.batch_first
            steps = layer(outputs.transpose(0, 1) if first else outputs)[0]
            outputs = steps.transpose(0, 1) if first else steps
    return outputs.numpy()


def halves(layer: str) -> Any:
    """What has another type of numbers than any description."""
    return getattr(nn, layer.removeprefix("nn."))(2, 3).half()


class Own(nn.GRU):
    """A subclass, which may compute anything."""


def _normed(module: Any) -> Any:
    """Weights that a hook computes before each call."""
    with warnings.catch_warnings(action="ignore"):
        return torch.nn.utils.weight_norm(module, "weight_hh_l0")


STRANGERS = [
    nn.Linear(2, 3),
    Own(2, 3),
    [nn.GRU(2, 3), nn.Linear(3, 3)],
    nn.ModuleList([Own(2, 3)]),
    nn.Sequential(nn.GRU(2, 3)),
]

#: What is no stack though all its modules are known, and what the error says.
NO_STACKS = [
    ([nn.GRU(2, 3), nn.GRU(3, 3, batch_first=True)], "differ in their batch_first"),
    ([nn.GRU(2, 3), nn.GRU(3, 3).double()], "differ in their type of numbers"),
    ([nn.GRUCell(2, 3), nn.GRUCell(3, 3)], "give a list of layers, or one cell"),
    (nn.ModuleList([nn.Dropout(0.5)]), "give it at least one"),
    (_normed(nn.GRU(2, 3)), "weight_hh_l0 is no parameter but computed"),
]


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


def _one_activation(spec: StackSpec) -> bool:
    """What says no activation has one for all that have a choice."""
    return len({each.activation for each in spec.layers if not each.is_gated}) <= 1


def _state(module: Any) -> Any:
    return (nn.ModuleList(module) if isinstance(module, (list, tuple)) else module).state_dict()


def _called_with(state: Any, like: Any, X: Any) -> Any:
    like.load_state_dict(state)
    return called(like, X)


FILES = {
    "torch": Files(
        lambda module, path: torch.save(_state(module), path),
        lambda path, like, X: _called_with(torch.load(path, weights_only=True), like, X),
        _one_activation,
    ),
    "safetensors": Files(
        lambda module, path: safetensors.torch.save_file(_state(module), path),
        lambda path, like, X: _called_with(safetensors.torch.load_file(path), like, X),
        _one_activation,
    ),
}

HINTS = Hints(activation="tanh")


class Evil:
    """Its pickle would make a folder."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def _endless(path: Path) -> None:
    """Arrays of any size on no memory."""
    one = torch.zeros(1)
    state = {"weight_ih_l0": one.expand(4 * 10**6, 10**6), "weight_hh_l0": one.expand(4 * 10**6, 10**6)}
    torch.save(state, path)


REFUSED = [
    ("module.pt", lambda path: torch.save(nn.GRU(2, 3), path), "more than arrays, torch.*GRU, .*state_dict"),
    ("evil.pt", lambda path: torch.save({"a": Evil()}, path), "holds more than arrays"),
    ("endless.pt", _endless, "more than the file"),
    ("other.pt", lambda path: torch.save(nn.Linear(2, 3).state_dict(), path), "no recurrent layer is in it"),
    ("half.pt", lambda path: torch.save(nn.GRU(2, 3).half().state_dict(), path), "of type float16"),
    ("text.pt", lambda path: path.write_text("no file of torch"), "is damaged, or no file of torch.save"),
    ("old.pt", lambda path: torch.save({"a": Evil()}, path, _use_new_zipfile_serialization=False),
     "holds more than arrays"),
]  # fmt: skip
