"""Pairs of sentences as a `DataModule`; how they are read is in `d2lrnn.book.translation`."""

from __future__ import annotations

import jax
from jax import numpy as jnp

from d2lrnn.book.translation import SentencePairs
from d2lrnn.contract.values import IntArray
from d2lrnn_jax.book import DataModule


class MTFraEng(SentencePairs, DataModule):
    """The book's pairs of English and French sentences; see `d2lrnn.book.translation.SentencePairs`.

    Example:
        >>> data = MTFraEng(batch_size=128)                                         # doctest: +SKIP
        >>> source, target, source_lengths, label = next(iter(data.train_dataloader()))  # doctest: +SKIP
        >>> source.shape, source_lengths.shape                                      # doctest: +SKIP
        ((128, 9), (128,))
    """

    def __init__(self, batch_size: int, num_steps: int = 9, num_train: int = 512, num_val: int = 128) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.arrays, self.src_vocab, self.tgt_vocab = self._build_arrays(self._download())

    @staticmethod
    def tensor(indices: IntArray) -> jax.Array:
        """NumPy's indices as JAX's array."""
        return jnp.array(indices)
