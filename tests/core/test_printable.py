"""Whatever a file or a server holds, a terminal that shows it is not steered by it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import hostile
import pytest

from d2lrnn.cli.main import main
from d2lrnn.cli.streams import in_one_line, printable
from d2lrnn.data import time_machine

#: Sets the title of a window, colours, moves the cursor, turns the direction of what follows.
HOSTILE = "\x1b]0;owned\x07\x1b[31m\x9b2J\x08\x00\x7f\u202e\u2066"
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

#: A text of which every character comes from it.
TEXT = "\x1b[31m\x9b\u202e\r\n" * 200


def _run(*argv: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "d2lrnn", *argv], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    return (done.stdout + done.stderr).decode()


def test_what_steers_is_shown_and_lines_stay() -> None:
    assert printable("a\tb\nc\x1b\r\x85\u202e\u2069é😀\u200f") == (
        "a\tb\nc\\x1b\\r\\x85\\u202e\\u2069é😀\u200f"
    )
    assert in_one_line("a\tb\nc\x1b") == "a\\tb\\nc\\x1b"
    everything = "".join(map(chr, range(0x3000)))
    assert not STEERING.search(printable(everything))


def test_texts_names_and_saved_runs(tmp_path: Path) -> None:
    text, run = tmp_path / f"na{HOSTILE[:3]}me.txt", tmp_path / "run"
    text.write_text(TEXT, encoding="utf-8", newline="")
    options = ["--steps", "4", "--batch-size", "16", "--hidden", "4", "--epochs", "1"]
    result = tmp_path / "result.json"
    shown = [_run("train", text, *options, "--out", run, "--json", result)]
    assert "sample" in shown[0]
    checkpoint = (run / "latest").resolve()
    document: dict[str, Any] = json.loads((checkpoint / "run.json").read_text("utf-8"))
    document |= {"backend": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    (checkpoint / "run.json").write_text(json.dumps(document), "utf-8")
    hostile.seal(checkpoint)
    shown += [
        _run("evaluate", run),
        _run("generate", run, "--json", tmp_path / "generated.json"),
        _run("train", "--resume", run, "--epochs", "2"),
        _run("train", tmp_path / HOSTILE.replace("\x00", "")),
        _run("generate", tmp_path / "no\nrun\x1b"),
        _run("train", "--cell", HOSTILE.replace("\x00", "")),
    ]
    for output in shown:
        assert not STEERING.search(output), output
    assert "\\x1b]0;owned\\x07\\x1b[31m" in shown[1]
    assert shown[5].count("\n") == 1
    # What another program reads is exact.
    generated = json.loads((tmp_path / "generated.json").read_text())["text"]
    assert set(generated.replace("<unk>", "")) <= set(TEXT)
    assert len(STEERING.findall(generated)) > 10


def test_a_server_s_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with server.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 500 \x1b[31mred\x9b\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    monkeypatch.setattr(time_machine, "TIME_MACHINE_URL", f"http://127.0.0.1:{server.getsockname()[1]}/")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("D2LRNN_DATA", raising=False)
    assert main(["train", "time-machine"]) == 2
    thread.join()
    server.close()
    log = capsys.readouterr().err
    assert "\\x1b[31mred" in log
    assert not STEERING.search(log)


def test_what_a_cell_prints_and_what_it_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, result = tmp_path / "chapter.md", tmp_path / "result.json"
    cell = "x = '\x1b[2J'\nprint('\\x1b[31mred')\nprint('\\r10%', end='')\nprint('\\r20%')\n'\\x1b'"
    path.write_text(f"```{{.python .input}}\n#@tab numpy\n{cell}\n```\n", encoding="utf-8")
    assert main(["chapter", str(path), "--tab", "numpy", "--json", str(result)]) == 0
    printed = capsys.readouterr().out
    assert "line 2: x = '\\x1b[2J'\n" in printed
    assert "\\x1b[31mred\n" in printed
    assert "\r10%\r20%\n" in printed
    assert not STEERING.search(printed.replace("\r", ""))
    assert json.loads(result.read_text())[0]["printed"] == "\x1b[31mred\n\r10%\r20%\n"
