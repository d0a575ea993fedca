"""Batches of rows of tensors that lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset


def load_array(
    data_arrays: Sequence[Tensor], batch_size: int, is_train: bool = True
) -> DataLoader[tuple[Tensor, ...]]:
    """Batches of rows that belong together, each a list of tensors.

    Args:
        data_arrays: tensors of shapes (N, …), also views: only the batch is copied, never all rows.
        batch_size: B; the last batch has what is left.
        is_train: whether to shuffle the rows, in another order in every epoch.

    Example:
        >>> X, y = arange(6).reshape(3, 2), arange(3)
        >>> batches = load_array((X, y), batch_size=2, is_train=False)
        >>> [[rows.tolist() for rows in batch] for batch in batches]
        [[[[0, 1], [2, 3]], [0, 1]], [[[4, 5]], [2]]]
    """
    dataset = TensorDataset(*data_arrays)
    order = RandomSampler(dataset) if is_train else SequentialSampler(dataset)
    # One look-up for a batch, not one for every row; and a list, as PyTorch's own batches are.
    sampler = BatchSampler(order, batch_size, False)
    return DataLoader(dataset, sampler=sampler, batch_size=None, collate_fn=list)
