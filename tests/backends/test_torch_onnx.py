"""What `torch.onnx` writes of recurrent layers is read, and what is written runs as torch computes."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.errors import PortError
from d2lrnn.ports.formats.conversion import read
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.table import find_format

ONNX = find_format("onnx")


class Model(nn.Module):
    """A whole model around the layers."""

    def __init__(self, rnn: Any) -> None:
        super().__init__()
        self.embedding, self.rnn, self.head = nn.Embedding(7, 3), rnn, nn.Linear(8, 7)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.rnn(self.embedding(tokens))[0])


def _exported(module: Any, example: Any, path: Path, *, dynamo: bool) -> None:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module.eval(), (example,), path, dynamo=dynamo, verbose=False)
    finally:
        logging.disable(before)


@pytest.mark.parametrize(
    ("kind", "dynamo"), [(nn.RNN, False), (nn.GRU, False), (nn.LSTM, False), (nn.GRU, True), (nn.LSTM, True)]
)
def test_what_torch_exports_is_read(kind: Any, dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = kind(3, 4, num_layers=2, bidirectional=True)
    path = tmp_path / "file.onnx"
    _exported(layers, torch.zeros(5, 2, 3), path, dynamo=dynamo)
    found = read(path, ONNX, Hints())
    expected = d2lrnn.port(layers)
    assert found.spec == expected.spec
    assert found.notes == ()
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)


def test_steps_that_are_written_out_are_no_layer(tmp_path: Path) -> None:
    """As the newer exporter writes an RNN."""
    path = tmp_path / "file.onnx"
    _exported(nn.RNN(3, 4), torch.zeros(5, 2, 3), path, dynamo=True)
    with pytest.raises(PortError, match="steps that are written out are none"):
        read(path, ONNX, Hints())


def test_the_layers_of_a_whole_model_are_taken_and_the_rest_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.LSTM(3, 4, bidirectional=True, batch_first=True)
    path = tmp_path / "file.onnx"
    _exported(Model(layers), torch.zeros(2, 5, dtype=torch.int64), path, dynamo=False)
    found = read(path, ONNX, Hints())
    expected = d2lrnn.port(layers)
    assert found.spec == expected.spec
    assert found.notes == ("the model's other operators are left out: Gather, MatMul, Add",)
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers, path = nn.GRU(3, 40), tmp_path / "file.onnx"
    made = d2lrnn.port(layers, to="onnx").module
    onnx.save(made, path, save_as_external_data=True, location="weights.data", size_threshold=16)
    assert (tmp_path / "weights.data").stat().st_size > 4 * 40 * 40 * 3
    found = read(path, ONNX, Hints())
    for name, array in d2lrnn.port(layers).parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_converted_state_dict_runs_by_onnx_runtime(batch_first: bool, tmp_path: Path) -> None:
    """The file itself, as a user runs it, with states: against PyTorch."""
    torch.manual_seed(0)
    layers = nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
    torch.save(layers.state_dict(), tmp_path / "file.pt")
    option = ["--batch-first"] if batch_first else []
    assert main(["convert", str(tmp_path / "file.pt"), "--to", "onnx", *option]) == 0
    onnx.checker.check_model(tmp_path / "file.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "file.onnx", providers=["CPUExecutionProvider"])
    X, h, c = torch.randn(5, 2, 3), torch.randn(4, 2, 4), torch.randn(4, 2, 4)
    with torch.no_grad():
        outputs, (h_n, c_n) = layers(X.transpose(0, 1) if batch_first else X, (h, c))
    given = X.transpose(0, 1) if batch_first else X
    feeds = {"input": given.numpy(), "h.0": h[:2].numpy(), "c.0": c[:2].numpy()}
    feeds |= {"h.1": h[2:].numpy(), "c.1": c[2:].numpy()}
    names = [each.name for each in session.get_outputs()]
    found = dict(zip(names, session.run(names, feeds), strict=True))
    np.testing.assert_allclose(found["output"], outputs.numpy(), atol=1e-6)
    np.testing.assert_allclose(found["next_h.1"], h_n[2:].numpy(), atol=1e-6)
    np.testing.assert_allclose(found["next_c.0"], c_n[:2].numpy(), atol=1e-6)


def test_what_it_cannot_hold_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(nn.LSTM(3, 4, proj_size=2).state_dict(), tmp_path / "p.pt")
    torch.save(nn.GRU(3, 4).double().state_dict(), tmp_path / "d.pt")
    for name, message in (("p", "onnx's LSTM cannot hold this: it has no projection"), ("d", "in float32")):
        assert main(["convert", str(tmp_path / f"{name}.pt"), "--to", "onnx"]) == 2
        assert message in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["d.pt", "p.pt"]
