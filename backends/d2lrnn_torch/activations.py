"""The hyperbolic tangent, by the faster of two libraries.

PyTorch's on a CPU is MKL's, which on processors that are not Intel's takes three times as long as NumPy's.
NumPy computes in one thread and on the same memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: Entries up to which NumPy's one thread is as fast as all of PyTorch's: these get 32,768 entries each, so
#: that at most four share the work.
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
