"""What the book's chapters use of PyTorch that would not work with this library.

The chapter runner puts it in place while a chapter that needs it runs, and removes it afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from d2lrnn.chapters.runner import Restored


@contextmanager
def _steps_of_one_tensor() -> Iterator[None]:
    """`torch.stack` and `torch.cat` of the outputs of a layer: (T, B, h) stands for a list of T tensors."""
    stack, cat = torch.stack, torch.cat

    def taking_steps(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @wraps(function)
        def run(tensors: Any, *args: Any, **kwargs: Any) -> Tensor:
            return function(tensors.unbind(0) if isinstance(tensors, Tensor) else tensors, *args, **kwargs)

        return run

    torch.stack, torch.cat = taking_steps(stack), taking_steps(cat)
    try:
        yield
    finally:
        torch.stack, torch.cat = stack, cat


#: See `d2lrnn.chapters.runner.Restored`.
RESTORED = (
    Restored(
        "torch.stack(outputs), torch.cat(outputs)",
        "the book's scratch layers return a list of T tensors, which here is one tensor (T, B, h)",
        lambda code: re.search(r"\btorch\.(?:stack|cat)\(\s*\w*outputs\b", code) is not None,
        _steps_of_one_tensor,
    ),
)
