"""The canonical parameters (`d2lrnn.contract.parameters`) and flax's trees of them.

===============  ========================================================================================
canonical        flax
===============  ========================================================================================
``embedding.w``  `RNNLMScratch`: ``W_e``; `RNNLM`: ``embedding`` (embedding)
``rnn.{l}.…``    scratch: ``rnn``, where stacked ``rnn/rnns_{l}``, with ``W_xh``, ``W_hh``, ``b_h``, and
                 what else the cell has by its own name: canonical arrays as they are. Concise:
                 ``rnn/cells_{l}``, one kernel for each gate, named as in ``conventions.toml``
``head.…``       `RNNLMScratch`: ``W_hq``, ``b_q``; `RNNLM`: ``linear`` (kernel, bias), tied ``bias`` alone
===============  ========================================================================================

No cell has a redundant second bias, so the trees of gradients and of an optimiser's slots convert as the
parameters' do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import numpy as jnp

from d2lrnn.contract.cells import Cell, find_cell
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn.ports.conventions import conventions
from d2lrnn_jax.layer import BOOK_NAMES


def cell_weights(cell: Cell, tree: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The canonical parameters of one layer from those of flax's cell.

    Raises:
        KeyError: the tree lacks one.
    """
    own = flatten_dict(tree, sep="/")
    return {name: _beside([own[place] for place in places]) for name, places in _places(cell).items()}


def cell_tree(cell: Cell, weights: Mapping[str, FloatArray]) -> dict[str, Any]:
    """The parameters of flax's cell from the canonical ones of a layer; the inverse of `cell_weights`."""
    parts = [
        (place, part)
        for name, places in _places(cell).items()
        for place, part in zip(places, np.split(weights[name], len(places), axis=-1), strict=True)
    ]
    tree: dict[str, Any] = unflatten_dict(dict(parts), sep="/")
    return tree


def _places(cell: Cell) -> dict[str, tuple[str, ...]]:
    """The names of a cell's arrays in flax.linen, by the canonical ones: one for each gate, in its order."""
    row = next(row for row in conventions("jax") if row.form == "cell" and row.gates == cell.gates)
    return row.places()


def _beside(parts: list[jax.Array]) -> jax.Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def to_canonical(spec: ModelSpec, params: Mapping[str, Any]) -> dict[str, FloatArray]:
    """A flax tree of parameters or of gradients as NumPy copies by canonical name, in canonical order."""
    values: dict[str, Any] = {}
    if spec.embedding_size is not None:
        values["embedding.w"] = params["embedding"]["embedding"] if "embedding" in params else params["W_e"]
    for l in range(spec.num_layers):
        layer = _layer_weights(spec, params["rnn"], l)
        values |= {f"rnn.{l}.{name}": value for name, value in layer.items()}
    head = params.get("linear", params)
    if not spec.tied:
        values["head.w"] = head["kernel"] if "kernel" in head else head["W_hq"]
    values["head.b"] = head["bias"] if "bias" in head else head["b_q"]
    return {name: np.array(value, order="C") for name, value in values.items()}


def _layer_weights(spec: ModelSpec, rnn: Mapping[str, Any], l: int) -> Mapping[str, jax.Array]:
    cell = find_cell(spec.cell)
    if spec.implementation == "concise":
        return cell_weights(cell, rnn[f"cells_{l}"])
    layer = rnn.get(f"rnns_{l}", rnn)
    return {
        name: layer[BOOK_NAMES.get(name, name)] for name in cell.shapes(1, 1, reset_after=spec.reset_after)
    }


def from_canonical(
    spec: ModelSpec, parameters: Mapping[str, FloatArray], *, flax_head: bool, stacked: bool
) -> dict[str, Any]:
    """Canonical parameters, checked already, as a flax tree of JAX arrays: copies.

    Args:
        spec: the model.
        parameters: by canonical name.
        flax_head: whether embedding and output layer are flax's own, as in `RNNLM`.
        stacked: whether layers from scratch are inside a `StackedRNNScratch`.
    """
    layers = [layer_parameters(parameters, l) for l in range(spec.num_layers)]
    rnn: dict[str, Any]
    if spec.implementation == "concise":
        cell = find_cell(spec.cell)
        rnn = {f"cells_{l}": cell_tree(cell, layer) for l, layer in enumerate(layers)}
    else:
        named = [{BOOK_NAMES.get(name, name): value for name, value in layer.items()} for layer in layers]
        rnn = {f"rnns_{l}": layer for l, layer in enumerate(named)} if stacked else named[0]
    tree: dict[str, Any] = {"rnn": rnn}
    if spec.embedding_size is not None:
        table = parameters["embedding.w"]
        tree |= {"embedding": {"embedding": table}} if flax_head else {"W_e": table}
    b = parameters["head.b"]
    if spec.tied:
        tree["bias" if flax_head else "b_q"] = b
    else:
        w = parameters["head.w"]
        tree |= {"linear": {"kernel": w, "bias": b}} if flax_head else {"W_hq": w, "b_q": b}
    # array, not asarray, which on a CPU can share the caller's memory.
    return jax.tree.map(jnp.array, tree)


def layer_parameters(parameters: Mapping[str, FloatArray], l: int) -> dict[str, FloatArray]:
    """The canonical parameters of one layer, without the prefix."""
    prefix = f"rnn.{l}."
    return {name[len(prefix) :]: value for name, value in parameters.items() if name.startswith(prefix)}
