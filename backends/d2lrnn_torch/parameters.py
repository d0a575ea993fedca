"""The canonical layout (`d2lrnn.contract.parameters`) and PyTorch's own.

Scratch models have the canonical layout. PyTorch's layers store weights as (out, in), gates side by side on
the first axis in the canonical order, and two biases (`d2lrnn_torch.concise`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters


def canonical_views(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What belongs to each canonical name, as views: writing into them writes into `tensors`.

    Args:
        spec: the model that `d2lrnn_torch.adapter.TorchBackend.build` made.
        tensors: parameters or their gradients, by the names of `named_parameters`.

    Returns:
        Tensors by canonical name, in canonical order.
    """
    layers = _scratch_layer if spec.implementation == "scratch" else _concise_layer
    views: dict[str, Tensor] = {}
    for l in range(spec.num_layers):
        views.update({f"rnn.{l}.{name}": view for name, view in layers(spec, tensors, l).items()})
    if spec.implementation == "scratch":
        views["head.w"], views["head.b"] = tensors["W_hq"], tensors["b_q"]
    else:
        views["head.w"], views["head.b"] = tensors["linear.weight"].t(), tensors["linear.bias"]
    return views


def export_arrays(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> dict[str, FloatArray]:
    """Copies as NumPy, C-contiguous, by canonical name."""
    return {
        name: view.detach().to("cpu", memory_format=torch.contiguous_format, copy=True).numpy()
        for name, view in canonical_views(spec, tensors).items()
    }


@torch.no_grad()
def write_parameters(spec: ModelSpec, model: nn.Module, values: Parameters) -> None:
    """Replaces the parameters of `model` by canonical ones that were checked."""
    for name, view in canonical_views(spec, dict(model.named_parameters())).items():
        view.copy_(torch.tensor(values[name]))


def _scratch_layer(spec: ModelSpec, tensors: Mapping[str, Tensor], l: int) -> dict[str, Tensor]:
    prefix = f"rnn.rnns.{l}." if spec.num_layers > 1 else "rnn."
    own = ("W_xh", "W_hh", "b_h") if spec.cell == "rnn" else ("W_x", "W_h", "b")
    layer = {name: tensors[prefix + key] for name, key in zip(("w_x", "w_h", "b"), own, strict=True)}
    if spec.reset_after:
        layer["b_hn"] = tensors[f"{prefix}b_hn"]
    return layer


def _concise_layer(spec: ModelSpec, tensors: Mapping[str, Tensor], l: int) -> dict[str, Tensor]:
    layer = {
        "w_x": tensors[f"rnn.rnn.weight_ih_l{l}"].t(),
        "w_h": tensors[f"rnn.rnn.weight_hh_l{l}"].t(),
        "b": tensors[f"rnn.rnn.bias_ih_l{l}"],
    }
    if spec.reset_after:
        layer["b_hn"] = tensors[f"rnn.rnn.bias_hh_l{l}"][2 * spec.num_hiddens :]
    return layer
