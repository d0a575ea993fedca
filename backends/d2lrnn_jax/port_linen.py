"""Modules of flax.linen for `d2lrnn.ports`: bound to their variables, or pairs of a module and these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
from flax import linen
from flax.core import meta, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from d2lrnn.contract.values import DType, IntArray
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention
from d2lrnn.ports.description import LayerSpec, StackSpec
from d2lrnn_jax.port_layers import KEY, cell_options, class_of, layer_of

#: A module that is not bound, and its variables.
Pair: TypeAlias = tuple[linen.Module, Mapping[str, Any]]

KIND = linen


def is_linen(module: Any) -> bool:
    """Whether it is a module of linen, or a pair of one and what may be its variables."""
    return isinstance(module, linen.Module) or (
        isinstance(module, (tuple, list))
        and len(module) == 2
        and isinstance(module[0], linen.Module)
        and isinstance(module[1], Mapping)
    )


def bound(module: Any) -> list[Any]:
    """The layers of a module or a pair, each bound to its parameters.

    Raises:
        PortError: it comes without parameters.
    """
    if isinstance(module, linen.Module):
        if module.scope is None:
            raise PortError(
                f"a {type(module).__name__} of flax.linen has its parameters beside it: give the pair "
                "(module, variables), as module.init returns variables, or module.bind(variables)"
            )
        whole = module
    else:
        own, variables = module
        if set(variables) != {"params"} or not isinstance(variables["params"], Mapping):
            raise PortError(
                "the variables of a recurrent module of flax.linen are {'params': …}, as module.init returns "
                f"them, and here are {', '.join(map(str, variables)) or 'none'}"
            )
        whole = own.bind(unfreeze(variables))
    return list(whole.layers) if type(whole) is linen.Sequential else [whole]


def arrays_of(cell: Any) -> dict[str, Any]:
    """The parameters of a bound cell, as ``ir/kernel``."""
    tree = meta.unbox(unfreeze(cell.variables)).get("params", {})
    return flatten_dict(tree, sep="/")


def carry_of(cell: Any, shape: tuple[int, ...]) -> Any:
    """The initial state that a cell makes for inputs of a shape."""
    return cell.initialize_carry(jax.random.key(KEY), shape)


def hidden_size(cell: Any) -> int:
    """The number of its units."""
    return int(cell.features)


def types_of(cell: Any) -> list[Any]:
    """What its attributes say of types; None leaves it to the parameters."""
    return [cell.param_dtype, cell.dtype]


def build(spec: StackSpec, rows: Sequence[Convention], arrays: Sequence[Mapping[str, Any]]) -> Any:
    """A module bound to arrays of every direction of every layer; several layers are a `linen.Sequential`."""
    left = iter(arrays)
    if spec.form == "cell":
        module, tree = _cell(spec.layers[0], rows[0], spec.dtype), unflatten_dict(next(left), sep="/")
        return module.bind({"params": tree})
    layers, trees = [], []
    for layer, row in zip(spec.layers, rows, strict=True):
        cells = [_cell(layer, row, spec.dtype) for _ in layer.directions]
        layers.append(layer_of(cells, layer, KIND, spec.batch_first))
        own = [{"cell": unflatten_dict(next(left), sep="/")} for _ in cells]
        trees.append(own[0] if len(own) == 1 else {"forward_rnn": own[0], "backward_rnn": own[1]})
    if len(layers) == 1:
        return layers[0].bind({"params": trees[0]})
    params = {f"layers_{l}": tree for l, tree in enumerate(trees)}
    return linen.Sequential(layers).bind({"params": params})


def _cell(layer: LayerSpec, row: Convention, dtype: DType) -> Any:
    return class_of(row, KIND)(layer.hidden_size, **cell_options(layer, row, dtype))


def doubled(layer: Any) -> Any:
    """A bound layer or cell in float64, with the same numbers."""
    module, variables = layer.unbind()
    return _doubled(module).bind(jax.tree.map(lambda array: array.astype("float64"), variables))


def _doubled(module: Any) -> Any:
    if type(module) is linen.RNN:
        return module.clone(cell=_doubled(module.cell))
    if type(module) is linen.Bidirectional:
        both = {name: _doubled(getattr(module, name)) for name in ("forward_rnn", "backward_rnn")}
        return module.clone(**both)
    return module.clone(param_dtype="float64", dtype=None if module.dtype is None else "float64")


def call(layers: Sequence[Any], X: jax.Array, carries: Sequence[Any], lengths: IntArray | None) -> Any:
    """The outputs and the carries of bound layers, one behind the other."""
    pairs = [layer.unbind() for layer in layers]
    modules, variables = tuple(module for module, _ in pairs), [own for _, own in pairs]
    return _call(modules, variables, X, carries, lengths)


# Compiled once for all that is proved of a module: called as they are, layers are compiled at every call.
@partial(jax.jit, static_argnums=0)
def _call(modules: tuple[Any, ...], variables: Any, X: Any, carries: Any, lengths: Any) -> Any:
    after = []
    for module, own, carry in zip(modules, variables, carries, strict=True):
        if isinstance(module, linen.RNNCellBase):
            carry, X = module.apply(own, carry, X)
        else:
            options = {"initial_carry": carry, "seq_lengths": lengths, "return_carry": True}
            carry, X = module.apply(own, X, **options)
        after.append(carry)
    return X, after
