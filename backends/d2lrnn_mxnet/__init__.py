"""The MXNet tab: ``from d2lrnn import mxnet as d2l``.

All models are Gluon blocks over ``mxnet.np`` arrays. Every class switches NumPy semantics on for its own
methods (``mx.util.use_np``), so that importing this changes no global setting; the book's cells call
``npx.set_np()`` themselves.
"""

import os

# Read by OpenMP when MXNet is loaded, and therefore set before the first import of it: for how many rounds an
# idle thread spins before it sleeps. OpenMP's own 300,000 slow training and generation down where other
# programs are busy; with none, waking the threads slows them down where no program is.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# Before the first import of MXNet, which would serve itself.
if os.environ.get("DMLC_ROLE") in ("scheduler", "server"):
    from d2lrnn_mxnet.servers import serve

    serve(os.environ["DMLC_ROLE"])

from typing import Any

from d2lrnn.book import missing_names, tab
from d2lrnn.book.tab import *
from d2lrnn_mxnet import first_edition, tensors
from d2lrnn_mxnet.attention import AdditiveAttention, AttentionDecoder, DotProductAttention, masked_softmax
from d2lrnn_mxnet.book import DataModule, TimeMachine, Trainer, seed_everything
from d2lrnn_mxnet.concise import GRU, LSTM, RNN, ReluRNN
from d2lrnn_mxnet.devices import cpu, gpu, num_gpus, try_all_gpus, try_gpu
from d2lrnn_mxnet.encoder_decoder import Decoder, Encoder, EncoderDecoder, StatefulEncoderDecoder
from d2lrnn_mxnet.first_edition import *
from d2lrnn_mxnet.first_edition_seq2seq import MaskedSoftmaxCELoss, predict_seq2seq, train_seq2seq
from d2lrnn_mxnet.gradients import SGD
from d2lrnn_mxnet.language_model import RNNLM, RNNLMScratch
from d2lrnn_mxnet.module import Classifier, Module
from d2lrnn_mxnet.native import NativeWeights, from_native, to_native
from d2lrnn_mxnet.regression import LinearRegression, evaluate_loss, load_array
from d2lrnn_mxnet.scratch import (
    GRUScratch,
    LSTMScratch,
    MGUScratch,
    ReluRNNScratch,
    RNNScratch,
    StackedRNNScratch,
)
from d2lrnn_mxnet.sentiment import (
    TokenEmbedding,
    accuracy,
    evaluate_accuracy_gpus,
    load_data_imdb,
    predict_sentiment,
    split_batch,
    train_batch_ch13,
    train_ch13,
)
from d2lrnn_mxnet.seq2seq import GluonSeq2SeqEncoder, Seq2Seq, Seq2SeqDecoder, Seq2SeqEncoder
from d2lrnn_mxnet.tensors import *
from d2lrnn_mxnet.translation import MTFraEng, build_array_nmt, load_data_nmt

#: What names stand for in the first edition, where that is something else.
FIRST_EDITION = {
    **tab.FIRST_EDITION,
    "EncoderDecoder": StatefulEncoderDecoder,
    "Seq2SeqEncoder": GluonSeq2SeqEncoder,
}

__all__ = [
    "GRU", "LSTM", "RNN", "RNNLM", "SGD", "AdditiveAttention", "AttentionDecoder", "Classifier",
    "DataModule", "Decoder", "DotProductAttention", "Encoder", "EncoderDecoder", "GRUScratch",
    "GluonSeq2SeqEncoder", "LSTMScratch", "LinearRegression", "MGUScratch", "MTFraEng",
    "MaskedSoftmaxCELoss", "Module", "NativeWeights", "RNNLMScratch", "RNNScratch", "ReluRNN",
    "ReluRNNScratch", "Seq2Seq", "Seq2SeqDecoder", "Seq2SeqEncoder", "StackedRNNScratch",
    "StatefulEncoderDecoder", "TimeMachine", "TokenEmbedding", "Trainer", "accuracy", "build_array_nmt",
    "cpu", "evaluate_accuracy_gpus", "evaluate_loss", "from_native", "gpu", "load_array", "load_data_imdb",
    "load_data_nmt", "masked_softmax", "num_gpus", "predict_sentiment", "predict_seq2seq",
    "seed_everything", "split_batch", "to_native", "train_batch_ch13", "train_ch13", "train_seq2seq",
    "try_all_gpus", "try_gpu",
]  # fmt: skip
__all__ += tab.__all__
__all__ += first_edition.__all__
__all__ += tensors.__all__


def __dir__() -> list[str]:
    """What a chapter finds here: the book's names, without the modules behind them."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    return missing_names.answer(name, globals())
