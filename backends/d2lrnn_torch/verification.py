"""What `d2lrnn verify` asks of PyTorch itself: see `d2lrnn.verification.products`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.values import FloatArray
from d2lrnn_torch.devices import devices, native_device
from d2lrnn_torch.products import times


def products(device: str) -> dict[str, Callable[[FloatArray, FloatArray, bool, bool], FloatArray]]:
    """PyTorch's product of matrices, and the one of the recurrences here.

    Args:
        device: the name of one of the devices.

    Example:
        >>> import numpy as np
        >>> ones = np.ones((2, 2))
        >>> products("cpu")["torch.matmul"](ones, ones, False, False).tolist()
        [[2.0, 2.0], [2.0, 2.0]]
    """
    on = native_device(choose_device(device, devices()))

    def with_arrays(
        product: Callable[[Tensor, Tensor], Tensor],
    ) -> Callable[[FloatArray, FloatArray, bool, bool], FloatArray]:
        def multiply(
            left: FloatArray, right: FloatArray, transpose_left: bool, transpose_right: bool
        ) -> FloatArray:
            one, other = torch.from_numpy(left).to(on), torch.from_numpy(right).to(on)
            with torch.no_grad():
                found = product(one.t() if transpose_left else one, other.t() if transpose_right else other)
            return found.cpu().numpy()

        return multiply

    return {"torch.matmul": with_arrays(torch.matmul), "the product of recurrences": with_arrays(times)}
