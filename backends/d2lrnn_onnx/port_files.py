"""ONNX models with recurrent nodes, for ``d2lrnn convert``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from d2lrnn.errors import PortError
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.porter import Described
from d2lrnn_onnx.arrays import read_beside
from d2lrnn_onnx.graph import BETWEEN, RECURRENT
from d2lrnn_onnx.porter import chosen, describe, with_chain

#: What protobuf can hold; larger models keep their weights beside.
_MOST_BYTES = 2**31


class OnnxFiles:
    """The methods are those of `d2lrnn.ports.formats.protocol.PortFiles`."""

    def read(self, path: Path, kind: str, hints: Hints) -> Described:
        """See `d2lrnn.ports.formats.protocol.PortFiles`. A prefix is the name of a stack's first node."""
        found = describe(*chosen(_model(path), hints.prefix or None))
        if hints.batch_first is None:
            return found
        return found._replace(spec=replace(found.spec, batch_first=hints.batch_first))

    def write(self, path: Path, kind: str, module: ModelProto) -> None:
        """See `d2lrnn.ports.formats.protocol.PortFiles`."""
        if module.ByteSize() >= _MOST_BYTES:
            raise PortError(f"onnx cannot hold this: a model has less than {_MOST_BYTES:,} bytes in one file")
        onnx.checker.check_model(module, full_check=True)
        path.write_bytes(module.SerializeToString())

    def load(self, path: Path, kind: str, hints: Hints, module: ModelProto) -> ModelProto:
        """See `d2lrnn.ports.formats.protocol.PortFiles`. The nodes and weights in the file, untouched."""
        found = self.read(path, kind, hints)
        return with_chain(_model(path), hints.prefix or None, found.spec)


def _model(path: Path) -> ModelProto:
    """A model, with what it keeps in files beside it."""
    if path.stat().st_size > _MOST_BYTES:
        raise PortError(f"it has {path.stat().st_size:,} bytes, which no ONNX model has")
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise PortError(f"it is damaged, or no ONNX model: {error}") from error
    if not model.HasField("graph"):
        raise PortError("it is no ONNX model: it has no graph")
    needed = _needed(model)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL and tensor.name in needed:
            read_beside(tensor, path.parent)
    return model


def _needed(model: ModelProto) -> set[str]:
    """The names of all that recurrent nodes, and what may stand between two, are given."""
    return {
        name for node in model.graph.node if node.op_type in (*RECURRENT, *BETWEEN) for name in node.input
    }
