"""`torch.nn`'s recurrent layers and cells, for `d2lrnn.ports`; what they do is in ``conventions.toml``."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from d2lrnn.contract.values import FloatArray, IntArray, Parameters
from d2lrnn.errors import PortError
from d2lrnn.ports.conventions import Convention, conventions
from d2lrnn.ports.description import LayerSpec, StackSpec
from d2lrnn.ports.fitting import alike
from d2lrnn.ports.layout import from_own, part_of, to_own
from d2lrnn.ports.porter import Described

#: PyTorch's names of the arrays of a direction of a layer, by the canonical ones.
NAMES = {"w_x": "weight_ih", "w_h": "weight_hh", "b": "bias_ih", "b_h": "bias_hh", "w_p": "weight_hr"}

_DTYPES: dict[Any, Any] = {torch.float32: "float32", torch.float64: "float64"}


class TorchPorter:
    """The methods are those of `d2lrnn.ports.porter.Porter`. A list or an `nn.ModuleList` is a stack."""

    def describe(self, module: Any) -> Described:
        """See `d2lrnn.ports.porter.Porter`."""
        modules = _modules(module)
        spec = _joined([_spec_of(each, _convention_of(each)) for each in modules])
        parameters: dict[str, FloatArray] = {}
        prefixes = iter(_prefixes(spec))
        for each in modules:
            convention = _convention_of(each)
            for layer, suffix in _suffixed(_spec_of(each, convention)):
                own = {name: _values(each, NAMES[name] + suffix) for name in layer.shapes()}
                prefix = next(prefixes)
                arrays = from_own(convention, layer, own)
                parameters |= {prefix + name: array for name, array in arrays.items()}
        return Described(spec, parameters, tuple(dict.fromkeys(_notes(module))))

    def build(self, spec: StackSpec, parameters: Parameters, conventions: Sequence[Convention]) -> nn.Module:
        """See `d2lrnn.ports.porter.Porter`. Layers that differ are modules of an `nn.ModuleList`."""
        if alike(spec.layers):
            return _built(spec, parameters, conventions[0], _prefixes(spec))
        prefixes, modules = _prefixes(spec), []
        for layer, convention in zip(spec.layers, conventions, strict=True):
            own, prefixes = prefixes[: len(layer.directions)], prefixes[len(layer.directions) :]
            modules.append(_built(replace(spec, layers=(layer,)), parameters, convention, own))
        return nn.ModuleList(modules).eval()

    def twin(self, module: Any) -> Any:
        """See `d2lrnn.ports.porter.Porter`."""
        twins = [copy.deepcopy(each).double() for each in _modules(module)]
        return twins if _is_list(module) else twins[0]

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
        modules, prefixes = _modules(module), _prefixes(spec)
        like = next(modules[0].parameters())
        before = None
        if state is not None:
            before = {name: torch.tensor(array, device=like.device) for name, array in state.items()}
        X = torch.tensor(inputs, device=like.device)
        if spec.form == "cell":
            names = [prefixes[0] + part for part in _convention_of(modules[0]).state]
            after = modules[0](X[0], None if before is None else _alone_or_all([before[n] for n in names]))
            parts = after if isinstance(after, tuple) else (after,)
            found = {name: part.numpy(force=True) for name, part in zip(names, parts, strict=True)}
            return found[names[0]][None], found
        X, found = X.transpose(0, 1) if spec.batch_first else X, {}
        for each in modules:
            number = each.num_layers * (1 + each.bidirectional)
            own, prefixes = prefixes[:number], prefixes[number:]
            X, final = _called(each, X, own, before, lengths)
            found |= {name: value.numpy(force=True) for name, value in final.items()}
        return (X.transpose(0, 1) if spec.batch_first else X).numpy(force=True), found


def _is_list(module: Any) -> bool:
    return isinstance(module, (list, tuple)) or type(module) is nn.ModuleList


def _modules(module: Any) -> list[Any]:
    """The modules of a stack, one behind the other."""
    if type(module) is nn.Sequential:
        raise PortError(
            "an nn.Sequential gives a recurrent layer the tuple that the one before it returns. It cannot be "
            f"described: give one of {_known()}, or list(module), which is a stack of its layers"
        )
    return [each for each in module if type(each) is not nn.Dropout] if _is_list(module) else [module]


def _values(module: Any, name: str) -> FloatArray:
    """A copy of a module's array."""
    parameter = module._parameters.get(name)
    if parameter is None:
        raise PortError(
            f"{name} is no parameter but computed before each call, as weight_norm does: make it one first "
            "(torch.nn.utils.remove_weight_norm)"
        )
    return np.array(parameter.detach().cpu().numpy())


def _notes(module: Any) -> Iterator[str]:
    """What a module has that no description carries."""
    for each in module if _is_list(module) else [module]:
        if type(each) is nn.Dropout:
            yield f"Dropout({each.p}) is not carried"
            continue
        if rate := getattr(each, "dropout", 0):
            yield f"dropout={rate} between the layers is not carried"
        frozen = [name for name, value in each.named_parameters() if not value.requires_grad]
        if frozen:
            yield f"requires_grad=False of {', '.join(frozen)} is not carried"


def _joined(specs: list[StackSpec]) -> StackSpec:
    """The stack of several, one behind the other."""
    if not specs:
        raise PortError("a list without a recurrent layer cannot be described: give it at least one")
    if len(specs) > 1 and any(spec.form == "cell" for spec in specs):
        raise PortError("a list of cells takes one step after another: give a list of layers, or one cell")
    for field, wrong in (("batch_first", "batch_first"), ("dtype", "type of numbers")):
        if len({getattr(spec, field) for spec in specs}) > 1:
            raise PortError(f"the layers of the list differ in their {wrong}: take one for all")
    return replace(specs[0], layers=tuple(layer for spec in specs for layer in spec.layers))


def _built(
    spec: StackSpec, parameters: Parameters, convention: Convention, prefixes: Sequence[str]
) -> nn.Module:
    """One module, of layers that are alike."""
    first = spec.layers[0]
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
        for prefix, (layer, suffix) in zip(prefixes, _suffixed(spec), strict=True):
            arrays = part_of(parameters, prefix, list(layer.shapes()))
            for name, array in to_own(convention, layer, arrays).items():
                getattr(module, NAMES[name] + suffix).copy_(torch.from_numpy(array))
    return module.eval()


def _called(
    module: Any,
    X: Tensor,
    prefixes: Sequence[str],
    state: Mapping[str, Tensor] | None,
    lengths: IntArray | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """One module's outputs and final states, by name."""
    names = [[prefix + part for prefix in prefixes] for part in _convention_of(module).state]
    before = None
    if state is not None:
        before = _alone_or_all([torch.stack([state[name] for name in part]) for part in names])
    was_training = module.training
    module.eval()
    try:
        outputs, final = _call(module, X, before, lengths)
    finally:
        module.train(was_training)
    found: dict[str, Tensor] = {}
    for part, values in zip(names, final if isinstance(final, tuple) else (final,), strict=True):
        found |= dict(zip(part, values, strict=True))
    return outputs, found


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
    raise PortError(
        f"a {type(module).__module__}.{type(module).__name__} cannot be described: give one of {_known()}, "
        "as it is, or a list of layers (a subclass or a wrapper may compute something else)"
    )


def _known() -> str:
    return ", ".join(convention.layer for convention in conventions("torch"))


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
