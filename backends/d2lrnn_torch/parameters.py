"""The canonical layout (`d2lrnn.contract.parameters`) and PyTorch's own.

Scratch models have the canonical layout. PyTorch's layers store weights as (out, in), gates side by side on
the first axis in the canonical order, and two biases (`d2lrnn_torch.concise`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn_torch.scratch import find_scratch_layer


def canonical_views(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What belongs to each canonical name, as views: writing into them writes into `tensors`.

    Args:
        spec: the model that `d2lrnn_torch.adapter.TorchBackend.build` made.
        tensors: parameters, or their gradients, or what an optimiser remembers of them, by the names of
            `named_parameters`.

    Returns:
        Tensors by canonical name, in canonical order.
    """
    scratch = spec.implementation == "scratch"
    layer = _scratch_layer if scratch else _concise_layer
    views: dict[str, Tensor] = {}
    if spec.embedding_size is not None:
        views["embedding.w"] = tensors["W_e" if scratch else "embedding.weight"]
    for l in range(spec.num_layers):
        views.update({f"rnn.{l}.{name}": view for name, view in layer(spec, tensors, l).items()})
    if not spec.tied:
        views["head.w"] = tensors["W_hq"] if scratch else tensors["linear.weight"].t()
    views["head.b"] = tensors["b_q" if scratch else "linear.bias"]
    return views


def export_arrays(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> dict[str, FloatArray]:
    """Copies as NumPy, C-contiguous, by canonical name."""
    return {
        name: view.detach().to("cpu", memory_format=torch.contiguous_format, copy=True).numpy()
        for name, view in canonical_views(spec, tensors).items()
    }


@torch.no_grad()
def write_arrays(spec: ModelSpec, tensors: Mapping[str, Tensor], values: Parameters) -> None:
    """Replaces the values of `tensors` by canonical ones that were checked."""
    for name, view in canonical_views(spec, tensors).items():
        view.copy_(torch.tensor(values[name]))


def _scratch_layer(spec: ModelSpec, tensors: Mapping[str, Tensor], l: int) -> dict[str, Tensor]:
    prefix = f"rnn.rnns.{l}." if spec.num_layers > 1 else "rnn."
    own = find_scratch_layer(spec.cell).own_names
    names = find_cell(spec.cell).shapes(1, 1, reset_after=spec.reset_after)
    return {name: tensors[prefix + own.get(name, name)] for name in names}


def _concise_layer(spec: ModelSpec, tensors: Mapping[str, Tensor], l: int) -> dict[str, Tensor]:
    layer = {
        "w_x": tensors[f"rnn.rnn.weight_ih_l{l}"].t(),
        "w_h": tensors[f"rnn.rnn.weight_hh_l{l}"].t(),
        "b": tensors[f"rnn.rnn.bias_ih_l{l}"],
    }
    reset_bias = find_cell(spec.cell).reset_bias
    if reset_bias is not None:
        layer[reset_bias] = tensors[f"rnn.rnn.bias_hh_l{l}"][2 * spec.num_hiddens :]
    return layer
