"""The page that loads a run into plain PyTorch, without the library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import python_of

import d2lrnn
from d2lrnn.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "plain-torch.md"


def test_ten_lines_load_a_run_into_plain_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--epochs", "1", "--num-train", "200", "--num-val", "100", "--batch-size", "50"]
    command = ["--cell", "gru", "--impl", "concise", "--lr", "2"]
    assert main(["train", *command, *small, "--out", "runs/gru"]) == 0
    assert f"d2lrnn train {' '.join(command)} " in PAGE.read_text(encoding="utf-8")
    (block,) = python_of(PAGE)
    assert len(block.splitlines()) <= 10
    after = """
import sys
logits, H = gru(torch.eye(V)[torch.tensor([[3], [1], [4]])])
torch.save((head(logits).detach(), H.detach()), "plain.pt")
assert not [name for name in sys.modules if name.startswith("d2lrnn")]
"""
    done = subprocess.run([sys.executable, "-c", block + after], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

    import torch

    plain_logits, plain_H = torch.load("plain.pt")
    backend = d2lrnn.backend("torch")
    learner = backend.learner(d2lrnn.load("runs/gru/best", "torch"), d2lrnn.TrainingSpec(), device="cpu")
    state = learner.initial_state(1)
    for t, token in enumerate([3, 1, 4]):
        logits, state = learner.predict_step(np.array([token], np.int32), state)
        np.testing.assert_allclose(plain_logits[t].numpy(), logits, rtol=0, atol=1e-6)
    np.testing.assert_allclose(plain_H.numpy(), learner.export_state(state)[0], rtol=0, atol=1e-6)
