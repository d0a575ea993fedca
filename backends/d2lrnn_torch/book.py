"""The book's current edition on PyTorch: data and trainer; what the tabs share is in `d2lrnn.book`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from d2lrnn.book import current_edition as book
from d2lrnn_torch.devices import full_precision, gpu, num_gpus
from d2lrnn_torch.gradients import clip
from d2lrnn_torch.loaders import load_array


class DataModule(book.DataModule):
    """Data as two loaders; see `d2lrnn.book.current_edition.DataModule`."""

    def get_tensorloader(
        self, tensors: Sequence[Tensor], train: bool, indices: slice | Sequence[int] = slice(0, None)
    ) -> DataLoader[tuple[Tensor, ...]]:
        """Batches of ``self.batch_size`` rows, each a list of tensors.

        Args:
            tensors: of shapes (N, …), also views: only the batch is copied, never all rows.
            train: whether to shuffle the rows, in another order in every epoch.
            indices: which rows.
        """
        return load_array([tensor[indices] for tensor in tensors], self.batch_size, train)


class TimeMachine(book.NovelWindows, DataModule):
    """The windows of the novel *The Time Machine*; see `d2lrnn.book.current_edition.NovelWindows`.

    Windows are views of the text.

    Example:
        >>> data = TimeMachine(batch_size=1024, num_steps=32)
        >>> X, Y = next(iter(data.train_dataloader()))
        >>> X.shape, len(data.vocab)
        (torch.Size([1024, 32]), 28)
    """

    def __init__(self, batch_size: int, num_steps: int, num_train: int = 10000, num_val: int = 5000) -> None:
        super().__init__()
        self.save_hyperparameters()
        corpus, self.vocab = self.build(self._download())
        windows = torch.from_numpy(self.check_windows(corpus)).unfold(0, num_steps + 1, 1)
        self.X, self.Y = windows[:, :-1], windows[:, 1:]


class Trainer(book.Trainer):
    """Trains a `Module` on a `DataModule`; see `d2lrnn.book.current_edition.Trainer`.

    Example:
        >>> data = TimeMachine(batch_size=1024, num_steps=32)
        >>> model = RNNLMScratch(RNNScratch(len(data.vocab), 32), len(data.vocab), lr=1)
        >>> Trainer(max_epochs=2, gradient_clip_val=1).fit(model, data)
    """

    def __init__(self, max_epochs: int, num_gpus: int = 0, gradient_clip_val: float = 0) -> None:
        super().__init__(max_epochs, num_gpus, gradient_clip_val)
        self.gpus = _first_gpus(num_gpus)
        self.device = self.gpus[0] if self.gpus else torch.device("cpu")

    def prepare_model(self, model: Any) -> None:
        """Moves the model to its device; lazy layers learn their sizes from a batch."""
        super().prepare_model(model)
        model.to(self.device)
        if any(is_lazy(parameter) for parameter in model.parameters()):
            batch = self.prepare_batch(next(iter(self.val_dataloader or self.train_dataloader)))
            with torch.no_grad():
                model(*batch[:-1])

    def prepare_batch(self, batch: Sequence[Tensor]) -> Sequence[Tensor]:
        """Moves a batch to the model's device."""
        return [tensor.to(self.device) for tensor in batch]

    def clip_gradients(self, grad_clip_val: float, model: nn.Module) -> None:
        """Scales the gradient down to a norm of at most `grad_clip_val`."""
        clip(model.parameters(), grad_clip_val)

    def update(self, batch: Sequence[Tensor]) -> Tensor:
        """Loss, gradient, clip, update."""
        self.model.train()
        with full_precision(self.device):
            loss = self.model.training_step(self.prepare_batch(batch))
            self.optim.zero_grad()
            loss.backward()
        with torch.no_grad():
            if self.gradient_clip_val > 0:
                self.clip_gradients(self.gradient_clip_val, self.model)
            self.optim.step()
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, batch: Sequence[Tensor]) -> Tensor | None:
        """The loss, without gradients or dropout."""
        self.model.eval()
        with full_precision(self.device):
            return self.model.validation_step(self.prepare_batch(batch))

    def copy_parameters(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def put_back_parameters(self, parameters: dict[str, Tensor]) -> None:
        """Copies them back into the model."""
        self.model.load_state_dict(parameters)


def _first_gpus(most: int) -> list[torch.device]:
    return [gpu(i) for i in range(min(most, num_gpus()))]


def seed_everything(seed: int) -> None:
    """Seeds PyTorch's random number generators."""
    torch.manual_seed(seed)
