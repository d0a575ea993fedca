"""A language model as an ONNX file, by `torch.onnx`.

What is exported is the formula of the cell, `ScratchLayer.step`, in a loop of ONNX's own (``Scan``): so the
time axis is free, and every cell is exported, those of other packages too. A concise model is the same
function of the same canonical parameters as one from scratch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.functional import embedding

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import SpecError
from d2lrnn_torch.language_model import RNNLMScratch
from d2lrnn_torch.layer import ScratchLayer


def write_onnx(model: RNNLMScratch, path: Path) -> None:
    """Writes a model from scratch; see `d2lrnn.saving.exporting.Exporter`.

    Raises:
        SpecError: a package is missing that `torch.onnx` needs.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise SpecError(
            f"an export to onnx needs {' and '.join(missing)}, which this Python does not have: "
            "pip install 'd2lrnn[onnx]'"
        )
    spec: ModelSpec = model.spec
    names = find_cell(spec.cell).states
    # Any sizes but 1, which would become a fixed one.
    state = (torch.zeros(spec.num_layers, 2, spec.num_hiddens, dtype=getattr(torch, spec.dtype)),) * len(
        names
    )
    batch, time = Dim("batch"), Dim("time")
    with torch.no_grad(), _quietly():
        program: Any = torch.onnx.export(
            _Function(model).eval().cpu(),
            (torch.zeros(2, 3, dtype=torch.int32), *(part.clone() for part in state)),
            input_names=["tokens", *names],
            output_names=["logits", *(f"next_{name}" for name in names)],
            dynamic_shapes=({0: batch, 1: time}, ({1: batch},) * len(names)),
            dynamo=True,
            verbose=False,
        )
        path.write_bytes(program.model_proto.SerializeToString())


class _Function(nn.Module):
    """Tokens (B, T) and the states (L, B, h) to logits (B, T, V) and the next states."""

    def __init__(self, model: RNNLMScratch) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        model, steps = self.model, tokens.t()
        layers = [model.rnn] if isinstance(model.rnn, ScratchLayer) else list(model.rnn.rnns)
        H = None if model.embedding_size is None else embedding(steps, model.W_e)
        finals = []
        for l, layer in enumerate(layers):
            w_x, b = (getattr(layer, layer.own_names[name]) for name in ("w_x", "b"))
            # A one-hot vector times w_x is a row of it.
            projected = (embedding(steps, w_x) if H is None else H @ w_x) + b
            H, final = _scanned(layer, projected, [part[l] for part in state])
            finals.append(final)
        # Not `output_layer`, which takes one way or another by the size of a batch.
        logits = (H @ (model.W_e.t() if model.tied else model.W_hq) + model.b_q).transpose(0, 1)
        return logits, *(torch.stack(parts) for parts in zip(*finals, strict=True))


def _scanned(layer: ScratchLayer, projected: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """`d2lrnn_torch.layer.unroll` of a layer, as a loop that stays one when it is exported."""
    from torch._higher_order_ops import scan  # a prototype of PyTorch's: imported only for an export

    def step(before: list[Tensor], X: Tensor) -> tuple[list[Tensor], Tensor]:
        after = layer.step(X, before[0] if len(before) == 1 else tuple(before))
        after = list(after) if isinstance(after, tuple) else [after]
        return after, after[0].clone()  # no result may be another one

    final, outputs = scan(step, state, projected)
    return outputs, final


@contextmanager
def _quietly() -> Iterator[None]:
    """Within it nothing is shown of what `torch.onnx` warns of in its own code, and logs of packages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
