"""A run on tokens that are bytes goes on in another framework, and writes text there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from byte_units import UNITS

from d2lrnn.cli.main import main
from d2lrnn.contract.protocols import Backend
from d2lrnn.saving.run_folder import load_run

TEXT = "Ein süßer Fluß fließt hier, and the river goes on and on. " * 40


@pytest.mark.parametrize("unit", UNITS)
def test_a_run_begun_with_the_reference_goes_on_here(
    unit: str,
    backend: Backend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    size = ["--vocab-size", "280"] if unit == "bpe" else []
    how = ["--tokens", unit, *size, "--steps", "4", "--batch-size", "32", "--hidden", "4", "--lr", "0.1"]
    assert main(["train", "text.txt", *how, "--epochs", "1", "--backend", "numpy", "--out", "a"]) == 0
    shutil.copytree("a", "b", symlinks=True)
    assert main(["train", "--resume", "a", "--epochs", "2", "--backend", "numpy"]) == 0
    assert main(["train", "--resume", "b", "--epochs", "2", "--backend", backend.name]) == 0
    ours, theirs = load_run("b"), load_run("a")
    assert ours.vocab == theirs.vocab
    for per in ("char", "byte"):
        expected = theirs.history[1][f"val_bits_per_{per}"]
        assert ours.history[1][f"val_bits_per_{per}"] == pytest.approx(expected, rel=1e-4)
    capsys.readouterr()
    assert main(["generate", "b", "--prefix", "道 ß", "--num", "20", "--backend", backend.name]) == 0
    assert capsys.readouterr().out.startswith("道 ß")
