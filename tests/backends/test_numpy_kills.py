"""Training on NumPy is killed a hundred times and loses nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kills


def test_a_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, kills.__file__, str(tmp_path / "run"), "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "100 kills, " in done.stdout
