"""The hyperbolic tangent, by the faster of two libraries.

PyTorch's on a CPU is MKL's, which on processors that are not Intel's takes four times as long as NumPy's; of
a training step with 32 hidden units it was a fifth. NumPy computes in one thread and on the same memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: Numbers up to which NumPy's one thread is as fast as PyTorch's threads, however many there are: MKL has as
#: many as there are pieces of 32,768.
_FEW = 2**17


def tanh_(x: Tensor) -> Tensor:
    """``x.tanh_()``, outside of any graph."""
    return tanh(x, out=x)


# benchmarks/tricks: torch, NumPy's tanh
def tanh(x: Tensor, out: Tensor) -> Tensor:
    """``torch.tanh(x, out=out)``, outside of any graph."""
    if x.is_cpu and x.numel() <= _FEW:
        np.tanh(x.numpy(), out=out.numpy())
        return out
    return torch.tanh(x, out=out)
