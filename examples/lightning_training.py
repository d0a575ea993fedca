"""A language model of d2lrnn in PyTorch Lightning: ``pip install pytorch-lightning``, then run this file."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import d2lrnn


class LanguageModel(pl.LightningModule):
    """Any model of the backend torch: an `nn.Module` from tokens (B, T) to logits (B, T, V)."""

    def __init__(self, model: torch.nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.model, self.learning_rate = model, learning_rate

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        tokens, targets = batch
        loss = cross_entropy(self.model(tokens).flatten(0, 1), targets.flatten())
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


def windows(corpus: d2lrnn.Corpus, num_windows: int = 320, num_steps: int = 16) -> DataLoader:
    rows = np.lib.stride_tricks.sliding_window_view(corpus.tokens, num_steps + 1)[:num_windows]
    rows = torch.from_numpy(rows.astype(np.int64))
    return DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), batch_size=32)


def main(num_epochs: int = 3, **options: object) -> LanguageModel:
    corpus = d2lrnn.load_corpus("sample")
    spec = d2lrnn.ModelSpec(len(corpus.vocab), "gru", "concise", num_hiddens=32)
    model = d2lrnn.backend("torch").build(spec, d2lrnn.initial_parameters(spec))
    module = LanguageModel(model.train(), learning_rate=1.0)
    trainer = pl.Trainer(
        max_epochs=num_epochs, gradient_clip_val=0.5, log_every_n_steps=10, accelerator="cpu", **options
    )
    trainer.fit(module, windows(corpus))
    print(model.predict("it has", 20, corpus.vocab))
    return module


if __name__ == "__main__":
    main()
