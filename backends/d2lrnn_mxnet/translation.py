"""Pairs of sentences as MXNet's arrays, in both editions; see `d2lrnn.book.translation`."""

from __future__ import annotations

from d2lrnn.book import translation as book
from d2lrnn.contract.values import IntArray
from d2lrnn_mxnet.arrays import index_array, on_device
from d2lrnn_mxnet.book import DataModule
from d2lrnn_mxnet.devices import cpu
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.regression import load_array


class MTFraEng(book.SentencePairs, DataModule):
    """Pairs of English and French sentences; see `d2lrnn.book.translation.SentencePairs`.

    A batch is (source (B, T), target from ``<bos>`` on (B, T), lengths of the sources (B,), target (B, T)).
    """

    tensor = staticmethod(index_array)

    def __init__(self, batch_size: int, num_steps: int = 9, num_train: int = 512, num_val: int = 128) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.arrays, self.src_vocab, self.tgt_vocab = self._build_arrays(self._download())


class PairArrays(book.PairArrays):
    """The first edition's pairs of sentences; see `d2lrnn.book.translation.PairArrays`."""

    @staticmethod
    def tensor(indices: IntArray) -> Array:
        """Tokens (N, T) as float32, lengths (N,) as int32.

        The chapters join tokens with ``np.array([…])``, which is float32, and MXNet joins no other types.
        """
        return on_device(indices, "float32" if indices.ndim > 1 else "int32", cpu())

    load_array = staticmethod(load_array)


build_array_nmt, load_data_nmt = PairArrays.build, PairArrays.load
