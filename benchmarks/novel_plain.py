"""PyTorch's own layers in a plain loop on the novel, to compare the library's validation perplexities with.

    python benchmarks/novel_plain.py    # needs PyTorch; prints a line a run: results/novel-plain-torch.txt

The batches are those of benchmarks/novel.py, the initial values are PyTorch's, and both biases of a gate are
trained, as in the book's own package.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from d2lrnn import Batch, SlidingWindows, load_corpus

NUM_EPOCHS = 100
#: Layer and learning rate.
RUNS = [(nn.RNN, 1.0), (nn.LSTM, 4.0), (nn.LSTM, 2.0)]
SEEDS = range(4)


def run(layer: type[nn.RNNBase], rate: float, seed: int) -> Iterator[float]:
    """The validation perplexity after every epoch."""
    torch.manual_seed(seed)
    rnn, head = layer(28, 32), nn.Linear(32, 28)
    parameters = [*rnn.parameters(), *head.parameters()]
    data = SlidingWindows(load_corpus("time-machine"), seed=seed)

    def total_loss(batch: Batch) -> Tensor:
        inputs = one_hot(torch.tensor(batch.inputs.T).long(), 28).float()
        targets = torch.tensor(batch.targets.T).long()
        logits = head(rnn(inputs)[0])
        return cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")

    for epoch in range(1, NUM_EPOCHS + 1):
        for batch in data.train_batches(epoch):
            gradients = torch.autograd.grad(total_loss(batch) / batch.num_tokens, parameters)
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= rate / max(norm, 1.0) * gradient
        with torch.no_grad():
            batches = list(data.validation_batches())
            nats = sum(float(total_loss(batch)) for batch in batches)
        yield math.exp(nats / sum(batch.num_tokens for batch in batches))


if __name__ == "__main__":
    for layer, rate in RUNS:
        for seed in SEEDS:
            perplexities = list(run(layer, rate, seed))
            last = " ".join(f"{value:.3f}" for value in perplexities[-5:])
            print(f"{layer.__name__:<4} rate {rate:g}, seed {seed}: last five epochs {last}, "
                  f"best {min(perplexities):.3f}, 50th {perplexities[49]:.3f}", flush=True)  # fmt: skip
