"""The subjects that a worker loads, counts of products, and measured memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from d2lrnn.benchmark import memory
from d2lrnn.benchmark.products import multiply_adds
from d2lrnn.benchmark.subject import BackendSubject, load_subject
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import SpecError, UnknownBackendError


def test_a_backend_is_a_subject() -> None:
    subject = load_subject("numpy")
    assert isinstance(subject, BackendSubject)
    assert subject.versions() == {"numpy": np.__version__}
    floor = subject.floor(ModelSpec(5, num_hiddens=4), 2, 3, device="cpu")
    assert floor is not None
    floor()


def test_a_file_is_a_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "beside.py").write_text("NAME = 'from beside'\n")
    path = tmp_path / "mine.py"
    path.write_text("import beside\n\ndef subject():\n    return beside.NAME\n")
    assert load_subject(str(path)) == "from beside"  # type: ignore[comparison-overlap]


def test_subjects_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(SpecError, match=r"empty\.py defines no function subject\(\)"):
        load_subject(str(tmp_path / "empty.py"))
    with pytest.raises(SpecError, match="there is no file"):
        load_subject(str(tmp_path / "none.py"))
    with pytest.raises(UnknownBackendError):
        load_subject("abacus")


def test_multiply_adds_by_hand() -> None:
    # B = 2, T = 3, h = 4, V = 10. Forward 3 (2, 4) @ (4, 4), back 2 of them, the weights (4, 6) @ (6, 4);
    # the head three times 6 · 4 · 10.
    assert multiply_adds(ModelSpec(10, num_hiddens=4), 2, 3) == 3 * 32 + 2 * 32 + 96 + 3 * 240
    # A second layer has that again, and (6, 4) @ (4, 4) forward, back and for the weights.
    assert multiply_adds(ModelSpec(10, num_hiddens=4, num_layers=2), 2, 3) == 2 * 256 + 3 * 96 + 3 * 240
    # An LSTM has four times the recurrence and the same head.
    assert multiply_adds(ModelSpec(10, "lstm", num_hiddens=4), 2, 3) == 4 * 256 + 3 * 240


@pytest.mark.skipif(
    memory.peak_megabytes() is None, reason="this system does not tell the memory of a process"
)
@pytest.mark.parametrize("kept", [False, True])
def test_the_peak_is_that_since_the_reset(kept: bool) -> None:
    """In a process of its own: what the allocator keeps, it keeps for all of it."""
    code = (
        "import numpy as np; from d2lrnn import allocator; from d2lrnn.benchmark import memory\n"
        f"{kept} and allocator.keep_freed_memory()\n"
        "held = np.ones(8_000_000); del held  # 64 MB\n"
        "allocator.release_freed_memory(); memory.reset_peak()\n"
        "before = memory.peak_megabytes()\n"
        "held = np.ones(16_000_000); del held  # 128 MB\n"
        "allocator.release_freed_memory()\n"
        "print(before, memory.peak_megabytes(), memory.current_megabytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after, now = map(float, done.stdout.split())
    assert 110 < after - before < 140
    assert now < after - 100


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 512; echo 0", 512.0),
        ("echo No devices were found; exit 6", None),
        ("echo '[N/A]'", None),
        (None, None),
    ],
    ids=["two GPUs", "no GPU", "not told", "no nvidia-smi"],
)
def test_the_memory_of_gpus_is_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, expected: float | None
) -> None:
    if script is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin" if script else str(tmp_path))
    assert memory.device_megabytes() == expected
