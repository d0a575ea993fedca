"""Files of flax with recurrent layers, for ``d2lrnn convert``: of `flax.serialization` and of orbax.

Both hold a tree of arrays: of linen the variables or the parameters, of nnx the state as a pure dictionary.
Which of the two a file has is told by the names in it, whatever the format that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen, nnx, serialization
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import numpy as jnp

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import PortError
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.shapes import Shaped
from d2lrnn.ports.layout import from_own
from d2lrnn.ports.porter import Described
from d2lrnn_jax import saved_msgpack
from d2lrnn_jax.port_layers import own_arrays
from d2lrnn_jax.porter import FlaxPorter
from d2lrnn_jax.precision import precision
from d2lrnn_jax.saved_msgpack import TreePath
from d2lrnn_jax.saved_stacks import FoundStack, find_stack


class FlaxFiles:
    """The methods are those of `d2lrnn.ports.formats.protocol.PortFiles`."""

    def read(self, path: Path, kind: str, hints: Hints) -> Described:
        """See `d2lrnn.ports.formats.protocol.PortFiles`."""
        if path.is_dir():
            # Imported late: it takes a second.
            from d2lrnn_jax import saved_orbax

            found = find_stack(saved_orbax.leaves(path), hints)
            arrays: Mapping[TreePath, FloatArray] = saved_orbax.arrays(path)
        else:
            content = path.read_bytes()
            leaves = saved_msgpack.leaves(content)
            shapes = {place: Shaped(each.dtype, each.shape) for place, each in leaves.items()}
            found = find_stack(shapes, hints)
            wanted = [place for cell in found.cells for place in cell.paths.values()]
            arrays = {place: leaves[place].read(content) for place in wanted}
        parameters: dict[str, FloatArray] = {}
        for (prefix, layer, _), cell in zip(found.spec.parts(), found.cells, strict=True):
            own = own_arrays(cell.row, {name: arrays[place] for name, place in cell.paths.items()})
            parameters |= {prefix + name: each for name, each in from_own(cell.row, layer, own).items()}
        return Described(found.spec, parameters, found.notes, found.namespace)

    def write(self, path: Path, kind: str, module: Any) -> None:
        """See `d2lrnn.ports.formats.protocol.PortFiles`."""
        linens = isinstance(module, linen.Module)
        tree = module.unbind()[1] if linens else nnx.to_pure_dict(nnx.state(module, nnx.Param))
        if "orbax" in kind:
            from d2lrnn_jax import saved_orbax

            saved_orbax.write(path, tree)
        else:
            path.write_bytes(serialization.to_bytes(tree))

    def load(self, path: Path, kind: str, hints: Hints, module: Any) -> Any:
        """See `d2lrnn.ports.formats.protocol.PortFiles`: ``from_state_dict``, cell by cell.

        The module is built anew, of the cells that the file is of: two can have one description.
        """
        if path.is_dir():
            from d2lrnn_jax import saved_orbax

            arrays = saved_orbax.arrays(path)
        else:
            try:
                tree = serialization.msgpack_restore(path.read_bytes())
            except (TypeError, ValueError) as error:
                raise PortError(f"flax does not read it: {error}") from error
            arrays = {tuple(map(str, place)): each for place, each in flatten_dict(tree).items()}
        shapes = {
            place: Shaped(str(each.dtype), each.shape)
            for place, each in arrays.items()
            if hasattr(each, "dtype")
        }
        found = find_stack(shapes, hints)
        zeros = {
            name: np.zeros(shape, found.spec.dtype) for name, shape in found.spec.parameter_shapes().items()
        }
        built = FlaxPorter().build(found.spec, zeros, found.rows())
        with precision(found.spec.dtype):
            return _loaded(built, found, arrays)


def _loaded(module: Any, found: FoundStack, arrays: Mapping[TreePath, Any]) -> Any:
    """A built module with the cells of a file in the place of its own."""
    linens = isinstance(module, linen.Module)
    whole = module.unbind()[1]["params"] if linens else nnx.to_pure_dict(nnx.state(module, nnx.Param))
    own: dict[tuple[Any, ...], Any] = flatten_dict(whole)
    # A built module has its cells in the order of their layers, forward first, but in that of their names.
    places = sorted({place[:-2] for place in own}, key=lambda place: ("backward_rnn" in place, place))
    places.sort(key=lambda place: _number(place))
    for place, cell in zip(places, found.cells, strict=True):
        target = unflatten_dict({each[-2:]: array for each, array in own.items() if each[:-2] == place})
        saved = unflatten_dict({tuple(name.split("/")): arrays[at] for name, at in cell.paths.items()})
        restored = serialization.from_state_dict(target, saved)
        own |= {(*place, *rest): jnp.asarray(each) for rest, each in flatten_dict(restored).items()}
    tree = unflatten_dict(own)
    if linens:
        return module.unbind()[0].bind({"params": tree})
    state = nnx.state(module, nnx.Param)
    nnx.replace_by_pure_dict(state, tree)
    nnx.update(module, state)
    return module


def _number(place: tuple[Any, ...]) -> int:
    """The number of the layer that a place in a built module is in."""
    for part in place:
        if isinstance(part, int):
            return part
        if part.startswith("layers_"):
            return int(part.removeprefix("layers_"))
    return 0
