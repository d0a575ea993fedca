"""The page on layers that move between frameworks, whose layers are PyTorch's."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import run_page

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "move-a-layer.md"


# PyTorch says so of its own layers.
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_layers_move_as_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(PAGE)
