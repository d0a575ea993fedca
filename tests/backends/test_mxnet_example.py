"""A model under `gluon.Trainer`."""

from __future__ import annotations

import pytest
from fit_in import check_losses, example, own_losses

import d2lrnn


def test_gluon_trains_a_model_as_the_library_does(capsys: pytest.CaptureFixture[str]) -> None:
    gluon_training = example("gluon_training")
    losses = gluon_training.main()
    batches = [*gluon_training.windows(d2lrnn.load_corpus("sample"))] * 3
    check_losses(losses, own_losses("mxnet", [(x.asnumpy(), y.asnumpy()) for x, y in batches]))
    assert "it has" in capsys.readouterr().out
