"""``d2lrnn generate``: several texts, streams, beam search, and what does not go together."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.cli import generate as command
from d2lrnn.cli.live_text import write_live
from d2lrnn.cli.main import main
from d2lrnn.data.vocabulary import UNKNOWN

QUICK = ["--epochs", "1", "--num-train", "600", "--num-val", "200", "--batch-size", "128", "--steps", "16"]


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs") / "saved"
    assert main(["train", *QUICK, "--out", str(folder)]) == 0
    return str(folder)


def test_samples_are_single_runs_with_a_line_between(
    capsys: pytest.CaptureFixture[str], saved: str, tmp_path: Path
) -> None:
    result = tmp_path / "texts.json"
    argv = ["generate", saved, "--prefix", "the", "--prefix", "it has", "--num", "20"]
    code, printed, log = _run(capsys, *argv, "--samples", "3", "--seed", "4", "--json", str(result))
    assert (code, log) == (0, "")
    single = [
        _run(capsys, "generate", saved, "--prefix", prefix, "--num", "20", "--seed", str(seed))[1]
        for prefix in ("the", "it has")
        for seed in (4, 5, 6)
    ]
    assert printed == "--\n".join(single)
    assert len(set(single)) == 6
    document = json.loads(result.read_text())
    assert list(document) == ["texts", "backend", "versions"]
    assert [(each["prefix"], each["seed"]) for each in document["texts"]] == [
        (prefix, seed) for prefix in ("the", "it has") for seed in (4, 5, 6)
    ]
    assert [each["text"] + "\n" for each in document["texts"]] == single


def test_one_text_is_printed_alone(capsys: pytest.CaptureFixture[str], saved: str, tmp_path: Path) -> None:
    result = tmp_path / "text.json"
    code, printed, _ = _run(capsys, "generate", saved, "--num", "20", "--json", str(result))
    assert code == 0
    document = json.loads(result.read_text())
    assert list(document) == ["text", "prefix", "backend", "versions"]
    assert printed == document["text"] + "\n"


def test_prefixes_of_a_file(
    capsys: pytest.CaptureFixture[str], saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "\ufeffthe\r\n\n  \nin a dream ".encode()
    (tmp_path / "beginnings.txt").write_bytes(lines)
    beginnings = str(tmp_path / "beginnings.txt")
    argv = ["generate", saved, "--num", "9", "--temperature", "0", "--prefix", "it"]
    code, printed, _ = _run(capsys, *argv, "--prefixes", beginnings)
    assert code == 0
    texts = printed.split("\n--\n")
    assert [text[:11] for text in texts] == [texts[0][:11], "the" + texts[1][3:11], "in a dream "]
    assert [len(text) for text in texts] == [11, 12, 21]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert _run(capsys, *argv, "--prefixes", "-")[1] == printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"it\ncaf\xe9\n", "is not UTF-8: the byte 0xe9 in line 2 is not valid there. Save"),
        (b" \n\n", "has blank lines only: give a beginning a line"),
        (None, "--prefixes: cannot read"),
    ],
)
def test_a_file_that_has_no_prefixes(
    capsys: pytest.CaptureFixture[str], saved: str, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "beginnings.txt"
    if content is not None:
        file.write_bytes(content)
    code, printed, log = _run(capsys, "generate", saved, "--prefixes", str(file))
    assert (code, printed) == (2, "")
    assert message in log
    assert log.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--samples", "0"], "--samples is 0: it must be at least 1"),
        (["--beam", "0"], "--beam is 0: it must be at least 1"),
        (["--beam", "2", "--temperature", "0.5"], "samples nothing: leave --temperature out"),
        (["--beam", "2", "--samples", "3", "--seed", "1"], "leave --seed and --samples out"),
        (["--beam", "2", "--top-k", "3"], "leave --top-k out"),
        (["--beam", "2", "--top-p", "0.3"], "leave --top-p out"),
        (["--beam", "2", "--stream"], "--beam knows its text at the end: leave --stream out"),
        (["--stream", "--samples", "2"], "--stream shows one text: leave --samples out"),
        (["--stream", "--prefix", "a", "--prefix", "b"], "leave a second --prefix out"),
        (["--stream", "--prefixes", "x"], "leave --prefixes out"),
    ],
)
def test_what_does_not_go_together(
    capsys: pytest.CaptureFixture[str], saved: str, argv: list[str], message: str
) -> None:
    code, printed, log = _run(capsys, "generate", saved, *argv)
    assert (code, printed) == (2, "")
    assert message in log
    assert log.count("\n") == 1


def test_a_stream_prints_what_a_run_prints(
    capsys: pytest.CaptureFixture[str], saved: str, tmp_path: Path
) -> None:
    argv = ["generate", saved, "--num", "30", "--seed", "2", "--json"]
    plain = _run(capsys, *argv, str(tmp_path / "plain"))
    assert _run(capsys, *argv, str(tmp_path / "stream"), "--stream") == plain
    assert (tmp_path / "stream").read_bytes() == (tmp_path / "plain").read_bytes()


def test_beam_search_and_the_unknown_token(capsys: pytest.CaptureFixture[str], saved: str) -> None:
    argv = ["generate", saved, "--num", "30"]
    greedy = _run(capsys, *argv, "--temperature", "0")
    assert _run(capsys, *argv, "--beam", "1") == greedy
    code, wide, _ = _run(capsys, *argv, "--beam", "5")
    assert code == 0
    assert wide.startswith("it has")
    bold = [*argv, "--temperature", "50", "--num", "200"]
    assert UNKNOWN in _run(capsys, *bold)[1]
    for way in ([], ["--samples", "3"], ["--stream"]):
        assert UNKNOWN not in _run(capsys, *bold, "--no-unknown", *way)[1]


class Watched(io.StringIO):
    """Notes what is behind it after every flush."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def flush(self) -> None:
        self.shown.append(self.getvalue())


