"""The command line: results, one-line errors, exit codes, Ctrl-C."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2lrnn.cli.main import main
from d2lrnn.contract import cells
from d2lrnn.saving.run_folder import load_run, save_run
from d2lrnn.training.history import Position

QUICK = ["--epochs", "2", "--num-train", "600", "--num-val", "200", "--batch-size", "128", "--steps", "16"]


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "saved"
    assert main(["train", *QUICK, "--out", str(folder)]) == 0
    return folder


def test_train_reports_saves_and_writes_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, result = tmp_path / "run", tmp_path / "result.json"
    argv = ["--out", str(out), "--json", str(result), "--seed", "4"]
    code, printed, log = _run(capsys, "train", *QUICK, *argv)
    assert code == 0
    assert "train       perplexity" in printed
    assert "validation  perplexity" in printed
    assert "bits per character" in printed
    assert "sample      it has" in printed
    assert "epoch 2/2  perplexity" in log
    assert "tokens/s" in log
    data = json.loads(result.read_text())
    assert data["backend"] == "numpy"
    assert "numpy" in data["versions"]
    assert data["model"]["cell"] == "rnn"
    assert [epoch["epoch"] for epoch in data["epochs"]] == [1, 2]
    for epoch in data["epochs"]:
        assert 1 < epoch["val_perplexity"] < 40
        assert 1 < epoch["train_perplexity"] < 40
        assert epoch["tokens_per_second"] > 0
    assert len(set(data["samples"])) == 3
    for sample in data["samples"]:
        assert sample.startswith("it has")
        assert f"sample      {sample}\n" in printed
    assert data["ended"] == "finished"
    run = load_run(out)
    assert run.step == 10
    assert run.history == data["epochs"]
    assert run.training.seed == run.data.seed == 4


def test_the_same_arguments_give_the_same_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = []
    for name in ("a.json", "b.json"):
        assert _run(capsys, "train", *QUICK, "--json", str(tmp_path / name))[0] == 0
        epochs = json.loads((tmp_path / name).read_text())["epochs"]
        results.append([epoch["val_perplexity"] for epoch in epochs])
    assert results[0] == results[1]


@pytest.mark.parametrize("iterator", ["random", "sequential"])
@pytest.mark.parametrize("cell", [name for name, cell in cells.CELLS.items() if cell.has_layer])
def test_every_cell_and_iterator(capsys: pytest.CaptureFixture[str], cell: str, iterator: str) -> None:
    argv = ["--impl", "concise", "--layers", "2", "--dropout", "0.1", "--hidden", "8", "--epochs", "1"]
    code, printed, _ = _run(capsys, "train", "--cell", cell, "--iterator", iterator, *argv)
    assert code == 0
    assert f"model    concise {cells.CELLS[cell].title}" in printed
    assert "2 layers of 8 hidden units, dropout 0.1, 28 symbols" in printed


def test_a_file_of_ones_own_by_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("\ufeffdas Haus und der Garten und das Tor\r\n" * 60, "utf-8")
    out = tmp_path / "run"
    argv = ["--tokens", "word", "--epochs", "1", "--steps", "5", "--batch-size", "16", "--out", str(out)]
    code, printed, _ = _run(capsys, "train", str(text), *argv)
    assert code == 0
    assert "bits per word" in printed
    assert "Haus" in load_run(out).vocab
    assert main(["train", str(text), "--normalize", "--overwrite", *argv]) == 0
    assert "haus" in load_run(out).vocab


@pytest.mark.parametrize(("words", "line"), [
    ([], "all 40,000 tokens, sliding .* shuffled: 35,942 for training and 3,994 for validation"),
    (["--num-val", "100"], "all 40,000 tokens, sliding .*: 39,836 for training and 100 for validation"),
    (["--num-train", "100"], "5,164 of 40,000 tokens, sliding .*: 100 for training and 5,000 for validation"),
    (["--iterator", "random"], "all 40,000 tokens, random .*: 36,000 for training and 4,000 for validation"),
])  # fmt: skip
def test_all_of_a_text_of_ones_own_is_used(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text, run = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("it was so. " * 4000)
    text.write_text(text.read_text()[:40_000])
    assert main(["train", str(text), "--hidden", "2", "--epochs", "1", *words, "--out", str(run)]) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"text     {text}: {line}, in batches of", printed)
    # A run that is resumed has the same.
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    assert re.search(rf"text     {text}: {line}, in batches of", capsys.readouterr().out)


def test_rare_words_become_the_unknown_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text, out = tmp_path / "text.txt", str(tmp_path / "run")
    text.write_text("one two one two one two once " * 100 + "rare ")
    words = ["train", str(text), "--tokens", "word", "--min-freq", "2", "--hidden", "4", "--epochs", "1"]
    assert _run(capsys, *words, "--out", out)[0] == 0
    assert sorted(load_run(out).vocab.idx_to_token) == ["<unk>", "once", "one", "two"]
    code, _, log = _run(capsys, "train", "--resume", out, "--epochs", "2", "--min-freq", "3")
    assert (code, "--min-freq 3 does not fit" in log) == (2, True)
    assert _run(capsys, "train", "--resume", out, "--epochs", "2")[0] == 0


def test_a_text_in_another_encoding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text, out = tmp_path / "text.txt", str(tmp_path / "run")
    text.write_bytes("\u201cna\u00efve\u201d, he said. ".encode("windows-1252") * 100)
    code, _, log = _run(capsys, "train", str(text), *QUICK)
    assert (code, "--encoding windows-1252" in log) == (2, True)
    words = ["train", str(text), "--hidden", "4", "--epochs", "1", "--encoding", "windows-1252", "--out", out]
    assert _run(capsys, *words)[0] == 0
    assert "\u201c" in load_run(out).vocab
    assert _run(capsys, "train", "--resume", out, "--epochs", "2")[0] == 0
    code, _, log = _run(capsys, "train", str(text), *QUICK, "--encoding", "klingon")
    assert (code, log.startswith("d2lrnn: --encoding: unknown encoding 'klingon': choose one")) == (2, True)


def test_generate(capsys: pytest.CaptureFixture[str], saved: Path, tmp_path: Path) -> None:
    result = tmp_path / "text.json"
    argv = ["generate", str(saved), "--prefix", "The ti", "--num", "25"]
    code, printed, log = _run(capsys, *argv, "--json", str(result))
    assert (code, log) == (0, "")
    text = json.loads(result.read_text())["text"]
    assert printed == text + "\n"
    assert text.startswith("the ti")
    assert len(text) == 31
    assert _run(capsys, *argv)[1] == printed
    sampled = [_run(capsys, *argv, "--temperature", "1", "--top-k", "20", "--top-p", "0.99", "--seed", s)[1]
               for s in ("1", "1", "2")]  # fmt: skip
    assert sampled[0] == sampled[1] != sampled[2]


def test_generate_warns_of_unknown_characters(capsys: pytest.CaptureFixture[str], saved: Path) -> None:
    code, printed, log = _run(capsys, "generate", str(saved), "--prefix", "caf\u00e9", "--num", "3")
    assert code == 0
    assert printed.startswith("caf\u00e9")
    expected = "the vocabulary does not have '\u00e9': fed to the model as the unknown token"
    assert log == f"d2lrnn: warning: {expected}\n"


def test_evaluate(capsys: pytest.CaptureFixture[str], saved: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    code, printed, _ = _run(capsys, "evaluate", str(saved), "--json", str(result))
    assert code == 0
    assert "bits per character" in printed
    data = json.loads(result.read_text())
    assert data["val_perplexity"] == pytest.approx(load_run(saved).history[-1]["val_perplexity"], rel=1e-6)
    assert data["val_tokens"] == 200 * 16


def test_a_backend_beside_the_variable(
    capsys: pytest.CaptureFixture[str], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2LRNN_BACKEND", "nope")
    for words in (["evaluate", str(saved)], ["generate", str(saved)], ["train", *QUICK]):
        code, _, log = _run(capsys, *words)
        assert (code, "nope" in log) == (2, True)
        code, printed, log = _run(capsys, *words, "--backend", "NumPy")
        assert code == 0, log
        assert words[0] == "generate" or printed.startswith("backend  numpy (")
    assert _run(capsys, "evaluate", str(saved), "--backend", "nowhere")[0] == 2


def test_the_best_epoch_is_named_and_taken(
    capsys: pytest.CaptureFixture[str], saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest is worse: an epoch that ended badly."""
    run = Path(shutil.copytree(saved, tmp_path / "run", symlinks=True))
    best = load_run(run)
    worse = dataclasses.replace(best.position.epochs[-1], epoch=3, val_perplexity=99.0)
    position = Position(15, (*best.position.epochs, worse))
    parameters = {name: 0 * values for name, values in best.parameters.items()}
    parameters["head.b"] = np.arange(len(best.vocab or ()), dtype=np.float32)
    save_run(dataclasses.replace(best, position=position, parameters=parameters), run)
    note = f"epoch 2, the best by validation ({run / 'latest'} is the newest)"
    code, text, log = _run(capsys, "generate", str(run))
    assert (code, log) == (0, f"d2lrnn: from {note}\n")
    assert text == _run(capsys, "generate", str(saved))[1]
    assert f"from     {note}\n" in _run(capsys, "evaluate", str(run))[1]
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", io.StringIO(f"/model {run}\n"))
        assert f"\nfrom {note}\n" in _run(capsys, "chat", str(saved))[2]
    code, text, log = _run(capsys, "generate", str(run / "latest"))
    assert (code, log) == (0, "")
    assert text != _run(capsys, "generate", str(saved))[1]
    printed = _run(capsys, "train", "--resume", str(run), "--epochs", "4")[1]
    assert re.search(r"\nbest        epoch [24] of 4, validation perplexity \d", printed)


