"""The JAX tab: ``from d2lrnn import jax as d2l``. Modules are flax.linen's."""

from typing import Any

from d2lrnn.book import missing_names, tab
from d2lrnn.book.tab import *
from d2lrnn_jax import first_edition, tensors
from d2lrnn_jax.attention import (
    AdditiveAttention,
    AttentionDecoder,
    DotProductAttention,
    masked_softmax,
)
from d2lrnn_jax.book import DataModule, TimeMachine, Trainer, seed_everything
from d2lrnn_jax.concise import GRU, LSTM, RNN, ReluRNN
from d2lrnn_jax.devices import cpu, gpu, num_gpus, try_all_gpus, try_gpu
from d2lrnn_jax.encoder_decoder import Decoder, Encoder, EncoderDecoder
from d2lrnn_jax.first_edition import *
from d2lrnn_jax.language_model import RNNLM, RNNLMScratch
from d2lrnn_jax.module import Classifier, Module, get_key, get_seed
from d2lrnn_jax.native import NativeWeights, from_native, to_native
from d2lrnn_jax.regression import LinearRegression
from d2lrnn_jax.scratch import (
    GRUScratch,
    LSTMScratch,
    MGUScratch,
    ReluRNNScratch,
    RNNScratch,
    StackedRNNScratch,
)
from d2lrnn_jax.seq2seq import Seq2Seq, Seq2SeqDecoder, Seq2SeqEncoder
from d2lrnn_jax.tensors import *
from d2lrnn_jax.translation import MTFraEng

__all__ = [
    "GRU", "LSTM", "RNN", "RNNLM", "AdditiveAttention", "AttentionDecoder", "Classifier", "DataModule",
    "Decoder", "DotProductAttention", "Encoder", "EncoderDecoder", "GRUScratch", "LSTMScratch",
    "LinearRegression", "MGUScratch", "MTFraEng", "Module", "NativeWeights", "RNNLMScratch", "RNNScratch",
    "ReluRNN", "ReluRNNScratch", "Seq2Seq", "Seq2SeqDecoder", "Seq2SeqEncoder", "StackedRNNScratch",
    "TimeMachine", "Trainer", "cpu", "from_native", "get_key", "get_seed", "gpu", "masked_softmax",
    "num_gpus", "seed_everything", "to_native", "try_all_gpus", "try_gpu",
]  # fmt: skip
__all__ += tab.__all__
__all__ += first_edition.__all__
__all__ += tensors.__all__


def __dir__() -> list[str]:
    """What a chapter finds here: the book's names, without the modules behind them."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    return missing_names.answer(name, globals())
