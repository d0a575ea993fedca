"""The state dicts of `torch.nn.RNN`, `GRU`, `LSTM` and `Linear`, and the canonical parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from d2lrnn.contract.parameters import check_parameters, check_reset
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray, Parameters
from d2lrnn.errors import ParameterError


class NativeWeights(NamedTuple):
    """State dicts: of the recurrent layers (`nn.GRU` and its kin) and of the output layer (`nn.Linear`)."""

    rnn: dict[str, Tensor]
    head: dict[str, Tensor]


def to_native(spec: ModelSpec, parameters: Parameters) -> NativeWeights:
    """The parameters as plain PyTorch keeps them.

    Args:
        spec: the model; a GRU that resets before the product is none of PyTorch's.
        parameters: by canonical name.

    Raises:
        ParameterError: they do not fit `spec`, or PyTorch has no such layer.

    Example:
        >>> weights = to_native(spec, learner.export_parameters())  # doctest: +SKIP
        >>> gru = torch.nn.GRU(spec.vocab_size, spec.num_hiddens, spec.num_layers)  # doctest: +SKIP
        >>> gru.load_state_dict(weights.rnn)  # doctest: +SKIP
    """
    check_reset(spec, "PyTorch")
    values = {name: torch.tensor(value) for name, value in check_parameters(spec, parameters).items()}
    rnn: dict[str, Tensor] = {}
    for l in range(spec.num_layers):
        second = torch.zeros_like(values[f"rnn.{l}.b"])
        if spec.cell == "gru":
            second[2 * spec.num_hiddens :] = values[f"rnn.{l}.b_hn"]
        rnn[f"weight_ih_l{l}"] = values[f"rnn.{l}.w_x"].t().contiguous()
        rnn[f"weight_hh_l{l}"] = values[f"rnn.{l}.w_h"].t().contiguous()
        rnn[f"bias_ih_l{l}"] = values[f"rnn.{l}.b"]
        rnn[f"bias_hh_l{l}"] = second
    return NativeWeights(rnn, {"weight": values["head.w"].t().contiguous(), "bias": values["head.b"]})


def from_native(
    spec: ModelSpec, rnn: Mapping[str, Tensor], head: Mapping[str, Tensor]
) -> dict[str, FloatArray]:
    """The canonical parameters of plain PyTorch layers.

    PyTorch trains two biases a gate; their sum is all that the outputs see, and it becomes the one bias, but
    for a GRU's candidate, where the reset comes between the two. Layers without biases get zeros.

    Args:
        spec: the model that they are: its sizes and its cell.
        rnn: the state dict of the recurrent layers.
        head: the state dict of the output layer.

    Raises:
        ParameterError: a tensor is missing, too many, or of another shape.

    Example:
        >>> spec = ModelSpec(28, "gru", "concise", 32, num_layers=2)  # doctest: +SKIP
        >>> parameters = from_native(spec, gru.state_dict(), linear.state_dict())  # doctest: +SKIP
        >>> d2lrnn.backend("jax").build(spec, parameters)  # doctest: +SKIP
    """
    check_reset(spec, "PyTorch")
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
            raise ParameterError(f"the biases of layer {l} have {first.shape} and {second.shape} values: "
                                 f"{gates} each are needed")  # fmt: skip
        if spec.cell == "gru":
            values[f"rnn.{l}.b"] = torch.cat([first[: 2 * h] + second[: 2 * h], first[2 * h :]])
            values[f"rnn.{l}.b_hn"] = second[2 * h :]
        else:
            values[f"rnn.{l}.b"] = first + second
    if left:
        raise ParameterError(
            f"the state dict of the recurrent layers has {sorted(left)[0]}, which {spec} has not"
        )
    if "weight" not in head:
        raise ParameterError("the state dict of the output layer lacks weight")
    values["head.w"] = head["weight"].detach().cpu().t()
    values["head.b"] = head.get("bias", torch.zeros(spec.vocab_size)).detach().cpu()
    return check_parameters(spec, {name: value.numpy() for name, value in values.items()})
