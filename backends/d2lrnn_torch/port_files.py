"""Files of PyTorch with recurrent layers, for ``d2lrnn convert``: state dicts.

The core reads and writes those in safetensors files.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from d2lrnn.errors import PortError
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.shapes import Shaped
from d2lrnn.ports.formats.stacks import Found, described, find_stack
from d2lrnn.ports.porter import Described

_SAFETENSORS = "safetensors"

#: Deeper than any checkpoint nests its dictionaries.
_MOST_DEPTH = 8


class TorchFiles:
    """The methods are those of `d2lrnn.ports.formats.protocol.PortFiles`."""

    def read(self, path: Path, kind: str, hints: Hints) -> Described:
        """See `d2lrnn.ports.formats.protocol.PortFiles`. A dictionary in another adds to the names."""
        tensors, found = _stack(path, hints)
        # Not before it is known that what they claim to hold is there.
        arrays = {name: tensors[name].numpy() for name in found.places.values()}
        return described(found, arrays, "torch")

    def write(self, path: Path, kind: str, module: nn.Module) -> None:
        """See `d2lrnn.ports.formats.protocol.PortFiles`."""
        torch.save(module.state_dict(), path)

    def load(self, path: Path, kind: str, hints: Hints, module: nn.Module) -> nn.Module:
        """See `d2lrnn.ports.formats.protocol.PortFiles`: ``load_state_dict``."""
        if kind == _SAFETENSORS:
            # Not torch's, but what its users load such files with.
            tensors = safetensors.torch.load_file(path)
            found = find_stack(_shapes(tensors), "torch", hints)
        else:
            tensors, found = _stack(path, hints)
        module.load_state_dict({own: tensors[name] for own, name in found.in_module("torch").items()})
        return module


def _stack(path: Path, hints: Hints) -> tuple[dict[str, Tensor], Found]:
    tensors = dict(_flat(_loaded(path)))
    found = find_stack(_shapes(tensors), "torch", hints)
    # A tensor whose strides are 0 has any size on no memory.
    size = sum(tensors[name].nbytes for name in found.places.values())
    if size > path.stat().st_size:
        raise PortError(f"it is damaged: its arrays are to have {size:,} bytes, more than the file")
    return tensors, found


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shaped]:
    return {
        name: Shaped(str(each.dtype).removeprefix("torch."), tuple(each.shape))
        for name, each in tensors.items()
    }


def _loaded(path: Path) -> Any:
    """The content, by PyTorch's reader that runs no code; arrays stay in the file where its format allows."""
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file raises anything
        text = str(error)
        # What weights_only says of anything that is neither an array nor a plain value.
        if (found := re.search(r"GLOBAL (\S{1,80})", text)) or "TorchScript" in text:
            what = found[1] if found else "a TorchScript program"
            raise PortError(
                f"it holds more than arrays, {what}, which could run code as it is read: save "
                "module.state_dict() there, and convert that"
            ) from error
        broken = isinstance(error, pickle.UnpicklingError) or not text
        reason = "its pickle is broken" if broken else re.split(r"\. |\n", text)[0][:200]
        raise PortError(f"it is damaged, or no file of torch.save: {reason}") from error


def _flat(content: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The tensors of dictionaries in dictionaries, with all names on the way."""
    if isinstance(content, Mapping) and depth < _MOST_DEPTH:
        for name, each in content.items():
            end = "" if isinstance(each, Tensor) else "."
            yield from _flat(each, f"{prefix}{name}{end}", depth + 1)
    elif isinstance(content, Tensor) and content.layout is torch.strided:
        yield prefix, content.detach()
