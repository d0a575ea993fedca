"""A model in a training step of one's own, with optax."""

from __future__ import annotations

import pytest
from fit_in import check_losses, example, own_losses

import d2lrnn


def test_optax_trains_a_model_as_the_library_does(capsys: pytest.CaptureFixture[str]) -> None:
    optax_training = example("optax_training")
    losses = optax_training.main()
    batches = [*optax_training.windows(d2lrnn.load_corpus("sample"))] * 3
    check_losses(losses, own_losses("jax", batches))
    assert "it has" in capsys.readouterr().out
