"""Gluon's ``.params`` files with recurrent layers, for ``d2lrnn convert``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mxnet as mx

from d2lrnn.errors import PortError
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.shapes import Shaped
from d2lrnn.ports.formats.stacks import Found, described, find_stack
from d2lrnn.ports.porter import Described
from d2lrnn_mxnet.params_file import Entry, read_array, read_entries
from d2lrnn_mxnet.params_names import one_name_each, plain_prefix
from d2lrnn_mxnet.porter import GluonPorter
from d2lrnn_mxnet.porter_parts import LAYERS, numpy_arrays, pieces, places
from d2lrnn_mxnet.semantics import semantics

#: More layers in one module have no names: Gluon looks for one digit.
_MOST_LAYERS = 10


class GluonFiles:
    """The methods are those of `d2lrnn.ports.formats.protocol.PortFiles`."""

    def read(self, path: Path, kind: str, hints: Hints) -> Described:
        """See `d2lrnn.ports.formats.protocol.PortFiles`. MXNet itself does not read the file here."""
        found, entries = _stack(path, hints)
        arrays = {name: read_array(path, entries[name]) for name in found.places.values()}
        return described(found, arrays, "mxnet")

    def write(self, path: Path, kind: str, module: Any) -> None:
        """See `d2lrnn.ports.formats.protocol.PortFiles`: ``save_parameters``."""
        spec = GluonPorter().describe(module).spec
        for layer in spec.layers:
            own = layer.activation == spec.layers[0].activation or layer.is_gated
            tanh = layer.activation == "tanh" or not layer.is_gated or spec.form == "cell"
            if not own or not tanh or layer.gate_activation not in (None, "sigmoid"):
                raise PortError(
                    f"a .params file does not say that a layer has the activation {layer.activation}, and "
                    f"{layer.gate_activation or 'none'} of its gates: port it in Python, by d2lrnn.port"
                )
        layers = spec.layers
        if type(module) in LAYERS and len(layers) > _MOST_LAYERS:
            raise PortError(
                f"Gluon saves {_MOST_LAYERS} layers in one at most, and here are {len(layers)}. Nearest are "
                "two, one behind the other: port them in Python"
            )
        with semantics(numpy=numpy_arrays(module)):
            module.save_parameters(str(path))

    def load(self, path: Path, kind: str, hints: Hints, module: Any) -> Any:
        """See `d2lrnn.ports.formats.protocol.PortFiles`: ``load_parameters`` of a file of such a module.

        Of other files MXNet reads the arrays, and those of the stack are put into the module by their names.
        """
        found, entries = _stack(path, hints)
        numpy, saved = numpy_arrays(module), any(each.numpy for each in entries.values())
        if set(module._collect_params_with_prefix()) == set(entries):
            with semantics(numpy=numpy), mx.util.np_shape(numpy or saved):
                module.load_parameters(str(path))
            return module
        with semantics(numpy=False), mx.util.np_shape(saved):
            arrays = mx.nd.load(str(path))
        holders = [holder for piece in pieces(module) for place in places(piece) for holder in place.holders]
        for (prefix, layer, _), holder in zip(found.spec.parts(), holders, strict=True):
            for name in layer.shapes():
                array = arrays[found.places[prefix + name]]
                holder.parameter(name).set_data(array.as_np_ndarray() if numpy else array)
        return module


def _stack(path: Path, hints: Hints) -> tuple[Found, dict[str, Entry]]:
    entries = read_entries(path)
    names, notes = one_name_each({name: each.shape for name, each in entries.items()})
    if hints.prefix is not None:
        hints = replace(hints, prefix=plain_prefix(hints.prefix))
    shapes = {one: Shaped(entries[name].dtype, entries[name].shape) for one, name in names.items()}
    found = find_stack(shapes, "mxnet", hints)
    own = {canonical: names[one] for canonical, one in found.places.items()}
    return found._replace(places=own, notes=(*found.notes, *notes)), entries
