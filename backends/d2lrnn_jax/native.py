"""The parameter trees of flax.linen's recurrent cells and `Dense`, and the canonical parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from d2lrnn.contract.parameters import check_parameters, check_reset, parameter_shapes
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import ParameterError
from d2lrnn_jax.parameters import cell_from_canonical, cell_to_canonical
from d2lrnn_jax.precision import precision


class NativeWeights(NamedTuple):
    """Trees of parameters: of every recurrent cell, and of the output layer (`nn.Dense`)."""

    cells: list[dict[str, Any]]
    head: dict[str, Any]


def to_native(spec: ModelSpec, parameters: Parameters) -> NativeWeights:
    """The parameters as plain flax keeps them.

    Args:
        spec: the model; a GRU that resets before the product is none of flax's.
        parameters: by canonical name.

    Raises:
        ParameterError: they do not fit `spec`, or flax has no such cell.

    Example:
        >>> weights = to_native(spec, learner.export_parameters())  # doctest: +SKIP
        >>> nn.GRUCell(spec.num_hiddens).apply({"params": weights.cells[0]}, carry, inputs)  # doctest: +SKIP
    """
    check_reset(spec, "flax")
    values = check_parameters(spec, parameters)
    cells = []
    for l in range(spec.num_layers):
        prefix = f"rnn.{l}."
        layer = {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}
        cells.append(cell_from_canonical(spec, layer))
    head = {"kernel": values["head.w"], "bias": values["head.b"]}
    with precision(spec.dtype):
        # array, not asarray: on a CPU that could share the caller's memory.
        return NativeWeights(*jax.tree.map(jnp.array, (cells, head)))


def from_native(
    spec: ModelSpec, cells: Sequence[Mapping[str, Any]], head: Mapping[str, Any]
) -> dict[str, FloatArray]:
    """The canonical parameters of plain flax.linen cells and an `nn.Dense`. None of them has a second bias.

    Args:
        spec: the model that they are: its sizes and its cell.
        cells: the tree of every recurrent cell, the first layer's first (for `nn.RNN`, what stands under the
            cell's name).
        head: the tree of the output layer.

    Raises:
        ParameterError: an array is missing, too many, or of another shape.

    Example:
        >>> cell = nn.OptimizedLSTMCell(32)  # doctest: +SKIP
        >>> spec, params = ModelSpec(28, "lstm", "concise", 32), variables["params"]  # doctest: +SKIP
        >>> parameters = from_native(spec, [params["cell"]], params["Dense_0"])  # doctest: +SKIP
    """
    check_reset(spec, "flax")
    if len(cells) != spec.num_layers:
        raise ParameterError(f"there are {len(cells)} cells: {spec} has {spec.num_layers} layers")
    values: dict[str, FloatArray] = {}
    one = {
        name[6:]: np.zeros(shape) for name, shape in parameter_shapes(spec).items() if name[:6] == "rnn.0."
    }
    structure = jax.tree.structure(cell_from_canonical(spec, one))
    with precision(spec.dtype):
        for l, cell in enumerate(cells):
            try:
                layer = cell_to_canonical(spec, cell)
            except KeyError as error:
                raise ParameterError(f"the cell of layer {l} lacks {error.args[0]}") from error
            if jax.tree.structure(dict(cell)) != structure:
                raise ParameterError(
                    f"the cell of layer {l} has other arrays than a {spec.cell} cell of flax"
                )
            values |= {f"rnn.{l}.{name}": np.array(value, order="C") for name, value in layer.items()}
    if "kernel" not in head:
        raise ParameterError("the output layer lacks kernel")
    values["head.w"] = np.array(head["kernel"])
    values["head.b"] = np.array(head.get("bias", np.zeros(spec.vocab_size, values["head.w"].dtype)))
    return check_parameters(spec, values)
