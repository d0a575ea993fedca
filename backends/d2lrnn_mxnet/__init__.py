"""The MXNet tab: ``from d2lrnn import mxnet as d2l``.

All models are Gluon blocks over ``mxnet.np`` arrays. Every class switches NumPy semantics on for its own
methods (``mx.util.use_np``), so that importing this changes no global setting; the book's cells call
``npx.set_np()`` themselves.
"""

import os

# Read by OpenMP when MXNet is loaded, and therefore set before the first import of it: by default idle OpenMP
# threads spin, and on a machine that is busy with anything else that made a training step ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from d2lrnn_mxnet.concise import GRU, LSTM, RNN
from d2lrnn_mxnet.devices import num_gpus, try_gpu
from d2lrnn_mxnet.language_model import RNNLM, RNNLMScratch
from d2lrnn_mxnet.native import NativeWeights, from_native, to_native
from d2lrnn_mxnet.scratch import GRUScratch, LSTMScratch, RNNScratch, StackedRNNScratch

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
