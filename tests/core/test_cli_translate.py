"""``d2lrnn translate``: training, resuming, translating, and what is refused."""

from __future__ import annotations

import io
import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from small_data import pairs

from d2lrnn.cli.main import main
from d2lrnn.saving import translator_folder
from d2lrnn.saving.translator_folder import load_translator
from d2lrnn.translation import trainer

SIZES = ["--embedding", "16", "--hidden", "24", "--layers", "1", "--max-tokens", "6", "--batch-size", "32"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D2LRNN_BACKEND", "numpy")
    Path("pairs.txt").write_text(pairs(), encoding="utf-8")


def _train(*words: str) -> int:
    return main(["translate", "train", "pairs.txt", *SIZES, "--lr", "0.02", *words])


def test_what_was_learned_translates(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    assert _train("--epochs", "8", "--out", "run", "--json", "result.json") == 0
    printed = capsys.readouterr().out
    assert "pairs    pairs.txt: 702 to train on, 78 to validate with, 36 and 36 words" in printed
    assert "saved       run\n" in printed
    result = json.loads(Path("result.json").read_text())
    assert result["val_perplexity"] < 1.2
    assert result["bleu"] > 0.9
    # Of all sentences together, by the package that the field uses, where it is installed.
    assert ("sacrebleu" in result) == (find_spec("sacrebleu") is not None)
    assert result.get("sacrebleu", 100) > 80
    for beam in ("1", "3"):
        assert main(["translate", "run", "run", "Tom goes.", "We sing now.", "--beam", beam]) == 0
        printed, told = capsys.readouterr()
        assert printed.splitlines()[1] == "nous chante maintenant ."
        assert told == "d2lrnn: unknown words in 'Tom goes.': goes\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("Cats sleep!\nYou win?\n"))
    assert main(["translate", "run", "run", "--json", "said.json"]) == 0
    assert capsys.readouterr().out == "les chats dort !\ntu gagne ?\n"
    assert json.loads(Path("said.json").read_text())["translations"][1] == {
        "source": "You win?", "translation": "tu gagne ?",
    }  # fmt: skip


def test_a_run_that_stops_goes_on_as_if_it_had_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert _train("--epochs", "3", "--dropout", "0.2", "--out", "whole") == 0
    assert _train("--epochs", "2", "--dropout", "0.2", "--out", "parts") == 0
    assert "to go on" not in capsys.readouterr().out
    assert main(["translate", "train", "--resume", "parts", "--epochs", "3"]) == 0
    assert "resumed  parts: 2 of 3 epochs" in capsys.readouterr().out
    whole, parts = load_translator("whole"), load_translator("parts")
    assert (whole.step, len(whole.epochs)) == (parts.step, len(parts.epochs)) == (66, 3)
    for name, values in whole.parameters.items():
        assert (values == parts.parameters[name]).all(), name
    assert os.listdir("parts") == ["epoch-00000003"]


def test_a_run_goes_on_with_its_own_pairs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert _train("--epochs", "1", "--out", "run") == 0
    lines = pairs().splitlines()
    # The same words, and so the same vocabularies, in another order.
    Path("pairs.txt").write_text("\n".join(lines[::-1]) + "\n", encoding="utf-8")
    assert main(["translate", "train", "--resume", "run", "--epochs", "2"]) == 2
    assert "pairs.txt has other pairs than the ones that this run was trained on" in capsys.readouterr().err
    Path("moved.txt").write_text(pairs(), encoding="utf-8")
    assert main(["translate", "train", "moved.txt", "--resume", "run", "--epochs", "2"]) == 0


def test_ctrl_c_ends_with_the_last_whole_epoch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    plain = trainer.TranslatorTrainer._train_step

    def interrupting(self: Any, batch: Any, state: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 30:
            signal.raise_signal(signal.SIGINT)
        return plain(self, batch, state)

    monkeypatch.setattr(trainer.TranslatorTrainer, "_train_step", interrupting)
    # A process in the background of a shell ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert _train("--epochs", "9", "--out", "run") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "to go on: d2lrnn translate train --resume run" in capsys.readouterr().out
    assert steps == 30
    assert load_translator("run").step == 22
    assert _train("--epochs", "1", "--out", "never", "--json", "-") == 0


def test_nothing_of_a_user_s_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    assert _train("--epochs", "1", "--out", "run") == 0
    Path("run/notes.txt").write_text("mine")
    before = load_translator("run").identity
    capsys.readouterr()
    assert _train("--epochs", "1", "--out", "run") == 2
    assert "run holds another run (epoch-00000001)" in capsys.readouterr().err
    assert load_translator("run").identity == before
    assert _train("--epochs", "1", "--out", "run", "--overwrite") == 0
    assert load_translator("run").identity != before
    assert sorted(os.listdir("run")) == ["epoch-00000001", "notes.txt"]
    assert main(["train", "sample", "--epochs", "1", "--out", "model"]) == 0
    assert _train("--epochs", "1", "--out", "model", "--overwrite") == 2
    assert "model holds another run (latest)" in capsys.readouterr().err


FILES = ["translator.json", "model.safetensors", "optimizer.safetensors", "SHA256SUMS"]


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_run_is_refused(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train("--epochs", "1", "--out", "run") == 0
    path = Path("run/epoch-00000001") / file
    content = path.read_bytes()
    for damaged in (content[:-3], content[:-2] + b"XX", b"", b"{}"):
        path.write_bytes(damaged)
        assert main(["translate", "run", "run", "Go."]) == 2
        assert f"d2lrnn: {path.parent}/" in capsys.readouterr().err
    path.unlink()
    assert main(["translate", "run", "run", "Go."]) == 2
    path.write_bytes(content)
    assert main(["translate", "run", "run", "Go."]) == 0


def test_a_write_that_fails_leaves_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _train("--epochs", "1", "--out", "run") == 0
    run = load_translator("run")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(translator_folder, "write_synced", full)
        with pytest.raises(translator_folder.RunError, match="No space left on device"):
            translator_folder.save_translator(run, "run")
    assert os.listdir("run") == ["epoch-00000001"]
    translator_folder.save_translator(run, "run")
    assert load_translator("run").identity == run.identity
    assert os.listdir("run") == ["epoch-00000001"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train"], "there are no pairs to train on: give a file"),
        (["train", "gone.txt"], "there is no file gone.txt: give the path of a text with a pair a line"),
        (["train", "empty.txt"], "empty.txt"),
        (["train", "pairs.txt", "--epochs", "0"], "--epochs is 0"),
        (["train", "pairs.txt", "--hidden", "0"], "--hidden is 0"),
        (["train", "pairs.txt", "--optimizer", "x"], "x"),
        (["train", "--resume", "gone"], "gone holds no translator"),
        (["train", "--resume", "gone", "--lr", "1"], "--resume goes on with the run as it is"),
        (["train", "pairs.txt", "--out", ""], "--out needs the name of a folder"),
        (
            ["run", "gone", "Go."],
            "gone holds no translator: give the folder that d2lrnn translate train --out",
        ),
        (["run", "gone", "--beam", "0"], "--beam is 0"),
    ],
)
def test_what_cannot_be(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.txt").write_text("")
    assert main(["translate", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not Path("gone").exists()


def test_an_empty_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert _train("--epochs", "1", "--out", "run") == 0
    capsys.readouterr()
    assert main(["translate", "run", "run", " "]) == 2
    assert "a sentence is empty" in capsys.readouterr().err
