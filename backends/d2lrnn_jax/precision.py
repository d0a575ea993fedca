"""The precision that a model's specification names, whatever JAX's global settings are."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import jax
import numpy as np
import numpy.typing as npt


def precision(dtype: npt.DTypeLike) -> AbstractContextManager[object]:
    """A context in which JAX computes in `dtype`.

    JAX turns float64 into float32 unless its x64 mode is on. The context switches it on for this thread only:
    the user's ``JAX_ENABLE_X64`` stays as it is. float32 needs no switch.

    Example:
        >>> from jax import numpy as jnp
        >>> with precision("float64"):
        ...     jnp.zeros(1, float).dtype
        dtype('float64')
    """
    return jax.enable_x64(True) if np.dtype(dtype) == np.float64 else nullcontext()
