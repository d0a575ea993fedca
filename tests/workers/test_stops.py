"""One worker asks to stop, and all do so after the same step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from d2lrnn.workers.supervisor import Outcome


@pytest.mark.of_the_core
def test_all_stop_after_the_same_step(start: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = start("workers.worker_of_stops", 2, {"folder": str(tmp_path)})
    assert outcome.code == 0, (outcome.message, *outcome.detail)
    one, other = (json.loads((tmp_path / f"results-{rank}").read_text()) for rank in range(2))
    assert one == other
    (ended, step, num_epochs, norms), (ended_with_epoch, whole, num_whole, _) = one
    assert (ended, num_epochs) == ("stopped", 0)
    assert 3 <= step <= 5
    assert len(norms) == 1
    assert norms[0] > 0
    # Asked after an epoch, no step of the next one is begun.
    assert (ended_with_epoch, num_whole) == ("stopped", 1)
    assert whole > 5
