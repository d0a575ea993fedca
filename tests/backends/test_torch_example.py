"""A model in PyTorch Lightning."""

from __future__ import annotations

from typing import Any

import pytest
from fit_in import check_losses, example, own_losses

import d2lrnn


# Lightning gives advice on loaders and machines, and uses what PyTorch is to drop.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_lightning_trains_a_model_as_the_library_does(capsys: pytest.CaptureFixture[str]) -> None:
    lightning = example("lightning_training")
    losses = []

    class Losses(lightning.pl.Callback):  # type: ignore[misc]  # of a module loaded by its path
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, number: int
        ) -> None:
            losses.append(float(outputs["loss"]))

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning.main(callbacks=[Losses()], enable_model_summary=False, **quiet)
    batches = [*lightning.windows(d2lrnn.load_corpus("sample"))] * 3
    check_losses(losses, own_losses("torch", batches))
    assert capsys.readouterr().out.startswith("it has")
