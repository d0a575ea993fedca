"""The PyTorch tab: ``from d2lrnn import torch as d2l``."""

from typing import Any

from d2lrnn.book import missing_names, tab
from d2lrnn.book.tab import *
from d2lrnn_torch import first_edition, tensors
from d2lrnn_torch.book import DataModule, TimeMachine, Trainer, seed_everything
from d2lrnn_torch.concise import GRU, LSTM, RNN, ReluRNN
from d2lrnn_torch.devices import cpu, gpu, num_gpus, try_all_gpus, try_gpu
from d2lrnn_torch.first_edition import *
from d2lrnn_torch.language_model import RNNLM, RNNLMScratch
from d2lrnn_torch.module import Classifier, Module
from d2lrnn_torch.native import NativeWeights, from_native, to_native
from d2lrnn_torch.scratch import (
    GRUScratch,
    LSTMScratch,
    MGUScratch,
    ReluRNNScratch,
    RNNScratch,
    StackedRNNScratch,
)
from d2lrnn_torch.tensors import *

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "Classifier",
    "DataModule",
    "GRUScratch",
    "LSTMScratch",
    "MGUScratch",
    "Module",
    "NativeWeights",
    "RNNLMScratch",
    "RNNScratch",
    "ReluRNN",
    "ReluRNNScratch",
    "StackedRNNScratch",
    "TimeMachine",
    "Trainer",
    "cpu",
    "from_native",
    "gpu",
    "num_gpus",
    "seed_everything",
    "to_native",
    "try_all_gpus",
    "try_gpu",
]  # fmt: skip
__all__ += tab.__all__
__all__ += first_edition.__all__
__all__ += tensors.__all__


def __dir__() -> list[str]:
    """What a chapter finds here: the book's names, without the modules behind them."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    return missing_names.answer(name, __all__)
