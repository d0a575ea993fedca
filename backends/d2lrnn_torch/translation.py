"""The book's pairs of English and French sentences as tensors; what all tabs share is in the core."""

from __future__ import annotations

import torch
from torch import Tensor

from d2lrnn.book.translation import PairArrays, SentencePairs
from d2lrnn.contract.values import IntArray
from d2lrnn_torch.book import DataModule
from d2lrnn_torch.loaders import load_array


class MTFraEng(SentencePairs, DataModule):
    r"""The pairs of sentences; see `d2lrnn.book.translation.SentencePairs`.

    Example:
        >>> class OwnPairs(MTFraEng):
        ...     def _download(self):
        ...         return "Go.\tVa !\nGo now.\tVa maintenant."
        >>> data = OwnPairs(batch_size=2, num_train=2)
        >>> source, target, lengths, label = next(iter(data.train_dataloader()))
        >>> source.shape, sorted(lengths.tolist())
        (torch.Size([2, 9]), [3, 4])
    """

    def __init__(self, batch_size: int, num_steps: int = 9, num_train: int = 512, num_val: int = 128) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.arrays, self.src_vocab, self.tgt_vocab = self._build_arrays(self._download())

    @staticmethod
    def tensor(indices: IntArray) -> Tensor:
        """NumPy's indices as a tensor of int64."""
        return torch.from_numpy(indices).long()


class _Arrays(PairArrays):
    """See `d2lrnn.book.translation.PairArrays`."""

    tensor = MTFraEng.tensor
    load_array = staticmethod(load_array)


build_array_nmt, load_data_nmt = _Arrays.build, _Arrays.load
