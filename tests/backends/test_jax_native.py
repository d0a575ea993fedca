"""Plain flax.linen cells, brought in and taken out: the same outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import d2lrnn
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import ParameterError

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

from d2lrnn_jax import from_native, to_native  # noqa: E402
from flax import linen as nn  # noqa: E402
from parity.models import drawn_parameters, name_of  # noqa: E402

CELLS = {"rnn": nn.SimpleCell, "gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
SPECS = [ModelSpec(11, cell, "concise", 8, num_layers=layers) for cell in CELLS for layers in (1, 3)]  # type: ignore[arg-type]
X = np.random.default_rng(0).normal(size=(7, 4, 11)).astype(np.float32)


class Stack(nn.Module):
    """What a flax user writes: `nn.RNN` over cells, and an `nn.Dense`."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        for l in range(self.spec.num_layers):
            cell = CELLS[self.spec.cell](8, bias_init=nn.initializers.normal(0.3), name=f"cell_{l}")
            inputs = nn.RNN(cell, time_major=True)(inputs)
        return inputs, nn.Dense(11, name="out")(inputs)


def _native(spec: ModelSpec, params: Any) -> tuple[list[Any], Any]:
    return [params[f"cell_{l}"] for l in range(spec.num_layers)], params["out"]


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_tree_becomes_a_model_anywhere(spec: ModelSpec) -> None:
    stack = Stack(spec)
    params = stack.init(jax.random.key(2), X)["params"]
    hidden, logits = stack.apply({"params": params}, X)
    parameters = from_native(spec, *_native(spec, params))
    for name in ("jax", "numpy"):
        backend = d2lrnn.backend(name)
        mine, _ = backend.run_layers(backend.build(spec, parameters), X)
        np.testing.assert_allclose(mine, hidden, rtol=0, atol=1e-6)
        np.testing.assert_allclose(mine @ parameters["head.w"] + parameters["head.b"], logits, atol=2e-6)


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_model_becomes_a_tree(spec: ModelSpec) -> None:
    parameters = drawn_parameters(spec)
    weights = to_native(spec, parameters)
    params = {f"cell_{l}": cell for l, cell in enumerate(weights.cells)} | {"out": weights.head}
    hidden, _ = Stack(spec).apply({"params": params}, X)
    backend = d2lrnn.backend("numpy")
    expected, _ = backend.run_layers(backend.build(spec, parameters), X)
    np.testing.assert_allclose(hidden, expected, rtol=0, atol=1e-6)
    back = from_native(spec, weights.cells, weights.head)
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)


def test_what_does_not_fit_is_named() -> None:
    spec = ModelSpec(11, "gru", "concise", 8)
    (cell,), head = _native(spec, Stack(spec).init(jax.random.key(2), X)["params"])
    lacking = {name: part for name, part in cell.items() if name != "hn"}
    for cells, message in (
        ([], "there are 0 cells"),
        ([lacking], "the cell of layer 0 lacks hn"),
        ([{**cell, "extra": cell["hn"]}], "has other arrays than a gru cell of flax"),
        ([{**cell, "hn": {k: v[..., :3] for k, v in cell["hn"].items()}}], "has shape"),
    ):
        with pytest.raises(ParameterError, match=message):
            from_native(spec, cells, head)
    with pytest.raises(ParameterError, match="the output layer lacks kernel"):
        from_native(spec, [cell], {})
    book = ModelSpec(11, "gru", "scratch", 8)
    with pytest.raises(ParameterError, match="none of flax's layers"):
        to_native(book, drawn_parameters(book))
