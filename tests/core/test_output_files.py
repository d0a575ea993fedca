"""The targets of ``--json`` and similar options: files, links, pipes, devices and standard output."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from d2lrnn.atomic_files import write_atomically
from d2lrnn.cli.main import main
from d2lrnn.cli.output_files import check_writable, replaceable_file, write_json, write_output
from d2lrnn.errors import RunError

QUICK = ["train", "--epochs", "1", "--num-train", "64", "--hidden", "4", "--batch-size", "8", "--steps", "4"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    target, link = tmp_path / "kept" / "result.json", tmp_path / "link"
    target.parent.mkdir()
    for content in (b"first", b"second"):  # the link dangles at first
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        check_writable("--json", str(link))
        write_output("--json", str(link), content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "link"]


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_the_mode_of_a_file_stays(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "result.json"
    file.write_text("before")
    file.chmod(mode)
    write_output("--json", str(file), b"after")
    assert file.read_bytes() == b"after"
    assert stat.S_IMODE(file.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_gets_what_a_file_would(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    check_writable("--json", str(pipe))
    write_json(str(pipe), {"perplexity": 2.5})
    reader.join(10)
    assert json.loads(read[0]) == {"perplexity": 2.5}
    assert stat.S_ISFIFO(pipe.stat().st_mode), "it is not replaced"


def test_a_device_stays_a_device() -> None:
    check_writable("--json", os.devnull)
    assert replaceable_file(os.devnull) is None
    write_output("--json", os.devnull, b"content")
    assert not Path(os.devnull).is_file()


def test_a_file_in_a_folder_that_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be replaced, but it can be written to."""
    file = tmp_path / "result.json"
    file.write_text("what was there before")
    number = file.stat().st_ino
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    check_writable("--json", str(file))
    write_output("--json", str(file), b"after")
    assert file.read_bytes() == b"after"
    assert file.stat().st_ino == number
    with pytest.raises(RunError, match="you may not write to the folder"):
        check_writable("--json", str(tmp_path / "new.json"))


def test_standard_output_has_the_result_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--json", "-"]) == 0
    printed, log = capfd.readouterr()
    assert json.loads(printed)["epochs"]
    assert "perplexity" in log


def test_only_one_result_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--json", "-", "--html", "-"]) == 2
    printed, log = capsys.readouterr()
    assert printed == ""
    assert log == "d2lrnn: only one result can go to standard output: name a file for the others\n"


def test_an_empty_path_names_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--json", ""]) == 2
    assert capsys.readouterr().err == "d2lrnn: --json needs the name of a file, or - for standard output\n"


def test_a_file_that_is_made_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "new", b"content")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
