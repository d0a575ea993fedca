"""What `d2lrnn.ports` finds of ONNX."""

from __future__ import annotations

from d2lrnn_onnx.port_files import OnnxFiles
from d2lrnn_onnx.porter import OnnxPorter


class OnnxRuntime:
    """See `d2lrnn.ports.formats.protocol.FilesBackend`."""

    name = "onnx"

    def porter(self) -> OnnxPorter:
        """See `d2lrnn.ports.porter.PortingBackend`."""
        return OnnxPorter()

    def port_files(self) -> OnnxFiles:
        """See `d2lrnn.ports.formats.protocol.FilesBackend`."""
        return OnnxFiles()
