"""A language model of d2lrnn, a flax module, in a training step of one's own with optax."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
import optax

import d2lrnn


def windows(
    corpus: d2lrnn.Corpus, num_windows: int = 320, num_steps: int = 16
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rows = np.lib.stride_tricks.sliding_window_view(corpus.tokens, num_steps + 1)[:num_windows]
    for batch in np.split(rows.astype(np.int32), num_windows // 32):
        yield batch[:, :-1], batch[:, 1:]


def main(num_epochs: int = 3) -> list[float]:
    corpus = d2lrnn.load_corpus("sample")
    spec = d2lrnn.ModelSpec(len(corpus.vocab), "gru", "concise", num_hiddens=32)
    # Any model of the backend jax: a `flax.linen.Module` from tokens (B, T) to logits (B, T, V).
    model, variables = d2lrnn.backend("jax").build(spec, d2lrnn.initial_parameters(spec)).unbind()
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(learning_rate=1.0))

    @jax.jit
    def training_step(params, optimizer_state, tokens, targets):
        def loss_of(params):
            logits = model.apply({"params": params}, tokens)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state)
        return optax.apply_updates(params, updates), optimizer_state, loss

    params, losses = variables["params"], []
    optimizer_state = optimizer.init(params)
    for epoch in range(1, num_epochs + 1):
        for tokens, targets in windows(corpus):
            params, optimizer_state, loss = training_step(params, optimizer_state, tokens, targets)
            losses.append(float(loss))
        print(f"epoch {epoch}  loss {losses[-1]:.3f}")
    print(model.predict("it has", 20, corpus.vocab, params))
    return losses


if __name__ == "__main__":
    main()
