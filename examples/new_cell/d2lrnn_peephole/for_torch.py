"""One step of a peephole LSTM in PyTorch."""

from __future__ import annotations

import torch
from d2lrnn_torch.layer import ScratchLayer
from torch import Tensor

from d2lrnn_peephole.cell import PEEPHOLE_LSTM


class PeepholeLSTMScratch(ScratchLayer):
    """A peephole LSTM of one layer; the arguments are those of `ScratchLayer`. The state is ``(H, C)``."""

    cell = PEEPHOLE_LSTM

    def step(self, X: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The next ``(H, C)`` from projected inputs ``X_t W_x + b`` (B, 4·h) and ``(H, C)``, each (B, h)."""
        H, C = state
        i, f, g, o = (X + H @ self.W_h).chunk(4, dim=1)
        I, F = torch.sigmoid(i + self.p_i * C), torch.sigmoid(f + self.p_f * C)
        C = F * C + I * torch.tanh(g)
        O = torch.sigmoid(o + self.p_o * C)
        return O * torch.tanh(C), C
