"""The NumPy tab, ``from d2lrnn import numpy as d2l``: the reference, with no framework."""

from d2lrnn_numpy.concise import GRU, LSTM, RNN, ReluRNN
from d2lrnn_numpy.devices import num_gpus, try_gpu
from d2lrnn_numpy.language_model import RNNLM, RNNLMScratch
from d2lrnn_numpy.scratch import (
    GRUScratch,
    LSTMScratch,
    MGUScratch,
    ReluRNNScratch,
    RNNScratch,
    StackedRNNScratch,
)

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "GRUScratch",
    "LSTMScratch",
    "MGUScratch",
    "RNNLMScratch",
    "RNNScratch",
    "ReluRNN",
    "ReluRNNScratch",
    "StackedRNNScratch",
    "num_gpus",
    "try_gpu",
]


def __dir__() -> list[str]:
    """What a chapter finds here: the book's names, without the modules behind them."""
    return sorted(__all__)
