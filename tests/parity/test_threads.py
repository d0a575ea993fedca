"""One learner in several threads: what each of them gets is what it gets alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from parity.models import REPRESENTATIVE, drawn_batch, drawn_parameters, name_of, resized

from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.generation import generate

VOCAB = Vocab("abcdefghij")
PREFIXES = ["a", "bc", "def", "ghij", "aj", "ja"]
LENGTH = 60


def _learner(backend: Backend, spec: ModelSpec, training: TrainingSpec | None = None) -> Learner:
    model = backend.build(spec, drawn_parameters(spec))
    return backend.learner(model, training or TrainingSpec(), device="cpu")


@pytest.mark.parametrize("spec", REPRESENTATIVE, ids=name_of)
def test_threads_write_what_one_writes(backend: Backend, spec: ModelSpec) -> None:
    # Large enough that a step is no single moment, in which no other thread gets a turn.
    learner = _learner(backend, resized(spec, 64))
    alone = [generate(learner, VOCAB, prefix, LENGTH, temperature=1.0) for prefix in PREFIXES]
    begin = Barrier(len(PREFIXES))

    def write(prefix: str) -> str:
        begin.wait(timeout=60)
        return generate(learner, VOCAB, prefix, LENGTH, temperature=1.0)

    with ThreadPoolExecutor(len(PREFIXES)) as threads:
        assert list(threads.map(write, PREFIXES)) == alone
        # A first step that compiles, in all threads at once.
        learner = _learner(backend, resized(spec, 64))
        assert list(threads.map(write, PREFIXES)) == alone


def test_a_thread_that_evaluates_disturbs_none_that_trains(backend: Backend) -> None:
    """Training is the sequence of its own steps, whatever other threads ask for in the meantime."""
    spec = ModelSpec(11, "gru", "concise", 32, num_layers=2, dropout=0.2)
    training = TrainingSpec(learning_rate=0.5, seed=3)
    batches = [drawn_batch(spec, batch_size=4, num_steps=8, seed=number) for number in range(12)]

    def train(learner: Learner) -> None:
        for batch in batches:
            learner.train_step(batch, learner.initial_state(4))

    alone, together = _learner(backend, spec, training), _learner(backend, spec, training)
    train(alone)
    done = []

    def evaluate(number: int) -> int:
        count = 0
        while not done or count == 0:
            learner_state = together.initial_state(2)
            together.predict_step(np.array([number, 1], np.int32), learner_state)
            together.eval_step(drawn_batch(spec, batch_size=3, num_steps=5), together.initial_state(3))
            count += 1
        return count

    with ThreadPoolExecutor(3) as threads:
        others = [threads.submit(evaluate, number) for number in range(2)]
        try:
            threads.submit(train, together).result(timeout=300)
        finally:
            done.append(True)
        assert all(other.result(timeout=300) > 0 for other in others)
    expected = alone.export_parameters()
    for name, value in together.export_parameters().items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
