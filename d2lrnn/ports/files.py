"""A ported stack as one safetensors file: parameters by canonical name, and the proof beside them.

The text in its header is JSON: a format number, the backend that the stack came from, whether that has a
float64 twin, the description, and the SHA-256 of all arrays in canonical order. Who has only the file can
compute the proof again. With time first, and ``{name}`` that of a state,

==============================  =======================================================================
``proof.inputs``                (T, B, n), the same in all cases
``proof.state.{name}``          (B, size), before the first step; in the case ``zero state`` it is zeros
``proof.lengths``               (B,), int32, in the case ``padded``: steps that are no padding
``proof.{case}.outputs``        (T, B, size), what the source's own module computed
``proof.{case}.{name}``         (B, size), after the last step
``proof.twin.{case}.…``         the same of the twin, in float64, from the same inputs
==============================  =======================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from d2lrnn.contract.values import DType, FloatArray, Parameters
from d2lrnn.errors import RunError, SpecError
from d2lrnn.ports.description import MOST_LAYERS, LayerSpec, StackSpec
from d2lrnn.ports.proof import PADDED, Side, case_names, drawn, drawn_shapes, result_shapes
from d2lrnn.saving.checkpoint import opened
from d2lrnn.saving.json_fields import check_names, check_type, decode
from d2lrnn.saving.json_reader import JSONReader
from d2lrnn.saving.tensor_files import Expected, read_described, read_text, to_safetensors

_FORMAT = 1

_INPUTS, _STATE, _LENGTHS = "proof.inputs", "proof.state.", "proof.lengths"
_OWN, _TWIN = "proof.", "proof.twin."
_DOUBLE: DType = "float64"
_Value = TypeVar("_Value")


def to_bytes(spec: StackSpec, parameters: Parameters, source: str, found: Side) -> bytes:
    """The content of the file."""
    inputs, state, lengths = drawn(spec)
    has: dict[str, Any] = dict(parameters) | {_INPUTS: inputs}
    has |= {_STATE + name: array for name, array in state.items()} | {_LENGTHS: lengths}
    for kind, results in ((_OWN, found.results), (_TWIN, found.twin or {})):
        has |= {
            f"{kind}{case}.{name}": array
            for case, arrays in results.items()
            for name, array in arrays.items()
        }
    twin = found.twin is not None
    arrays = {name: has[name] for name in _expected(spec, twin)}
    text = {
        "format": _FORMAT,
        "source": source,
        "twin": twin,
        "stack": spec.to_json(),
        "sha256": _digest(arrays),
    }
    return to_safetensors(arrays, json.dumps(text))


def from_file(path: Path) -> tuple[StackSpec, dict[str, FloatArray], str, Side]:
    """What `to_bytes` was given.

    Memory is that of the arrays in the file, whatever its header claims, and nothing in it is code.

    Raises:
        RunError: it is no such file, or it is damaged, or it was computed from other inputs than are drawn.
    """
    with opened(path) as file:
        text = read_text(file, path)
        try:
            reader = JSONReader(text.encode())
            document = check_type(dict, reader.value(), "the header's text")
            reader.end()
            check_names(document, ["format", "source", "twin", "stack", "sha256"], "the header's text")
            if document["format"] != _FORMAT:
                raise RunError("it is not of a format that this version of d2lrnn reads")
            spec = _stack(check_type(dict, document["stack"], "stack"))
            source = check_type(str, document["source"], "source")
            twin = check_type(bool, document["twin"], "twin")
        except RunError as error:
            raise RunError(f"{path} is damaged: {error}") from error
        arrays = read_described(file, path, _expected(spec, twin))
    if _digest(arrays) != document["sha256"]:
        raise RunError(f"{path} is damaged: its digest is not the one that was saved with it")
    inputs, state, lengths = drawn(spec)
    # Chosen inputs could hide a difference.
    for name, array in {_INPUTS: inputs, _LENGTHS: lengths, **_prefixed(_STATE, state)}.items():
        if name in arrays and not np.array_equal(arrays[name], array):
            raise RunError(f"{path} is damaged: {name} is not what is drawn for this stack")
    parameters = {name: arrays[name] for name in spec.parameter_shapes()}
    own, of_twin = (
        {
            case: {name: arrays[f"{kind}{case}.{name}"] for name in result_shapes(spec)}
            for case in case_names(spec)
        }
        if there
        else None
        for kind, there in ((_OWN, True), (_TWIN, twin))
    )
    return spec, parameters, source, Side(own or {}, of_twin)


def _stack(document: dict[str, object]) -> StackSpec:
    layers = check_type(list, document.get("layers"), "layers of the stack")
    if len(layers) > MOST_LAYERS:
        raise RunError(f"the stack has {len(layers)} layers")
    read = tuple(decode(LayerSpec, layer, f"layer {l}") for l, layer in enumerate(layers))
    try:
        return decode(StackSpec, document, "the stack", {"layers": read})
    except SpecError as error:
        raise RunError(str(error)) from error


def _expected(spec: StackSpec, twin: bool) -> dict[str, Expected]:
    """The arrays of the file in canonical order."""
    inputs, state, lengths = drawn_shapes(spec)
    shapes = spec.parameter_shapes() | {_INPUTS: inputs} | _prefixed(_STATE, state)
    found = {name: Expected(shape, spec.dtype) for name, shape in shapes.items()}
    if PADDED in case_names(spec):
        found[_LENGTHS] = Expected(lengths, "int32")
    kinds: list[tuple[str, DType]] = [(_OWN, spec.dtype), *([(_TWIN, _DOUBLE)] if twin else [])]
    for kind, dtype in kinds:
        for case in case_names(spec):
            results = _prefixed(f"{kind}{case}.", result_shapes(spec))
            found |= {name: Expected(shape, dtype) for name, shape in results.items()}
    return found


def _prefixed(prefix: str, values: Mapping[str, _Value]) -> dict[str, _Value]:
    return {prefix + name: value for name, value in values.items()}


def _digest(arrays: Mapping[str, FloatArray]) -> str:
    """The SHA-256 of all arrays, little-endian, one after the other."""
    found = hashlib.sha256()
    for array in arrays.values():
        found.update(array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).data)
    return found.hexdigest()
