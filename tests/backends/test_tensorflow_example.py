"""A model under Keras' `fit`."""

from __future__ import annotations

import numpy as np
import pytest
from fit_in import check_losses, example, own_losses

import d2lrnn


def test_keras_fits_a_model_as_the_library_does(capsys: pytest.CaptureFixture[str]) -> None:
    keras_fit = example("keras_fit")
    history = keras_fit.main(verbose=0)
    tokens, targets = keras_fit.windows(d2lrnn.load_corpus("sample"))
    batches = [*zip(np.split(tokens, 10), np.split(targets, 10), strict=True)] * 3
    # Keras reports the mean of an epoch.
    own = np.mean(np.reshape(own_losses("tensorflow", batches), (3, 10)), axis=1)
    check_losses(history.history["loss"], own.tolist())
    assert "it has" in capsys.readouterr().out