def test_backends(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = _run(capsys, "backends")
    assert code == 0
    names = re.findall(r"^(\w+) +(?:works|cannot be used|not installed)", printed, re.MULTILINE)
    assert names == ["torch", "jax", "tensorflow", "mxnet", "numpy"]
    assert re.search(r"\nnumpy +works: numpy [12]\.\S+\n +devices: cpu", printed)


BAD_TEXTS = {
    "empty.txt": b"",
    "blank.txt": b" \n \n",
    "short.txt": b"too short",
    "latin1.txt": b"one line\nna\xefve " * 40,
}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "empty.txt"], "is empty"),
        (["train", "blank.txt"], "is empty"),
        (["train", "short.txt"], "the text has 9 tokens"),
        (["train", "short.txt", "--iterator", "random"], "9 tokens"),
        (["train", "short.txt", "--iterator", "sequential"], "9 tokens"),
        (["train", "latin1.txt"], "not UTF-8: the byte 0xef at offset 11 (line 2)"),
        (["train", "missing.txt"], "there is no file"),
        (["train", "."], "blank.txt has no text"),
        (
            ["train", "--cell", "transformer"],
            "--cell: unknown cell 'transformer': choose one of rnn, rnn-relu, gru",
        ),
        (["train", "--cell", "mgu", "--impl", "concise"], "the cell mgu: take --impl scratch"),
        (["train", "--impl", "magic"], "--impl: unknown implementation 'magic'"),
        (["train", "--iterator", "zigzag"], "--iterator: unknown iterator 'zigzag'"),
        (
            ["train", "--tokens", "bytes"],
            "--tokens: unknown unit 'bytes': choose one of char, word, byte, bpe",
        ),
        (["train", "--vocab-size", "300"], ": --vocab-size applies to --tokens bpe only, and this is char"),
        (
            ["train", "--tokens", "bpe", "--vocab-size", "256"],
            ": --vocab-size is 256: it must be at least 257",
        ),
        (["train", "--tokens", "byte", "--min-freq", "2"], ": --min-freq does not apply to the unit byte"),
        (["train", "--hidden", "0"], ": --hidden is 0"),
        (["train", "--hidden", "-4"], ": --hidden is -4"),
        (["train", "--layers", "0"], ": --layers is 0"),
        (["train", "--steps", "0"], ": --steps is 0"),
        (["train", "--batch-size", "-1"], ": --batch-size is -1"),
        (["train", "--epochs", "0"], ": --epochs is 0"),
        (["train", "--lr", "0"], ": --lr is 0.0"),
        (["train", "--lr", "nan"], ": --lr is nan"),
        (["train", "--clip", "-1"], ": --clip is -1.0"),
        (["train", "--seed", "-1"], ": --seed is -1"),
        (["train", "--dropout", "1"], ": --dropout is 1.0: it must be a number of at least 0 and below 1"),
        (["train", "--input-dropout", "0.5"], ": --input-dropout needs an embedding: give --embedding"),
        (["train", "--tied"], ": --tied needs an embedding: give --embedding"),
        (["train", "--tied", "--embedding", "16"], "--embedding is 16, --hidden 32"),
        (["train", "--embedding", "0"], ": --embedding is 0"),
        (["train", "--accumulate", "0"], ": --accumulate is 0"),
        (["train", "--clip", "much"], "argument --clip: 'much' is neither a number nor none"),
        (
            ["train", "--optimizer", "lion"],
            "--optimizer: unknown optimizer 'lion': choose one of sgd, adam, adamw",
        ),
        (
            ["train", "--optimizer", "sgd", "--beta1", "0.8"],
            "--beta1 does not apply to the optimizer sgd: leave it out, or give --optimizer and one of adam",
        ),
        (["train", "--optimizer", "adam", "--momentum", "0.9"], "give --optimizer and one of sgd, rmsprop"),
        (["train", "--optimizer", "adam", "--beta2", "1"], ": --beta2 of adam is 1.0: it must be at least 0"),
        (["train", "--nesterov"], ": --nesterov needs a --momentum above 0"),
        (
            ["train", "--schedule", "linear"],
            "--schedule: unknown schedule 'linear': choose one of constant, cosine, step",
        ),
        (
            ["train", "--schedule-gamma", "0.5"],
            "leave it out, or give --schedule and one of step, exponential, plateau",
        ),
        (
            ["train", "--schedule", "plateau", "--schedule-patience", "-1"],
            ": --schedule-patience of the plateau",
        ),
        (
            ["train", "--schedule", "cosine", "--warmup", "2000"],
            ": --schedule-steps of the cosine schedule is",
        ),
        (["train", "--schedule", "cosine", "--warmup", "-2"], ": --warmup of the cosine schedule is -2"),
        (["train", "--num-val", "0"], ": --num-val is 0: it must be at least 1"),
        (["train", "--num-train", "10000000"], "validation windows of 32 steps do not fit"),
        (["train", "--device", "gpu:3"], "there is no device gpu:3"),
        (["train", "--json", "nowhere/x.json"], "there is no folder"),
        (["train", "--json", "."], "is a folder: give the name of a file"),
        (["train", "--out", "empty.txt/run"], "cannot be made"),
        (
            ["train", "--epochs", "many"],
            "argument --epochs: 'many' is not a whole number; see d2lrnn train --help",
        ),
        (["train", "--lr", "fast"], "argument --lr: 'fast' is not a number"),
        (["train", "--colour"], "unrecognized arguments: --colour"),
        (["generate", "nowhere"], "nowhere does not exist"),
        (["generate", "."], "holds no saved run"),
        (["generate", "SAVED", "--prefix", ""], "--prefix is empty"),
        (["generate", "SAVED", "--temperature", "-1"], ": --temperature is -1.0"),
        (["generate", "SAVED", "--temperature", "1", "--top-p", "2"], ": --top-p is 2.0"),
        (["generate", "SAVED", "--num", "-1"], ": --num is -1: it must be 0 or above"),
        (["generate", "SAVED", "--top-k", "0"], ": --top-k is 0"),
        (["generate", "SAVED", "--temperature", "0", "--top-k", "2"], "--top-p need a --temperature above"),
        (["evaluate", "nowhere"], "nowhere does not exist"),
        (["evaluate", "SAVED", "missing.txt"], "there is no file"),
        (["evaluate", "SAVED", "--encoding", "latin1"], "name the text as well"),
        (["train", "short.txt", ""], "a text has no name"),
        (["train", "-", "-"], "standard input, can be read once only"),
        (["train", "short.txt", "missing.txt"], "there is no file"),
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saved: Path,
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in BAD_TEXTS.items():
        (tmp_path / name).write_bytes(content)
    code, printed, log = _run(capsys, *[str(saved) if word == "SAVED" else word for word in argv])
    assert code == 2
    assert message in log
    assert log.startswith("d2lrnn")
    assert log.count("\n") == 1
    assert "Traceback" not in printed + log
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(BAD_TEXTS)


