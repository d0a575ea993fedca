"""``d2lrnn encode``, and its files wherever a text is taken."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2lrnn.cli.main import main
from d2lrnn.data.corpus import load_corpus
from d2lrnn.data.encoded import open_encoded, read_header
from d2lrnn.saving.run_folder import load_run

TEXT = "Nature's first green is gold,\nher hardest hue to hold. " * 60
SHORT = ["--steps", "8", "--batch-size", "64", "--hidden", "6"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    return tmp_path


def _encode(*words: str) -> None:
    assert main(["encode", *words]) == 0


def _refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def _same_runs(one: str, other: str) -> None:
    a, b = load_run(one), load_run(other)
    for name, value in a.parameters.items():
        np.testing.assert_array_equal(value, b.parameters[name])
    assert [{**epoch, "tokens_per_second": 0} for epoch in a.history] == [
        {**epoch, "tokens_per_second": 0} for epoch in b.history
    ]
    assert (a.text_digest, a.prompt, a.vocab) == (b.text_digest, b.prompt, b.vocab)
    assert a.data is not None
    assert b.data is not None
    assert (a.data.unit, a.data.is_normalized) == (b.data.unit, b.data.is_normalized)
    assert (a.data.num_train, a.data.num_val) == (b.data.num_train, b.data.num_val)


@pytest.mark.parametrize("iterator", ["sliding", "random", "sequential"])
@pytest.mark.parametrize("how", [[], ["--tokens", "word", "--normalize", "--min-freq", "61"]])
@pytest.mark.usefixtures("folder")
def test_training_on_the_file_is_training_on_the_text(iterator: str, how: list[str]) -> None:
    _encode("text.txt", *how, "--out", "file")
    options = ["--iterator", iterator, "--steps", "4", "--batch-size", "8", "--hidden", "6"]
    assert main(["train", "text.txt", *how, *options, "--epochs", "2", "--out", "a"]) == 0
    assert main(["train", "file", *options, "--epochs", "2", "--out", "b"]) == 0
    _same_runs("a", "b")
    # Either goes on with the other's text, and evaluates it.
    assert main(["train", "file", "--resume", "a", "--epochs", "3"]) == 0
    assert main(["train", "text.txt", "--resume", "b", "--epochs", "3"]) == 0
    _same_runs("a", "b")
    # And with its own, which is the other's now: size and digest of the file are checked as a text's are.
    assert main(["train", "--resume", "a", "--epochs", "4"]) == 0
    assert main(["train", "--resume", "b", "--epochs", "4"]) == 0
    _same_runs("a", "b")
    found = []
    for words in (["a"], ["b"], ["a", "file"], ["a", "text.txt"]):
        assert main(["evaluate", *words, "--json", "result"]) == 0
        result = json.loads(Path("result").read_text())
        found.append({name: value for name, value in result.items() if name != "text"})
    assert found[0] == found[1]
    assert found[2] == found[3]


@pytest.mark.usefixtures("folder")
def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    _encode("text.txt", "--out", "file")
    out, err = capsys.readouterr()
    assert f"{len(TEXT):,} characters, {len(read_header('file').vocab)} symbols" in out
    assert "saved    file, 0 MB; d2lrnn train file" in out
    assert err.splitlines() == ["counting: 0 of 0 MB", "encoding: 0 of 0 MB"]
    assert main(["encode", "--check", "file"]) == 0
    assert "all as they were written" in capsys.readouterr().out
    assert main(["train", "file", *SHORT, "--epochs", "1"]) == 0
    mapped = capsys.readouterr().out
    assert main(["train", "text.txt", *SHORT, "--epochs", "1"]) == 0
    loaded = capsys.readouterr().out

    def lines(out: str) -> list[str]:
        return [line for line in out.replace("text.txt", "file").splitlines() if "tokens/s" not in line]

    assert lines(mapped) == lines(loaded)


@pytest.mark.usefixtures("folder")
def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    pipe(b"\xff\xfe" + TEXT.encode("utf-16-le"))
    _encode("-", "--encoding", "utf-16", "--out", "file")
    np.testing.assert_array_equal(open_encoded("file")[1], load_corpus("text.txt").tokens)
    pipe(b"a\xff")
    _refused(["encode", "-", "--out", "other"], "standard input is not UTF-8", capsys)
    assert sorted(os.listdir()) == ["file", "text.txt"]


@pytest.mark.usefixtures("folder")
def test_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    _encode("text.txt", "--out", "file")
    _encode("text.txt", "--tokens", "word", "--normalize", "--out", "words")
    before = Path("file").read_bytes()
    for words, told in (
        (["encode", "text.txt"], "the file to write with --out"),
        (["encode", "--out", "file"], "name the text to encode"),
        (["encode", "--check", "file", "--out", "x"], "takes nothing beside it"),
        (["encode", "--check", "text.txt"], "is damaged: it is no encoded text, or was never finished"),
        (["encode", "--check", "gone"], "cannot read gone"),
        (["encode", "text.txt", "--out", "file"], "file is there already: --overwrite replaces it"),
        (["encode", "file", "--out", "x"], "file is encoded already"),
        (["encode", "text.txt", "--out", "x", "--tokens", "bits"], "--tokens: unknown unit 'bits'"),
        (["encode", "text.txt", "--out", "x", "--vocab-size", "300"], "--vocab-size applies to --tokens bpe"),
        (["encode", "text.txt", "--out", "x", "--min-freq", "-1"], "--min-freq"),
        (["encode", "text.txt", "--out", "none/x"], "there is no folder none"),
        (["train", "file", "text.txt"], "is an encoded text, and stands alone"),
        (["train", "file", "--tokens", "word"], "--tokens does not fit"),
        (["train", "words", "--tokens", "char"], "--tokens does not fit"),
        (["train", "words", "--no-normalize"], "--normalize does not fit"),
        (["train", "file", "--min-freq", "2"], "--min-freq does not fit"),
        (["train", "file", "--encoding", "latin1"], "--encoding does not fit"),
    ):
        _refused(words, told, capsys)
    assert Path("file").read_bytes() == before
    assert sorted(os.listdir()) == ["file", "text.txt", "words"]
    assert (
        main(["train", "words", "--tokens", "word", "--steps", "2", "--batch-size", "8", "--epochs", "1"])
        == 0
    )


@pytest.mark.usefixtures("folder")
def test_another_text_is_encoded_as_a_run_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    """So that the run can be evaluated on it: compared with the evaluation of the text itself."""
    Path("other.txt").write_text("So dawn goes down to day. Nothing gold can stay. " * 80)
    assert main(["train", "text.txt", "--normalize", *SHORT, "--epochs", "1", "--out", "run"]) == 0
    _encode("other.txt", "--normalize", "--out", "own")
    _refused(["evaluate", "run", "own"], "encode --like RUN", capsys)
    _encode("other.txt", "--like", "run", "--out", "like")
    results: list[dict[str, Any]] = []
    for text in ("other.txt", "like"):
        assert main(["evaluate", "run", text, "--json", "result"]) == 0
        results.append(json.loads(Path("result").read_text()) | {"text": ""})
    assert results[0] == results[1]
    assert results[0]["unknown_tokens"] > 0
    _refused(["evaluate", "run", "like", "--encoding", "latin1"], "--encoding does not fit", capsys)
    for words in (["--tokens", "word"], ["--no-normalize"], ["--min-freq", "1"]):
        _refused(
            ["encode", "other.txt", "--like", "run", *words, "--out", "x"], "does not fit: run was", capsys
        )
    # A run is not gone on with on another text, whatever its vocabulary.
    _refused(["train", "like", "--resume", "run", "--epochs", "2"], "is not the text that the run", capsys)


@pytest.mark.usefixtures("folder")
def test_a_file_that_was_exchanged_is_not_gone_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    _encode("text.txt", "--out", "file")
    assert main(["train", "file", *SHORT, "--epochs", "1", "--out", "run"]) == 0
    Path("text.txt").write_text(TEXT.replace("gold", "dgol"))
    _encode("text.txt", "--out", "file", "--overwrite")
    _refused(["train", "--resume", "run", "--epochs", "2"], "is not the text that the run was", capsys)
    Path("text.txt").write_text(TEXT * 9)
    _encode("text.txt", "--out", "file", "--overwrite")
    _refused(["train", "--resume", "run", "--epochs", "2"], "it has", capsys)


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a signal")
@pytest.mark.usefixtures("folder")
def test_ctrl_c_ends_it_and_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = (
        "import os, signal, sys\n"
        "from d2lrnn.cli.main import main\n"
        "from d2lrnn.data import blocks, encoder\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "blocks._BLOCK, encoder._RECORD_BYTES, encoder._RECORD_TIMES = 500, 500, 0\n"
        "write = encoder._Work._write\n"
        "def interrupt(work, record):\n"
        "    tell = work._tell\n"
        "    work._tell = lambda what, done, total: (tell(what, done, total),\n"
        "        done > total / 2 and os.kill(os.getpid(), signal.SIGINT))\n"
        "    write(work, record)\n"
        "encoder._Work._write = interrupt\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["encode", "text.txt", "--out", "file"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stdout == "interrupted: the same command goes on where it stood\n"
    assert "Traceback" not in done.stderr
    assert not Path("file").exists()
    _encode("text.txt", "--out", "file")
    assert "encoding: goes on at 0 of 0 MB" in capsys.readouterr().err
    np.testing.assert_array_equal(open_encoded("file")[1], load_corpus("text.txt").tokens)
    assert sorted(os.listdir()) == ["file", "text.txt"]
