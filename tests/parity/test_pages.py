"""The tutorial's page on backends: a run of NumPy's goes on here, with the numbers that it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import run_page

from d2lrnn.contract.protocols import Backend

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "6-backends.md"


@pytest.mark.slow
def test_the_page_on_backends_shows_what_comes(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(PAGE)
