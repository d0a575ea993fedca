"""The peephole LSTM: its gates, states, parameters and formula."""

from __future__ import annotations

from d2lrnn.contract.cells import Cell

PEEPHOLE_LSTM = Cell(
    "lstm-peephole",
    "LSTM with peepholes",
    ("i", "f", "g", "o"),
    "i = σ(X_i + h w_h[i] + p_i ∘ c); f = σ(X_f + h w_h[f] + p_f ∘ c); g = tanh(X_g + h w_h[g]); "
    "c' = f ∘ c + i ∘ g; o = σ(X_o + h w_h[o] + p_o ∘ c'); h' = o ∘ tanh(c')",
    "Gers and Schmidhuber 2000, Recurrent nets that time and count",
    states=("h", "c"),
    vectors=("p_i", "p_f", "p_o"),
)