@pytest.mark.parametrize("name", ["nonsense", "mxnet"])
def test_a_backend_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("D2LRNN_BACKEND", name)
    if name == "mxnet":
        from d2lrnn import registry

        monkeypatch.setattr(registry, "find_spec", lambda module: None if module == "mxnet" else object())
    code, _, log = _run(capsys, "train", *QUICK)
    assert code == 2
    assert log.count("\n") == 1
    assert ("unknown backend 'nonsense'" if name == "nonsense" else "pip install mxnet") in log


def test_a_run_is_not_replaced_by_mistake(capsys: pytest.CaptureFixture[str], saved: Path) -> None:
    before = load_run(saved)
    code, printed, log = _run(capsys, "train", *QUICK, "--out", str(saved))
    assert (code, printed) == (2, "")
    ways = f"--resume {saved} goes on with it, --overwrite replaces it"
    assert log == f"d2lrnn: --out {saved} holds another run: {ways}\n"
    assert load_run(saved).identity == before.identity
    assert _run(capsys, "train", *QUICK, "--out", str(saved), "--overwrite")[0] == 0
    assert load_run(saved).identity != before.identity
    code, _, log = _run(capsys, "train", *QUICK, "--overwrite")
    assert code == 2
    assert "--overwrite replaces the run in the folder of --out: give --out as well" in log


