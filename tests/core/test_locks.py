"""One process at a time trains in a folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from d2lrnn.cli.main import main
from d2lrnn.errors import BusyError, RunError
from d2lrnn.saving.locks import LOCK, locked

HOLD = (
    "import sys; from pathlib import Path; from d2lrnn.saving.locks import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


def _holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds a folder, until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_error_of_the_second_process_names_the_one_that_holds_the_folder(tmp_path: Path) -> None:
    with _holder(tmp_path) as other:
        message = rf"^{re.escape(str(tmp_path))} is in use by process {other.pid} on \S+: wait until it ends"
        with pytest.raises(BusyError, match=message), locked(tmp_path):
            pass
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} ")
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_a_dead_process_does_not_hold(tmp_path: Path) -> None:
    with _holder(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / LOCK).read_text().startswith(f"{other.pid} ")
        with locked(tmp_path):
            with locked(tmp_path):
                pass
            assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} ")
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_file_of_the_users_is_not_written_to(tmp_path: Path, kind: str) -> None:
    mine = tmp_path / LOCK
    if kind == "folder":
        mine.mkdir()
    else:
        (tmp_path / "mine").write_text("my notes")
        (mine.symlink_to if kind == "link" else mine.hardlink_to)(tmp_path / "mine")
    with pytest.raises(RunError, match=re.escape(LOCK)), locked(tmp_path):
        pass
    assert kind == "folder" or (tmp_path / "mine").read_text() == "my notes"


def test_two_trainings_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--hidden", "4", "--num-train", "64", "--num-val", "32", "--batch-size", "32"]
    out = tmp_path / "run"
    assert main([*words, "--epochs", "1", "--out", str(out)]) == 0
    before = sorted(path.name for path in out.iterdir())
    with _holder(out) as other:
        for more in (["--out", str(out), "--overwrite"], ["--resume", str(out), "--epochs", "2"]):
            capsys.readouterr()
            assert main([*(words if "--out" in more else words[:1]), *more]) == 2
            assert f"is in use by process {other.pid}" in capsys.readouterr().err
        assert sorted(path.name for path in out.iterdir() if path.name != LOCK) == before
    assert main(["train", "--resume", str(out), "--epochs", "2"]) == 0