def test_every_piece_is_shown_before_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Watched()
    monkeypatch.setattr("sys.stdout", output)

    def pieces() -> Iterator[str]:
        for number in range(3):
            assert output.shown == ["0", "01"][:number]
            yield str(number)

    assert write_live(pieces()) == "012"
    assert output.shown[-1] == "012\n"


def test_pieces_come_through_a_pipe_one_by_one_and_steer_no_terminal(saved: str) -> None:
    code = f"""
import sys
from d2lrnn.cli import generate, main
def pieces(*_, **__):
    for piece in ("one", "\\x1b", "two"):
        yield piece
        assert sys.stdin.readline() == "seen\\n"
generate.stream = pieces
sys.exit(main.main(["generate", {saved!r}, "--stream"]))
"""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        for piece in (b"one", b"\\x1b", b"two"):
            # Blocks for ever where nothing comes before the answer.
            assert os.read(process.stdout.fileno(), 100) == piece
            process.stdin.write(b"seen\n")
            process.stdin.flush()
        assert process.stdout.read() == b"\n"
    assert process.returncode == 0


def test_ctrl_c_ends_the_line_and_the_command(
    capsys: pytest.CaptureFixture[str], saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pieces(*_: Any, **__: Any) -> Iterator[str]:
        yield "it has"
        yield " "
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "stream", pieces)
    result = tmp_path / "result.json"
    code, printed, log = _run(capsys, "generate", saved, "--stream", "--json", str(result))
    assert (code, printed, log) == (130, "it has \n", "d2lrnn: interrupted\n")
    assert not result.exists()


def test_a_stream_stops_where_nobody_reads(saved: str) -> None:
    words = [sys.executable, "-m", "d2lrnn", "generate", saved, "--stream", "--num", str(10**12)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(10)
        process.stdout.close()
        try:
            assert process.wait(timeout=120) == 1
        finally:
            process.kill()
        assert process.stderr.read() == b""
