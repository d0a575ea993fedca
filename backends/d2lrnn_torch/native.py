"""The canonical parameters and the state dicts of `torch.nn.RNN`, `GRU`, `LSTM`, `Linear`, `Embedding`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.parameters import check_parameters, check_reset
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import ParameterError


class NativeWeights(NamedTuple):
    """The state dicts of plain layers.

    Attributes:
        rnn: of the recurrent layers, `nn.GRU` and its kin.
        head: of the output layer, `nn.Linear`.
        embedding: of `nn.Embedding`; None for a model that takes one-hot vectors.
    """

    rnn: dict[str, Tensor]
    head: dict[str, Tensor]
    embedding: dict[str, Tensor] | None = None


def to_native(spec: ModelSpec, parameters: Parameters) -> NativeWeights:
    """The parameters as the state dicts of plain PyTorch layers.

    Args:
        spec: the model; PyTorch has no GRU that resets before the matrix product.
        parameters: by canonical name.

    Raises:
        ParameterError: they do not fit `spec`, or PyTorch has no such layer.

    Example:
        >>> from d2lrnn.contract.parameters import parameter_shapes
        >>> spec = ModelSpec(28, "gru", "concise", 32, num_layers=2)
        >>> parameters = {name: np.zeros(shape, "f") for name, shape in parameter_shapes(spec).items()}
        >>> weights = to_native(spec, parameters)
        >>> torch.nn.GRU(28, 32, num_layers=2).load_state_dict(weights.rnn)
        <All keys matched successfully>
    """
    reset_bias = _reset_bias(spec)
    values = {name: torch.tensor(value) for name, value in check_parameters(spec, parameters).items()}
    rnn: dict[str, Tensor] = {}
    for l in range(spec.num_layers):
        second = torch.zeros_like(values[f"rnn.{l}.b"])
        if reset_bias is not None:
            second[2 * spec.num_hiddens :] = values[f"rnn.{l}.{reset_bias}"]
        rnn[f"weight_ih_l{l}"] = values[f"rnn.{l}.w_x"].t().contiguous()
        rnn[f"weight_hh_l{l}"] = values[f"rnn.{l}.w_h"].t().contiguous()
        rnn[f"bias_ih_l{l}"] = values[f"rnn.{l}.b"]
        rnn[f"bias_hh_l{l}"] = second
    embedding = {"weight": values["embedding.w"]} if spec.embedding_size is not None else None
    weight = values["embedding.w"].clone() if spec.tied else values["head.w"].t().contiguous()
    return NativeWeights(rnn, {"weight": weight, "bias": values["head.b"]}, embedding)


def from_native(
    spec: ModelSpec,
    rnn: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    embedding: Mapping[str, Tensor] | None = None,
) -> dict[str, FloatArray]:
    """The canonical parameters of plain PyTorch layers.

    PyTorch trains two biases a gate; their sum is all that the outputs see, and it becomes the one bias, but
    for a GRU's candidate, where the reset comes between the two. Layers without biases get zeros.

    Args:
        spec: the model that they are: its sizes and its cell.
        rnn: the state dict of the recurrent layers.
        head: the state dict of the output layer.
        embedding: the state dict of the embedding, where the model has one; if tied, also the head's weight.

    Raises:
        ParameterError: a tensor is missing, unexpected, or of another shape; or PyTorch has no such layer.

    Example:
        >>> spec = ModelSpec(28, "gru", "concise", 32, num_layers=2)
        >>> gru, linear = torch.nn.GRU(28, 32, num_layers=2), torch.nn.Linear(32, 28)
        >>> parameters = from_native(spec, gru.state_dict(), linear.state_dict())
        >>> parameters["rnn.1.w_x"].shape
        (32, 96)
    """
    reset_bias = _reset_bias(spec)
    left = {name: tensor.detach().cpu() for name, tensor in rnn.items()}
    h, gates = spec.num_hiddens, spec.num_gates * spec.num_hiddens
    values: dict[str, Tensor] = {}
    for l in range(spec.num_layers):
        for name, own in (("w_x", f"weight_ih_l{l}"), ("w_h", f"weight_hh_l{l}")):
            if own not in left:
                raise ParameterError(f"the state dict of the recurrent layers lacks {own}")
            values[f"rnn.{l}.{name}"] = left.pop(own).t()
        first, second = (left.pop(f"bias_{part}_l{l}", torch.zeros(gates)) for part in ("ih", "hh"))
        if first.shape != (gates,) or second.shape != (gates,):
            raise ParameterError(f"the biases of layer {l} have shapes {tuple(first.shape)} and "
                                 f"{tuple(second.shape)}: both must have {(gates,)}")  # fmt: skip
        if reset_bias is not None:
            values[f"rnn.{l}.b"] = torch.cat([first[: 2 * h] + second[: 2 * h], first[2 * h :]])
            values[f"rnn.{l}.{reset_bias}"] = second[2 * h :]
        else:
            values[f"rnn.{l}.b"] = first + second
    if left:
        raise ParameterError(
            f"the state dict of the recurrent layers has {sorted(left)[0]}, which {spec} does not have"
        )
    if spec.embedding_size is not None:
        if embedding is None or "weight" not in embedding:
            raise ParameterError("the state dict of the embedding lacks weight")
        values["embedding.w"] = embedding["weight"].detach().cpu()
    if not spec.tied:
        if "weight" not in head:
            raise ParameterError("the state dict of the output layer lacks weight")
        values["head.w"] = head["weight"].detach().cpu().t()
    values["head.b"] = head.get("bias", torch.zeros(spec.vocab_size)).detach().cpu()
    return check_parameters(spec, {name: value.numpy() for name, value in values.items()})


def _reset_bias(spec: ModelSpec) -> str | None:
    """The name of the bias inside the reset, for a cell that has one.

    Raises:
        ParameterError: PyTorch has no layer of this cell.
    """
    cell = find_cell(spec.cell)
    if not cell.has_layer:
        raise ParameterError(f"PyTorch has no layer of the cell {cell.name}")
    check_reset(spec, "PyTorch")
    return cell.reset_bias
