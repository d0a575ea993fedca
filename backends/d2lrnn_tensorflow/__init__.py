"""The TensorFlow tab: ``from d2lrnn import tensorflow as d2l``."""

# The check that Keras runs on TensorFlow comes before anything that uses Keras.
from d2lrnn_tensorflow import framework as framework  # isort: split

from d2lrnn_tensorflow.concise import GRU, LSTM, RNN
from d2lrnn_tensorflow.devices import num_gpus, try_gpu
from d2lrnn_tensorflow.language_model import RNNLM, RNNLMScratch
from d2lrnn_tensorflow.native import NativeWeights, from_native, to_native
from d2lrnn_tensorflow.scratch import GRUScratch, LSTMScratch, RNNScratch, StackedRNNScratch

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
