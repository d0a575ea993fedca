"""`torch.nn`'s recurrent layers and cells, for `d2lrnn.ports`; what they do is in ``conventions.toml``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from d2lrnn.contract.values import FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import LayerSpec, StackSpec
from d2lrnn.ports.layout import from_own, part_of, to_own
from d2lrnn.ports.porter import Described

#: PyTorch's names of the arrays of a direction of a layer, by the canonical ones.
NAMES = {"w_x": "weight_ih", "w_h": "weight_hh", "b": "bias_ih", "b_h": "bias_hh", "w_p": "weight_hr"}

_DTYPES: dict[Any, Any] = {torch.float32: "float32", torch.float64: "float64"}


class TorchPorter:
    """The methods are those of `d2lrnn.ports.porter.Porter`."""

    def describe(self, module: Any) -> Described:
        """See `d2lrnn.ports.porter.Porter`. A list of modules is not one of PyTorch's."""
        convention = _convention_of(module)
        spec = _spec_of(module, convention)
        parameters: dict[str, FloatArray] = {}
        for prefix, (layer, suffix) in zip(_prefixes(spec), _suffixed(spec), strict=True):
            own = {
                name: getattr(module, NAMES[name] + suffix).detach().cpu().numpy() for name in layer.shapes()
            }
            arrays = from_own(convention, layer, own)
            parameters |= {prefix + name: array for name, array in arrays.items()}
        dropout = getattr(module, "dropout", 0)
        notes = (f"dropout={dropout} between the layers is not carried",) if dropout else ()
        return Described(spec, parameters, notes)

    def build(self, spec: StackSpec, parameters: Parameters, conventions: Sequence[Convention]) -> nn.Module:
        """See `d2lrnn.ports.porter.Porter`."""
        convention, first = conventions[0], spec.layers[0]
        options: dict[str, Any] = {"bias": first.biases != "none"}
        if len(convention.activations) > 1:
            options["nonlinearity"] = first.activation
        if spec.form == "layer":
            options |= {
                "num_layers": len(spec.layers),
                "batch_first": spec.batch_first,
                "bidirectional": len(first.directions) == 2,
            }
            if first.projection_size is not None:
                options["proj_size"] = first.projection_size
        kind = getattr(nn, convention.layer.removeprefix("nn."))
        # The initial values are overwritten below: drawing them must not advance the caller's generator.
        with torch.random.fork_rng(devices=[]):
            module: nn.Module = kind(
                first.input_size, first.hidden_size, dtype=getattr(torch, spec.dtype), **options
            )
        with torch.no_grad():
            for prefix, (layer, suffix) in zip(_prefixes(spec), _suffixed(spec), strict=True):
                arrays = part_of(parameters, prefix, list(layer.shapes()))
                for name, array in to_own(convention, layer, arrays).items():
                    getattr(module, NAMES[name] + suffix).copy_(torch.from_numpy(array))
        return module.eval()

    def twin(self, module: Any) -> nn.Module:
        """See `d2lrnn.ports.porter.Porter`."""
        twin: nn.Module = copy.deepcopy(module).double()
        return twin

    @torch.no_grad()
    def run(
        self,
        module: Any,
        spec: StackSpec,
        inputs: FloatArray,
        state: Parameters | None = None,
        lengths: IntArray | None = None,
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """See `d2lrnn.ports.porter.Porter`. Padding is a packed sequence."""
        order = _convention_of(module).state
        like = next(module.parameters())
        X = torch.tensor(inputs, device=like.device)
        names = {part: [prefix + part for prefix in _prefixes(spec)] for part in order}
        before = None
        if state is not None:
            own = [
                torch.stack([torch.tensor(state[name], device=like.device) for name in names[part]])
                for part in order
            ]
            before = _alone_or_all([part[0] for part in own] if spec.form == "cell" else own)
        if spec.form == "cell":
            after = module(X[0], before)
            parts = after if isinstance(after, tuple) else (after,)
            final = [part.numpy(force=True) for part in parts]
            return final[0][None], {names[part][0]: final[k] for k, part in enumerate(order)}
        was_training = module.training
        module.eval()
        try:
            outputs, final = _call(module, X.transpose(0, 1) if spec.batch_first else X, before, lengths)
        finally:
            module.train(was_training)
        found: dict[str, FloatArray] = {}
        for part, values in zip(order, final if isinstance(final, tuple) else (final,), strict=True):
            found |= {name: value.numpy(force=True) for name, value in zip(names[part], values, strict=True)}
        return (outputs.transpose(0, 1) if spec.batch_first else outputs).numpy(force=True), found


def _call(module: Any, X: Tensor, state: Any, lengths: IntArray | None) -> tuple[Tensor, Any]:
    if lengths is None:
        return module(X, state)
    first = module.batch_first
    packed = pack_padded_sequence(X, torch.from_numpy(lengths), batch_first=first, enforce_sorted=False)
    outputs, final = module(packed, state)
    return pad_packed_sequence(outputs, batch_first=first, total_length=X.shape[1 if first else 0])[0], final


def _convention_of(module: Any) -> Convention:
    """The entry of a module's own class: a subclass may compute anything."""
    for convention in conventions("torch"):
        if type(module) is getattr(nn, convention.layer.removeprefix("nn.")):
            return convention
    known = ", ".join(convention.layer for convention in conventions("torch"))
    raise PortError(
        f"a {type(module).__module__}.{type(module).__name__} cannot be described: give one of {known}, as "
        "it is (a subclass, a list or a wrapper may compute something else)"
    )


def _spec_of(module: Any, convention: Convention) -> StackSpec:
    dtypes = {parameter.dtype for parameter in module.parameters()}
    if len(dtypes) != 1 or not dtypes <= set(_DTYPES):
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise PortError(f"the module has parameters of type {names}: convert it with .float() or .double()")
    both = getattr(module, "bidirectional", False)
    layers: list[LayerSpec] = []
    for _ in range(getattr(module, "num_layers", 1)):
        layers.append(
            LayerSpec(
                convention.cell,
                layers[-1].output_size if layers else module.input_size,
                module.hidden_size,
                projection_size=getattr(module, "proj_size", 0) or None,
                biases="two" if module.bias else "none",
                activation=getattr(module, "nonlinearity", "tanh"),
                reset_after=None if convention.reset == "none" else convention.reset == "after",
                directions=("forward", "backward") if both else ("forward",),
            )
        )
    first, dtype = getattr(module, "batch_first", False), _DTYPES[dtypes.pop()]
    return StackSpec(tuple(layers), form=convention.form, batch_first=first, dtype=dtype)


def _prefixes(spec: StackSpec) -> list[str]:
    return [prefix for prefix, _, _ in spec.parts()]


def _suffixed(spec: StackSpec) -> list[tuple[LayerSpec, str]]:
    """The layers and what PyTorch's names of their arrays end with, in the order of `StackSpec.parts`."""
    if spec.form == "cell":
        return [(spec.layers[0], "")]
    return [
        (layer, f"_l{l}" + ("_reverse" if direction == "backward" else ""))
        for l, layer in enumerate(spec.layers)
        for direction in layer.directions
    ]


def _alone_or_all(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tuple(parts)
