"""A language model of d2lrnn, a gluon block, under `gluon.Trainer`."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import d2lrnn


def windows(corpus: d2lrnn.Corpus, num_windows: int = 320, num_steps: int = 16) -> gluon.data.DataLoader:
    rows = np.lib.stride_tricks.sliding_window_view(corpus.tokens, num_steps + 1)[:num_windows]
    rows = mx.np.array(rows, dtype="int32")
    return gluon.data.DataLoader(gluon.data.ArrayDataset(rows[:, :-1], rows[:, 1:]), batch_size=32)


def main(num_epochs: int = 3) -> list[float]:
    mx.npx.set_np()  # the models compute on mx.np arrays
    corpus = d2lrnn.load_corpus("sample")
    spec = d2lrnn.ModelSpec(len(corpus.vocab), "gru", "concise", num_hiddens=32)
    # Any model of the backend mxnet: a block from tokens (B, T) to logits (B, T, V).
    model = d2lrnn.backend("mxnet").build(spec, d2lrnn.initial_parameters(spec))
    parameters = model.collect_params()
    trainer = gluon.Trainer(parameters, "sgd", {"learning_rate": 1.0})
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    losses = []
    for epoch in range(1, num_epochs + 1):
        for tokens, targets in windows(corpus):
            with autograd.record():
                loss = loss_of(model(tokens), targets).mean()
            loss.backward()
            gradients = [p.grad().as_nd_ndarray() for p in parameters.values() if p.grad_req != "null"]
            gluon.utils.clip_global_norm(gradients, max_norm=0.5)
            trainer.step(batch_size=1)  # the loss is a mean already
            losses.append(float(loss))
        print(f"epoch {epoch}  loss {losses[-1]:.3f}")
    print(model.predict("it has", 20, corpus.vocab))
    return losses


if __name__ == "__main__":
    main()
