"""The benchmark with this backend, and with the framework's own layers: checked, timed, in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2lrnn.benchmark.driver import Entrant, Schedule, run
from d2lrnn.benchmark.markdown import markdown
from d2lrnn.benchmark.settings import find_model, find_setting
from d2lrnn.benchmark.table import gather
from d2lrnn.contract.protocols import Backend

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.mark.slow
def test_a_backend_and_its_frameworks_own_layers(backend: Backend) -> None:
    name, peer = backend.name, PEERS / f"layers_{backend.name}.py"
    entrants = [Entrant(name, "backend", name, name)]
    if peer.exists():
        entrants.append(Entrant(f"{name} layers", "layers", name, str(peer)))
    schedule = Schedule(
        settings=(find_setting("4x5x32"),),
        models=tuple(find_model(model) for model in ("stacked-scratch", "gru-2", "lstm-2")),
        rounds=1, seconds=0.05, min_steps=2, timeout=120.0, target_seconds=0.1, quick=True,
    )  # fmt: skip
    document = run(schedule, entrants)
    for row in document["rows"]:
        assert row["status"] == "ok", row
        assert row["generation"]["characters_per_second"] > 0
    table = gather(document)
    assert len(document["rows"]) == 3 * len(entrants)
    entry = table.entries[name, "4x5x32", "stacked-scratch"]
    assert entry.against_floor() is not None
    assert (table.speed_up(entry, "layers") is not None) == peer.exists()
    assert "stacked-scratch" in markdown(table)
