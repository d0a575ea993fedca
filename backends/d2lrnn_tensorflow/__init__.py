"""The TensorFlow tab: ``from d2lrnn import tensorflow as d2l``."""

# The check that Keras runs on TensorFlow comes before anything that uses Keras.
from d2lrnn_tensorflow import framework as framework  # isort: split

from typing import Any

from d2lrnn.book import missing_names, tab
from d2lrnn.book.tab import *
from d2lrnn_tensorflow import first_edition, tensors
from d2lrnn_tensorflow.attention import AdditiveAttention, AttentionDecoder, DotProductAttention
from d2lrnn_tensorflow.book import DataModule, TimeMachine, Trainer, seed_everything
from d2lrnn_tensorflow.concise import GRU, LSTM, RNN, ReluRNN
from d2lrnn_tensorflow.devices import cpu, gpu, num_gpus, try_all_gpus, try_gpu
from d2lrnn_tensorflow.encoder_decoder import Decoder, Encoder, EncoderDecoder, StatefulEncoderDecoder
from d2lrnn_tensorflow.first_edition import *
from d2lrnn_tensorflow.language_model import RNNLM, RNNLMScratch
from d2lrnn_tensorflow.masking import MaskedSoftmaxCELoss, masked_softmax, sequence_mask
from d2lrnn_tensorflow.module import Classifier, Module
from d2lrnn_tensorflow.native import NativeWeights, from_native, to_native
from d2lrnn_tensorflow.regression import LinearRegression, evaluate_loss, load_array
from d2lrnn_tensorflow.scratch import (
    GRUScratch,
    LSTMScratch,
    MGUScratch,
    ReluRNNScratch,
    RNNScratch,
    StackedRNNScratch,
)
from d2lrnn_tensorflow.seq2seq import (
    BatchMajorSeq2SeqEncoder,
    Seq2Seq,
    Seq2SeqDecoder,
    Seq2SeqEncoder,
    predict_seq2seq,
    train_seq2seq,
)
from d2lrnn_tensorflow.tensors import *
from d2lrnn_tensorflow.translation import MTFraEng, build_array_nmt, load_data_nmt

#: What names stand for in the first edition, where that is something else.
FIRST_EDITION = {
    **tab.FIRST_EDITION,
    "EncoderDecoder": StatefulEncoderDecoder,
    "Seq2SeqEncoder": BatchMajorSeq2SeqEncoder,
}

__all__ = [
    "GRU", "LSTM", "RNN", "RNNLM", "AdditiveAttention", "AttentionDecoder", "Classifier", "DataModule",
    "Decoder", "DotProductAttention", "Encoder", "EncoderDecoder", "GRUScratch", "LSTMScratch",
    "LinearRegression", "MGUScratch", "MTFraEng", "MaskedSoftmaxCELoss", "Module", "NativeWeights",
    "RNNLMScratch", "RNNScratch", "ReluRNN", "ReluRNNScratch", "Seq2Seq", "Seq2SeqDecoder",
    "Seq2SeqEncoder", "StackedRNNScratch", "TimeMachine", "Trainer", "build_array_nmt", "cpu",
    "evaluate_loss", "from_native", "gpu", "load_array", "load_data_nmt", "masked_softmax", "num_gpus",
    "predict_seq2seq", "seed_everything", "sequence_mask", "to_native", "train_seq2seq", "try_all_gpus",
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
