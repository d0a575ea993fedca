"""The PyTorch tab: ``from d2lrnn import torch as d2l``."""

from d2lrnn_torch.concise import GRU, LSTM, RNN
from d2lrnn_torch.devices import num_gpus, try_gpu
from d2lrnn_torch.language_model import RNNLM, RNNLMScratch
from d2lrnn_torch.native import NativeWeights, from_native, to_native
from d2lrnn_torch.scratch import GRUScratch, LSTMScratch, RNNScratch, StackedRNNScratch

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "GRUScratch",
    "LSTMScratch",
    "NativeWeights",
    "RNNLMScratch",
    "RNNScratch",
    "StackedRNNScratch",
    "from_native",
    "num_gpus",
    "to_native",
    "try_gpu",
]
