"""The parameter trees of flax.linen's recurrent cells, `Dense` and `Embed`, and the canonical parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from d2lrnn.contract.cells import Cell, find_cell
from d2lrnn.contract.parameters import check_parameters, check_reset
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import ParameterError
from d2lrnn_jax.parameters import cell_tree, cell_weights, layer_parameters
from d2lrnn_jax.precision import precision


class NativeWeights(NamedTuple):
    """Parameter trees of plain flax modules.

    Attributes:
        cells: of every recurrent cell.
        head: of the output layer (`nn.Dense`); of a tied one the kernel is the embedding, transposed.
        embedding: of `nn.Embed`; None where the model takes one-hot vectors.
    """

    cells: list[dict[str, Any]]
    head: dict[str, Any]
    embedding: dict[str, Any] | None = None


def to_native(spec: ModelSpec, parameters: Parameters) -> NativeWeights:
    """The parameters as the trees of plain flax modules.

    Args:
        spec: the model; flax has no GRU that resets before the matrix product.
        parameters: by canonical name.

    Raises:
        ParameterError: they do not fit `spec`, or flax has no such cell.

    Example:
        >>> from flax import linen as nn
        >>> spec = ModelSpec(vocab_size=28, cell="gru", implementation="concise")
        >>> weights = to_native(spec, initial_parameters(spec))
        >>> carry, inputs = jnp.zeros((2, 32)), jnp.ones((2, 28))
        >>> nn.GRUCell(32).apply({"params": weights.cells[0]}, carry, inputs)[1].shape
        (2, 32)
    """
    cell = _flax_cell(spec)
    values = check_parameters(spec, parameters)
    cells = [cell_tree(cell, layer_parameters(values, l)) for l in range(spec.num_layers)]
    table = values.get("embedding.w")
    assert table is not None or not spec.tied
    head = {"kernel": table.T if spec.tied and table is not None else values["head.w"]}
    head["bias"] = values["head.b"]
    embedding = None if table is None else {"embedding": table}
    with precision(spec.dtype):
        # array, not asarray, which on a CPU can share the caller's memory.
        return NativeWeights(*jax.tree.map(jnp.array, (cells, head, embedding)))


def from_native(
    spec: ModelSpec,
    cells: Sequence[Mapping[str, Any]],
    head: Mapping[str, Any],
    embedding: Mapping[str, Any] | None = None,
) -> dict[str, FloatArray]:
    """The canonical parameters of plain flax.linen modules. None of the cells has a second bias.

    Args:
        spec: the model that they are: its sizes and its cell.
        cells: the tree of every recurrent cell, the first layer's first (for `nn.RNN`, the subtree of the
            cell's name).
        head: the tree of the output layer, an `nn.Dense`; where it is tied, its kernel is not read.
        embedding: the tree of the `nn.Embed`, where `spec` has an embedding.

    Raises:
        ParameterError: an array is missing, unexpected, or of another shape.

    Example:
        >>> from flax import linen as nn
        >>> cell, dense = nn.OptimizedLSTMCell(32), nn.Dense(28)
        >>> X, carry = jnp.ones((2, 28)), (jnp.zeros((2, 32)), jnp.zeros((2, 32)))
        >>> params = cell.init(jax.random.key(0), carry, X)["params"]
        >>> head = dense.init(jax.random.key(1), carry[0])["params"]
        >>> spec = ModelSpec(vocab_size=28, cell="lstm", implementation="concise")
        >>> list(from_native(spec, [params], head))
        ['rnn.0.w_x', 'rnn.0.w_h', 'rnn.0.b', 'head.w', 'head.b']
    """
    kind = _flax_cell(spec)
    if len(cells) != spec.num_layers:
        raise ParameterError(f"there are {len(cells)} cells: {spec} has {spec.num_layers} layers")
    values: dict[str, Any] = {}
    zeros = {name: np.zeros(shape) for name, shape in kind.shapes(1, 1, reset_after=True).items()}
    structure = jax.tree.structure(cell_tree(kind, zeros))
    with precision(spec.dtype):
        if spec.embedding_size is not None:
            values["embedding.w"] = _array("the embedding", embedding or {}, "embedding")
        for l, cell in enumerate(cells):
            try:
                layer = cell_weights(kind, cell)
            except KeyError as error:
                raise ParameterError(f"the cell of layer {l} lacks {error.args[0]}") from error
            if jax.tree.structure(dict(cell)) != structure:
                raise ParameterError(
                    f"the cell of layer {l} has other arrays than a {spec.cell} cell of flax"
                )
            values |= {f"rnn.{l}.{name}": np.array(value, order="C") for name, value in layer.items()}
    if not spec.tied:
        values["head.w"] = _array("the output layer", head, "kernel")
    values["head.b"] = np.array(head.get("bias", np.zeros(spec.vocab_size, spec.dtype)))
    return check_parameters(spec, values)


def _flax_cell(spec: ModelSpec) -> Cell:
    """The cell of a model, where flax has it."""
    check_reset(spec, "flax")
    cell = find_cell(spec.cell)
    if not cell.has_layer:
        raise ParameterError(f"flax has no cell for a {cell.title}: the model has no native weights")
    return cell


def _array(owner: str, tree: Mapping[str, Any], name: str) -> FloatArray:
    if name not in tree:
        raise ParameterError(f"{owner} lacks {name}")
    return np.array(tree[name], order="C")
