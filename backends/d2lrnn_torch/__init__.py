"""The PyTorch tab: ``from d2lrnn import torch as d2l``."""

from typing import Any

from d2lrnn.book import missing_names, tab
from d2lrnn.book.tab import *
from d2lrnn_torch import first_edition, tensors
from d2lrnn_torch.attention import AdditiveAttention, DotProductAttention, SizedAdditiveAttention
from d2lrnn_torch.book import DataModule, TimeMachine, Trainer, seed_everything
from d2lrnn_torch.concise import GRU, LSTM, RNN, ReluRNN
from d2lrnn_torch.devices import cpu, gpu, num_gpus, try_all_gpus, try_gpu
from d2lrnn_torch.encoder_decoder import (
    AttentionDecoder,
    Decoder,
    Encoder,
    EncoderDecoder,
    StatefulEncoderDecoder,
)
from d2lrnn_torch.first_edition import *
from d2lrnn_torch.language_model import RNNLM, RNNLMScratch
from d2lrnn_torch.loaders import load_array
from d2lrnn_torch.masking import MaskedSoftmaxCELoss, masked_softmax, sequence_mask
from d2lrnn_torch.module import Classifier, Module
from d2lrnn_torch.native import NativeWeights, from_native, to_native
from d2lrnn_torch.regression import LinearRegression, evaluate_loss
from d2lrnn_torch.scratch import (
    GRUScratch,
    LSTMScratch,
    MGUScratch,
    ReluRNNScratch,
    RNNScratch,
    StackedRNNScratch,
)
from d2lrnn_torch.sentiment import (
    TokenEmbedding,
    accuracy,
    evaluate_accuracy_gpu,
    load_data_imdb,
    predict_sentiment,
    train_batch_ch13,
    train_ch13,
)
from d2lrnn_torch.seq2seq import (
    Seq2Seq,
    Seq2SeqDecoder,
    Seq2SeqEncoder,
    init_seq2seq,
    predict_seq2seq,
    train_seq2seq,
)
from d2lrnn_torch.tensors import *
from d2lrnn_torch.translation import MTFraEng, build_array_nmt, load_data_nmt

#: What names stand for in the first edition, where that is something else.
FIRST_EDITION = {
    **tab.FIRST_EDITION,
    "AdditiveAttention": SizedAdditiveAttention,
    "EncoderDecoder": StatefulEncoderDecoder,
}

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "AdditiveAttention",
    "AttentionDecoder",
    "Classifier",
    "DataModule",
    "Decoder",
    "DotProductAttention",
    "Encoder",
    "EncoderDecoder",
    "GRUScratch",
    "LSTMScratch",
    "LinearRegression",
    "MGUScratch",
    "MTFraEng",
    "MaskedSoftmaxCELoss",
    "Module",
    "NativeWeights",
    "RNNLMScratch",
    "RNNScratch",
    "ReluRNN",
    "ReluRNNScratch",
    "Seq2Seq",
    "Seq2SeqDecoder",
    "Seq2SeqEncoder",
    "SizedAdditiveAttention",
    "StackedRNNScratch",
    "StatefulEncoderDecoder",
    "TimeMachine",
    "TokenEmbedding",
    "Trainer",
    "accuracy",
    "build_array_nmt",
    "cpu",
    "evaluate_accuracy_gpu",
    "evaluate_loss",
    "from_native",
    "gpu",
    "init_seq2seq",
    "load_array",
    "load_data_imdb",
    "load_data_nmt",
    "masked_softmax",
    "num_gpus",
    "predict_sentiment",
    "predict_seq2seq",
    "seed_everything",
    "sequence_mask",
    "to_native",
    "train_batch_ch13",
    "train_ch13",
    "train_seq2seq",
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
    return missing_names.answer(name, globals())
