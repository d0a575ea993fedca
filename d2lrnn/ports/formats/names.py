"""What a framework's layers call their arrays: the part ``[names]`` of its table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from d2lrnn.errors import RunError
from d2lrnn.ports.conventions import read_table, table_error
from d2lrnn.ports.description import StackSpec, prefix_of
from d2lrnn.ports.fitting import alike
from d2lrnn.saving.json_fields import decode


@dataclass(frozen=True)
class Names:
    """What a framework's layers call their arrays.

    Attributes:
        w_x: and the others: the names of the arrays, by the canonical ones of `d2lrnn.ports.description`.
        layer: what follows the name in a layer, ``{l}`` its number; nothing follows it in a cell.
        backward: what follows that in the direction backward.
    """

    w_x: str
    w_h: str
    b: str
    b_h: str
    w_p: str
    layer: str
    backward: str

    def of_module(self, spec: StackSpec) -> dict[str, str]:
        """What the arrays of one module are called, by the canonical names.

        Layers that differ are modules of their own, whose numbers stand before the names.
        """
        found, together = {}, alike(spec.layers)
        for l, layer in enumerate(spec.layers):
            start = "" if together else f"{l}."
            end = "" if spec.form == "cell" else self.layer.format(l=l if together else 0)
            for direction in layer.directions:
                back = self.backward if direction == "backward" else ""
                for name in layer.shapes():
                    found[prefix_of(l, direction) + name] = f"{start}{getattr(self, name)}{end}{back}"
        return found


@cache
def names_of(backend: str) -> Names:
    """The names of a backend's framework.

    Raises:
        PortError: its table has none.
    """
    path, document = read_table(backend)
    try:
        return decode(Names, document.get("names"), "names")
    except RunError as error:
        raise table_error(path, error) from error
