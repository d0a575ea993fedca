"""The page about two models that should be one, whose modules are PyTorch's."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import run_page

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "explain-a-difference.md"


def test_the_page_shows_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(PAGE)
