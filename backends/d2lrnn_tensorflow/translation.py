"""Pairs of English and French sentences as tensors; what the tabs share is in `d2lrnn.book.translation`."""

from __future__ import annotations

import tensorflow as tf

from d2lrnn.book import translation as book
from d2lrnn.contract.values import IntArray
from d2lrnn_tensorflow.book import DataModule
from d2lrnn_tensorflow.recurrence import Tensor
from d2lrnn_tensorflow.regression import load_array as batches_of_rows


class MTFraEng(book.SentencePairs, DataModule):
    """Pairs of English and French sentences; see `d2lrnn.book.translation.SentencePairs`.

    A batch is source (B, T), target from ``<bos>`` on (B, T), the source's lengths (B,), and the target one
    word later (B, T).

    Example:
        >>> data = MTFraEng(batch_size=3)                     # doctest: +SKIP
        >>> [array.shape for array in next(iter(data.train_dataloader()))]     # doctest: +SKIP
        [TensorShape([3, 9]), TensorShape([3, 9]), TensorShape([3]), TensorShape([3, 9])]
    """

    def __init__(self, batch_size: int, num_steps: int = 9, num_train: int = 512, num_val: int = 128) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.arrays, self.src_vocab, self.tgt_vocab = self._build_arrays(self._download())

    @staticmethod
    def tensor(indices: IntArray) -> Tensor:
        """NumPy's indices as a tensor of int32."""
        return tf.constant(indices, tf.int32)


class PairArrays(book.PairArrays):
    """The first edition's pairs; see `d2lrnn.book.translation.PairArrays`."""

    tensor = staticmethod(MTFraEng.tensor)
    load_array = staticmethod(batches_of_rows)


build_array_nmt, load_data_nmt = PairArrays.build, PairArrays.load