@pytest.mark.parametrize("option", ["--out", "--resume"])
def test_an_empty_folder_name_is_wrong(capsys: pytest.CaptureFixture[str], option: str) -> None:
    code, printed, log = _run(capsys, "train", *QUICK, option, "")
    assert (code, printed) == (2, "")
    assert log == f"d2lrnn: {option} needs the name of a folder\n"


def test_divergence_keeps_what_was_there_before(capsys: pytest.CaptureFixture[str], saved: Path) -> None:
    before = load_run(saved)
    argv = ["--lr", "3e38", "--clip", "1e30", "--out", str(saved)]
    code, _, log = _run(capsys, "train", *QUICK, *argv, "--overwrite")
    assert code == 2
    assert "the loss became" in log
    assert "at step" in log
    after = load_run(saved)
    assert after.step == before.step
    assert after.history == before.history


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, log = _run(capsys, "train", "--cell", "x", "--debug")
    assert code == 2
    assert "Traceback" in log
    assert f"choose one of {', '.join(cells.CELLS)}" in log.splitlines()[-1]
    for argv in (["--cell", "x", "--deb"], ["--epochs", "0", "--debug"]):
        assert "Traceback" in _run(capsys, "train", *argv)[2]


def test_an_error_of_ours_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("out of paper")

    monkeypatch.setattr("d2lrnn.cli.train.backend", broken)
    code, _, log = _run(capsys, "train")
    assert code == 1
    assert log == "d2lrnn: unexpected RuntimeError: out of paper (--debug shows where)\n"


