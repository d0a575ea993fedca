"""The canonical parameters (`d2lrnn.contract.parameters`) and flax's trees of them.

=============  ==========================================================================================
canonical      flax
=============  ==========================================================================================
``rnn.{l}.…``  scratch: ``rnn``, where stacked ``rnn/rnns_{l}``, with ``W_xh``, ``W_hh``, ``b_h``, ``b_hn``:
               canonical arrays as they are. Concise: ``rnn/cells_{l}``, one kernel for each gate:

               - `nn.SimpleCell`: ``i`` (kernel, bias), ``h`` (kernel)
               - `nn.GRUCell`: ``ir iz in`` (kernel, bias), ``hr hz`` (kernel), ``hn`` (kernel, bias = b_hn)
               - `nn.OptimizedLSTMCell`: ``ii if ig io`` (kernel), ``hi hf hg ho`` (kernel, bias)
``head.…``     `RNNLMScratch`: ``W_hq``, ``b_q``; `RNNLM`: ``linear`` (kernel, bias)
=============  ==========================================================================================

No cell has a second bias that another one repeats, so a gradient's tree converts as the parameters' does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray

#: Canonical name to scratch name, in canonical order.
_SCRATCH = {"w_x": "W_xh", "w_h": "W_hh", "b": "b_h", "b_hn": "b_hn"}


def simple_cell_weights(cell: Mapping[str, Any]) -> tuple[jax.Array, ...]:
    """The canonical w_x, w_h and b of an `nn.SimpleCell`'s parameters."""
    return cell["i"]["kernel"], cell["h"]["kernel"], cell["i"]["bias"]


def gru_cell_weights(cell: Mapping[str, Any]) -> tuple[jax.Array, ...]:
    """The canonical w_x, w_h, b and b_hn of an `nn.GRUCell`'s parameters."""
    return (
        _beside(cell[f"i{gate}"]["kernel"] for gate in "rzn"),
        _beside(cell[f"h{gate}"]["kernel"] for gate in "rzn"),
        _beside(cell[f"i{gate}"]["bias"] for gate in "rzn"),
        cell["hn"]["bias"],
    )


def lstm_cell_weights(cell: Mapping[str, Any]) -> tuple[jax.Array, ...]:
    """The canonical w_x, w_h and b of an `nn.OptimizedLSTMCell`'s parameters."""
    return (
        _beside(cell[f"i{gate}"]["kernel"] for gate in "ifgo"),
        _beside(cell[f"h{gate}"]["kernel"] for gate in "ifgo"),
        _beside(cell[f"h{gate}"]["bias"] for gate in "ifgo"),
    )


def _beside(parts: Any) -> jax.Array:
    return jnp.concatenate(list(parts), axis=-1)


_CELL_WEIGHTS = {"rnn": simple_cell_weights, "gru": gru_cell_weights, "lstm": lstm_cell_weights}


def to_canonical(spec: ModelSpec, params: Mapping[str, Any]) -> dict[str, FloatArray]:
    """A flax tree of parameters or of gradients as NumPy copies by canonical name, in canonical order."""
    values: dict[str, FloatArray] = {}
    for l in range(spec.num_layers):
        for name, value in _layer_to_canonical(spec, params["rnn"], l).items():
            values[f"rnn.{l}.{name}"] = np.array(value, order="C")
    head = params.get("linear", params)
    values["head.w"] = np.array(head["kernel" if "linear" in params else "W_hq"], order="C")
    values["head.b"] = np.array(head["bias" if "linear" in params else "b_q"], order="C")
    return values


def cell_to_canonical(spec: ModelSpec, cell: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The canonical w_x, w_h, b and, of a GRU, b_hn of a flax cell's parameters."""
    return dict(zip(_SCRATCH, _CELL_WEIGHTS[spec.cell](cell), strict=False))


def _layer_to_canonical(spec: ModelSpec, rnn: Mapping[str, Any], l: int) -> dict[str, jax.Array]:
    if spec.implementation == "concise":
        return cell_to_canonical(spec, rnn[f"cells_{l}"])
    layer = rnn.get(f"rnns_{l}", rnn)
    return {name: layer[own] for name, own in _SCRATCH.items() if own in layer}


def from_canonical(
    spec: ModelSpec, parameters: Mapping[str, FloatArray], *, linear_head: bool, stacked: bool
) -> dict[str, Any]:
    """Canonical parameters, checked already, as a flax tree of JAX arrays: copies.

    Args:
        spec: the model.
        parameters: by canonical name.
        linear_head: whether the output layer is an `nn.Dense`.
        stacked: whether layers from scratch are inside a `StackedRNNScratch`.
    """
    layers = []
    for l in range(spec.num_layers):
        prefix = f"rnn.{l}."
        layers.append({n[len(prefix) :]: v for n, v in parameters.items() if n.startswith(prefix)})
    rnn: dict[str, Any]
    if spec.implementation == "concise":
        rnn = {f"cells_{l}": cell_from_canonical(spec, layer) for l, layer in enumerate(layers)}
    else:
        named = [{_SCRATCH[name]: value for name, value in layer.items()} for layer in layers]
        rnn = {f"rnns_{l}": layer for l, layer in enumerate(named)} if stacked else named[0]
    w, b = parameters["head.w"], parameters["head.b"]
    head = {"linear": {"kernel": w, "bias": b}} if linear_head else {"W_hq": w, "b_q": b}
    # array, not asarray: on a CPU that could share the caller's memory.
    return jax.tree.map(jnp.array, {"rnn": rnn, **head})


def cell_from_canonical(spec: ModelSpec, layer: Mapping[str, Any]) -> dict[str, Any]:
    """A flax cell's parameters from one layer's canonical ones; the inverse of `cell_to_canonical`."""
    if spec.cell == "rnn":
        return {"i": {"kernel": layer["w_x"], "bias": layer["b"]}, "h": {"kernel": layer["w_h"]}}
    gates, biased = ("rzn", "i") if spec.cell == "gru" else ("ifgo", "h")
    w_x, w_h, b = (np.split(layer[name], len(gates), axis=-1) for name in ("w_x", "w_h", "b"))
    cell: dict[str, Any] = {}
    for k, gate in enumerate(gates):
        cell[f"i{gate}"] = {"kernel": w_x[k]}
        cell[f"h{gate}"] = {"kernel": w_h[k]}
        cell[biased + gate]["bias"] = b[k]
    if spec.cell == "gru":
        cell["hn"]["bias"] = layer["b_hn"]
    return cell
