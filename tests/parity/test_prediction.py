"""Prediction and evaluation: the function of training, with dropout off and no parameter changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity.models import REPRESENTATIVE, drawn_batch, learners, name_of

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.vocabulary import UNKNOWN, Vocab
from d2lrnn.generation import beam_search, generate, stream
from d2lrnn.report.reading import read

DROPPING = ModelSpec(11, "gru", "concise", 16, num_layers=2, dropout=0.5)


@pytest.mark.parametrize("spec", [*REPRESENTATIVE, DROPPING], ids=name_of)
def test_step_by_step_is_the_whole_sequence(backend: Backend, reference: Backend, spec: ModelSpec) -> None:
    learner, judge = learners(backend, reference, spec, TrainingSpec())
    batch = drawn_batch(spec, batch_size=3, num_steps=6)
    state, judge_state = learner.initial_state(3), judge.initial_state(3)
    nats = 0.0
    for t in range(6):
        logits, state = learner.predict_step(batch.inputs[:, t].copy(), state)
        expected, judge_state = judge.predict_step(batch.inputs[:, t].copy(), judge_state)
        assert isinstance(logits, np.ndarray)
        assert logits.shape == (3, 11)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6)
        exact = logits.astype(np.float64)
        log_sum = np.log(np.exp(exact).sum(axis=1))
        nats += float((log_sum - exact[np.arange(3), batch.targets[:, t]]).sum())
    loss, final = learner.eval_step(batch, learner.initial_state(3))
    assert float(loss) == pytest.approx(nats / 18, rel=1e-6)
    for part, other in zip(learner.export_state(final), learner.export_state(state), strict=True):
        np.testing.assert_allclose(part, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("spec", [*REPRESENTATIVE, DROPPING], ids=name_of)
def test_what_a_report_paints_agrees(backend: Backend, reference: Backend, spec: ModelSpec) -> None:
    learner, judge = learners(backend, reference, spec, TrainingSpec())
    tokens = drawn_batch(spec, batch_size=2, num_steps=9).inputs
    ours, expected = read(learner, tokens), read(judge, tokens)
    np.testing.assert_allclose(ours.bits, expected.bits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.hiddens, expected.hiddens, rtol=0, atol=1e-6)
    for mine, theirs in zip(ours.guesses, expected.guesses, strict=True):
        assert [each.probability for each in mine] == pytest.approx([each.probability for each in theirs])


def test_dropout_is_on_in_training_alone(backend: Backend, reference: Backend) -> None:
    learner, judge = learners(backend, reference, DROPPING, TrainingSpec(learning_rate=1e-9))
    batch = drawn_batch(DROPPING, batch_size=8, num_steps=12)
    state = learner.initial_state(8)
    evaluated = float(learner.eval_step(batch, state)[0])
    first = float(learner.train_step(batch, state)[0].loss)
    second = float(learner.train_step(batch, state)[0].loss)
    assert abs(first - evaluated) > 1e-4
    assert abs(first - second) > 1e-4, "every step draws masks of its own"
    # After training steps, evaluation, prediction and gradients still drop nothing.
    assert float(learner.eval_step(batch, state)[0]) == pytest.approx(evaluated, rel=1e-6)
    assert learner.gradients(batch, state)[0] == pytest.approx(evaluated, rel=1e-6)
    expected = float(judge.eval_step(batch, judge.initial_state(8))[0])
    assert evaluated == pytest.approx(expected, rel=1e-6)


def test_dropout_is_never_after_the_last_layer(backend: Backend, reference: Backend) -> None:
    """With one layer there is no place between layers: the rate must change nothing."""
    spec = ModelSpec(11, "lstm", "concise", 8, dropout=0.9)
    learner, _ = learners(backend, reference, spec, TrainingSpec())
    batch = drawn_batch(spec, batch_size=4, num_steps=5)
    evaluated = float(learner.eval_step(batch, learner.initial_state(4))[0])
    trained = float(learner.train_step(batch, learner.initial_state(4))[0].loss)
    assert trained == pytest.approx(evaluated, rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 7}], ids=["greedy", "sampled"])
@pytest.mark.parametrize("spec", [*REPRESENTATIVE, DROPPING], ids=name_of)
def test_a_batch_of_prefixes_gives_the_texts_of_each(
    backend: Backend, reference: Backend, spec: ModelSpec, options: dict[str, Any]
) -> None:
    learner, judge = learners(backend, reference, spec, TrainingSpec())
    vocab = Vocab("abcdefghij")
    prefixes = ["a", "bcd", "jihgfedc", "a", "ab"]
    texts = generate(learner, vocab, prefixes, 25, **options)
    assert texts == [generate(learner, vocab, prefix, 25, **options) for prefix in prefixes]
    assert texts == generate(judge, vocab, prefixes, 25, **options)


@pytest.mark.parametrize("spec", [*REPRESENTATIVE, DROPPING], ids=name_of)
def test_a_seed_gives_the_same_text_in_every_way(
    backend: Backend, reference: Backend, spec: ModelSpec
) -> None:
    learner, judge = learners(backend, reference, spec, TrainingSpec())
    vocab = Vocab("abcdefghij")
    options: dict[str, Any] = {"temperature": 1.2, "top_k": 8, "top_p": 0.95, "forbid": [UNKNOWN]}
    texts = generate(learner, vocab, ["abc", "j"], 25, seed=5, samples=6, **options)
    assert texts == generate(judge, vocab, ["abc", "j"], 25, seed=5, samples=6, **options)
    assert not any(UNKNOWN in text for of_prefix in texts for text in of_prefix)
    for number, text in enumerate(texts[0]):
        assert "".join(stream(learner, vocab, "abc", 25, seed=5 + number, **options)) == text


@pytest.mark.parametrize("spec", [*REPRESENTATIVE, DROPPING], ids=name_of)
def test_beam_search_finds_the_text_that_the_reference_finds(
    backend: Backend, reference: Backend, spec: ModelSpec
) -> None:
    learner, judge = learners(backend, reference, spec, TrainingSpec())
    vocab = Vocab("abcdefghij")
    for beam in (1, 4, 15):
        found = beam_search(learner, vocab, ["abc", "j"], 20, beam=beam, forbid=[UNKNOWN])
        assert found == beam_search(judge, vocab, ["abc", "j"], 20, beam=beam, forbid=[UNKNOWN])
    greedy = beam_search(learner, vocab, ["abc", "j"], 20, beam=1)
    assert greedy == generate(learner, vocab, ["abc", "j"], 20)


def test_evaluation_learns_nothing(backend: Backend, reference: Backend) -> None:
    learner, _ = learners(backend, reference, DROPPING, TrainingSpec())
    before = learner.export_parameters()
    batch = drawn_batch(DROPPING, batch_size=2, num_steps=4)
    learner.eval_step(batch, learner.initial_state(2))
    learner.predict_step(batch.inputs[:, 0].copy(), learner.initial_state(2))
    for name, value in learner.export_parameters().items():
        np.testing.assert_array_equal(value, before[name])
    assert learner.step == 0