def _command(*argv: str) -> list[str]:
    # A shell starts what it puts into the background with SIGINT ignored, and a child inherits that.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from d2lrnn.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", code, *argv]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reports_and_keeps_what_was_learned(tmp_path: Path, number: int) -> None:
    out = tmp_path / "run"
    argv = ["train", "--epochs", "100000", "--out", str(out), "--json", str(tmp_path / "r.json")]
    with subprocess.Popen(
        _command(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (out / "latest").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        printed, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert "Traceback" not in log
    assert "interrupted in epoch" in printed
    assert "validation  perplexity" in printed
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["ended"] == "interrupted"
    run = load_run(out)
    assert run.history == data["epochs"][: len(run.history)]
    # What was cut short is not lost either: the run goes on inside the epoch.
    assert len(data["epochs"]) == len(run.history) + (run.position.part is not None)


def test_ctrl_c_before_training_is_quiet(tmp_path: Path) -> None:
    # A shell starts what it puts into the background with SIGINT ignored, and a child inherits that.
    code = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from d2lrnn.cli import main, opened_model\n"
    code += "opened_model.load_run = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
    code += "sys.exit(main.main(['generate', 'x']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "d2lrnn: interrupted\n")


@pytest.mark.parametrize("module", ["d2lrnn.cli.main", "d2lrnn.cli.parser", "numpy"])
def test_ctrl_c_while_modules_are_imported_is_quiet(module: str) -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt)\n"
        "sys.argv[1:] = ['generate', 'x']\n"
        "import runpy; runpy.run_module('d2lrnn', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "d2lrnn: interrupted\n")


def test_a_closed_pipe_is_no_error() -> None:
    command = shlex.join(_command("backends")) + " | head -n 0"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_help_is_quick_and_imports_no_numpy() -> None:
    code = "import sys; from d2lrnn.cli.main import main\n"
    code += "try: main(['train', '--help'])\nexcept SystemExit: print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert "--top-k" in subprocess.run(_command("generate", "--help"), capture_output=True, text=True,
                                       check=True, env={**os.environ, "COLUMNS": "100"}).stdout  # fmt: skip


def test_the_progress_bar_fits_a_narrow_terminal() -> None:
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        _command("train", *QUICK), stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs,
        env={**environment, "TERM": "xterm"},
    ):  # fmt: skip
        os.close(theirs)
        shown = b""
        with (
            open(ours, "rb", buffering=0) as screen,
            suppress(OSError),
        ):  # it ends with an error, as a line does
            while piece := screen.read(1 << 16):
                shown += piece
    drawn = re.findall(r"\r\x1b\[2K([^\r\n]*)", re.sub(r"\x1b\[\?25[hl]", "", shown.decode()))
    # Those of whole epochs stay, and may take two lines.
    bars = [line for line in drawn if line.strip() and "tokens/s" not in line]
    assert bars
    assert all(line.startswith("epoch ") and len(line) <= 40 for line in bars)


def test_the_reference_computes_in_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = _run(capsys, "train", "--backend", "numpy", "--workers", "2")
    assert code == 2
    assert errors.startswith("d2lrnn: the backend numpy computes in one process, and has no engine")
    assert len(errors.splitlines()) == 1
