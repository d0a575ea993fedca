"""A language model of d2lrnn under Keras' ``compile`` and ``fit``."""

from __future__ import annotations

import keras
import numpy as np

import d2lrnn


def windows(
    corpus: d2lrnn.Corpus, num_windows: int = 320, num_steps: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.lib.stride_tricks.sliding_window_view(corpus.tokens, num_steps + 1)[:num_windows]
    rows = rows.astype(np.int32)
    return rows[:, :-1], rows[:, 1:]


def main(num_epochs: int = 3, verbose: int | str = "auto") -> keras.callbacks.History:
    corpus = d2lrnn.load_corpus("sample")
    spec = d2lrnn.ModelSpec(len(corpus.vocab), "gru", "concise", num_hiddens=32)
    # Any model of the backend tensorflow: a `keras.Model` from tokens (B, T) to logits (B, T, V).
    model = d2lrnn.backend("tensorflow").build(spec, d2lrnn.initial_parameters(spec))
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate=1.0, global_clipnorm=0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    tokens, targets = windows(corpus)
    history = model.fit(tokens, targets, batch_size=32, epochs=num_epochs, shuffle=False, verbose=verbose)
    # `predict` of the library's models is the book's, which writes text.
    print(model.predict("it has", 20, corpus.vocab))
    return history


if __name__ == "__main__":
    main()
