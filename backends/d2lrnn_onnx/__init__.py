"""ONNX for ports: its recurrent nodes, which ONNX Runtime runs. It trains nothing, so it is no backend."""
