"""The JAX tab: ``from d2lrnn import jax as d2l``. Modules are flax.linen's."""

from d2lrnn_jax.concise import GRU, LSTM, RNN
from d2lrnn_jax.devices import num_gpus, try_gpu
from d2lrnn_jax.language_model import RNNLM, RNNLMScratch
from d2lrnn_jax.native import NativeWeights, from_native, to_native
from d2lrnn_jax.scratch import GRUScratch, LSTMScratch, RNNScratch, StackedRNNScratch

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
