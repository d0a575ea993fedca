"""``d2lrnn report``: the page of a saved run, and what stands on it."""

from __future__ import annotations

import base64
import math
import re
import shlex
import shutil
import struct
import zlib
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import check_look, look, needs_chromium

import d2lrnn
from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.main import main
from d2lrnn.cli.new_run import new_run
from d2lrnn.cli.parser import parse
from d2lrnn.cli.repeated import commands_of
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch
from d2lrnn.pages.svg import Curve, heat_map, line_plot
from d2lrnn.report.reading import Reading, read, rows_to_read
from d2lrnn.report.units import telling_units
from d2lrnn.saving.run_folder import load_run, save_run
from d2lrnn.training.history import EpochPart, Position
from d2lrnn.training.initialization import initial_parameters

QUICK = ["--num-train", "600", "--num-val", "200", "--batch-size", "128", "--steps", "16", "--hidden", "8"]


def _train(folder: Path, *argv: str) -> str:
    assert main(["train", *argv, "--out", str(folder)]) == 0
    return str(folder)


def _report(folder: str, *argv: str) -> str:
    out = Path(folder).parent / "report.html"
    assert main(["report", folder, *argv, "--html", str(out)]) == 0
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with a schedule, a checkpoint for each epoch."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    schedule = ["--schedule", "step", "--schedule-every", "5"]
    return _train(folder, "sample", *QUICK, "--lr", "2", "--epochs", "4", "--keep", "4", *schedule)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run on words, with a text whose lines end and whose tokens would steer a page."""
    folder = tmp_path_factory.mktemp("words")
    text = folder / "a & b.txt"
    line = (
        "The <b>cat</b> sat, & the \N{RIGHT-TO-LEFT OVERRIDE}dog ran away quite incomprehensibilitiously.\n"
    )
    text.write_text(line * 40, encoding="utf-8")
    return _train(
        folder / "run", str(text), "--tokens", "word", "--steps", "4", "--hidden", "8", "--epochs", "1"
    )


@pytest.fixture(scope="module")
def page(run: str) -> str:
    return _report(run)


def _text(part: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", part))


def _of(page: str, title: str) -> str:
    """What stands below a heading."""
    return page.split(f"<h2>{title}")[1].split("<h2>")[0]


def test_the_page_has_every_part(page: str) -> None:
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Perplexity by epoch", "Samples by epoch", "Samples by temperature", "Loss, character by character",
        "What hidden units respond to", "The hidden state over a line of text", "Specification",
        "The command that repeats this run",
    ]  # fmt: skip
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!data:image/png;base64,)", page)
    assert not re.search(r"url\(|@import", page)
    samples = _of(page, "Samples by epoch")
    assert "4 checkpoints are kept, those after epoch 1 (5 steps); epoch 2" in samples
    assert re.findall("<h3>(.*?)</h3>", samples) == [f"After epoch {n} ({5 * n} steps)" for n in range(1, 5)]
    assert len(re.findall("<h3>", _of(page, "Samples by temperature"))) == 5
    assert "learning rate, at the end of each epoch" in page
    assert "&lt;unk&gt;" in page or "<unk>" not in page


def test_the_curves_are_those_of_the_epochs(run: str, page: str) -> None:
    """The heights of two points of one curve say those of all: the axis is linear, and the same for both."""
    lines = dict(re.findall(r'<polyline points="([^"]*)"[^>]*><title>(validation|training)<', page)[:2])
    heights = {
        name: [float(point.split(",")[1]) for point in points.split()] for points, name in lines.items()
    }
    records = load_run(run).position.epochs
    values = {"validation": [record.val_perplexity for record in records],
              "training": [record.train_perplexity for record in records]}  # fmt: skip
    slopes = [
        (heights[name][0] - heights[name][-1]) / (values[name][0] - values[name][-1]) for name in values
    ]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.05)
    (at, title) = re.findall(r'cy="([\d.]+)"[^>]*><title>(best[^<]*)<', page)[0]
    best = min(values["validation"])
    assert title == f"best: {best:.2f} in epoch {values['validation'].index(best) + 1}"
    assert float(at) in heights["validation"]
    assert float(at) not in heights["training"]


def test_the_painted_losses_are_those_of_the_model(run: str, page: str) -> None:
    saved = load_run(run, best=True)
    assert saved.data is not None
    assert saved.training is not None
    numpy = d2lrnn.backend("numpy")
    corpus, data = saved.data.load(saved.vocab)
    assert data.val_tokens.tolist() == corpus.tokens[616:832].tolist()  # 600 windows and 16 steps are before
    learner = numpy.learner(saved.build(numpy), saved.training)
    told = re.findall(r"<i[^>]* data-t=\"([^\"]*)\">", _of(page, "Loss"))
    painted = [float(bits) for each in told for bits in re.findall(r": ([\d.]+) bits", each)]
    text = data.val_tokens[:216].astype(np.int32)
    assert len(told) == len(text)
    assert len(painted) == len(text) - 1
    for t in (1, 2, 50, 215):
        # The loss of t tokens less that of t - 1 is the loss of one of them.
        whole, before = (
            n * float(learner.eval_step(Batch(text[None, :n], text[None, 1 : n + 1]),
                                        learner.initial_state(1))[0]) if n else 0.0
            for n in (t, t - 1)
        )  # fmt: skip
        assert painted[t - 1] == pytest.approx((whole - before) / math.log(2), abs=0.011)
    # What is shown is the text itself.
    shown = _text(_of(page, "Loss").split('id="losses">')[1])
    assert shown.strip() == corpus.decode(text).strip()


def test_a_reading_is_a_step_after_another() -> None:
    spec, numpy = ModelSpec(5, "lstm", num_hiddens=3, num_layers=2), d2lrnn.backend("numpy")
    learner = numpy.learner(numpy.build(spec, initial_parameters(spec, 1)), TrainingSpec())
    tokens = np.array([[1, 4, 2, 0], [3, 3, 1, 2]], np.int32)
    reading = read(learner, tokens)
    assert reading.hiddens.shape == (2, 4, 2, 3)
    state = learner.initial_state(2)
    for t in range(4):
        logits, state = learner.predict_step(tokens[:, t], state)
        h = learner.export_state(state)[0].transpose(1, 0, 2)
        np.testing.assert_array_equal(reading.hiddens[:, t], h)
        if t < 3:
            p = np.exp(logits[1]) / np.exp(logits[1]).sum()
            assert reading.bits[1, t + 1] == pytest.approx(-math.log2(p[tokens[1, t + 1]]), abs=1e-6)
            best = np.argsort(-logits[0], kind="stable")[:3]
            assert [guess.token for guess in reading.guesses[t + 1]] == best.tolist()
    assert np.isnan(reading.bits[:, 0]).all()


def test_rows_of_a_text() -> None:
    text = np.arange(100, dtype=np.uint8)
    assert rows_to_read(text, 3, 7, 32).tolist() == [[*range(7)], [*range(7, 14)], [*range(14, 21)]]
    assert rows_to_read(text, 3, 200, 32).shape == (1, 100)
    assert rows_to_read(text, 8, 10, 1 << 20).shape == (3, 10)  # so many units that few rows are read


TEXT = "it has been\nso very long ago " * 12


def _reading(*units: Any) -> Reading:
    """One layer whose units do what is given, over `TEXT`."""
    T = len(TEXT)
    noise = np.random.default_rng(0).normal(size=(T, 7 - len(units)))
    hiddens = np.concatenate([np.stack(units, axis=1), noise], axis=1)[None, :, None].astype(np.float32)
    return Reading(np.zeros((1, T), np.int32), np.zeros((1, T)), [[]] * T, hiddens)


def test_units_are_found_by_what_they_do() -> None:
    space = np.array([c.isspace() for c in TEXT], float)
    column = np.array([len(TEXT[: t + 1].rpartition("\n")[2]) for t in range(len(TEXT))], float)
    vowel = np.array([c in "aeiou" for c in TEXT], float)
    noise = np.random.default_rng(1).normal(size=len(TEXT)) / 20
    found = telling_units(_reading(-space + noise, column / 9, vowel + noise), [list(TEXT)], "char")
    by_feature = {unit.feature: unit for unit in found}
    assert len(found) == len({unit.number for unit in found}) == len(by_feature) == 6
    first = by_feature["the character is a space"]
    assert (first.layer, first.number) == (0, 0)
    assert first.correlation < -0.9
    assert first.means == (pytest.approx(-1, abs=0.1), pytest.approx(0, abs=0.1))
    assert by_feature["characters since the last end of a line"].number == 1
    assert by_feature["the character is a vowel"].number == 2
    assert {context.token for context in first.lowest} <= {" ", "\n"}
    assert all("".join(context.before) + context.token in TEXT for unit in found for context in unit.highest)
    values = [context.value for context in first.highest]
    assert values == sorted(values, reverse=True)
    assert len(values) == 5


def test_few_units_and_short_texts_have_few() -> None:
    reading = Reading(np.zeros((1, 2), np.int32), np.zeros((1, 2)), [[]] * 2, np.zeros((1, 2, 1, 3)))
    assert telling_units(reading, [["a", "b"]], "char") == []
    constant = _reading(*np.zeros((7, len(TEXT))))
    assert len(telling_units(constant, [list(TEXT)], "char")) == 6


def test_words_are_shown_and_nothing_in_them_is_markup(words: str) -> None:
    page = _report(words)
    assert "<h2>Loss, word by word</h2>" in page
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page
    assert "\\u202edog" in page
    assert "a &amp; b.txt" in page
    assert "One checkpoint is kept, that after epoch 1" in page
    assert (
        "<circle" in _of(page, "Perplexity by epoch").partition("</ul>")[2]
    )  # a line of one point is nothing
    assert re.search("rotate\\(-90", _of(page, "The hidden state"))


@pytest.mark.parametrize("unit", ["byte", "bpe"])
def test_bytes_are_shown_as_characters_or_by_their_numbers(unit: str, tmp_path: Path) -> None:
    if unit == "bpe":
        pytest.importorskip("tokenizers")
    text = tmp_path / "text.txt"
    text.write_text("So viel für & über die Brücke, so früh. " * 30, encoding="utf-8")
    options = [*QUICK[6:], "--epochs", "1", "--tokens", unit]
    if unit == "bpe":
        options += ["--vocab-size", "257"]
    page = _report(_train(tmp_path / "run", str(text), *options))
    name = {"byte": "byte", "bpe": "token"}[unit]
    shown = _text(_of(page, f"Loss, {name} by {name}").split('id="losses">')[1])
    assert ("\\xc3\\xbc" in shown) or ("ü" in shown)
    assert "\ufffd" not in shown


def test_what_a_unit_hardly_goes_along_with_is_said_so(run: str, page: str, tmp_path: Path) -> None:
    begun = load_run(run)
    zeros = {name: np.zeros_like(array) for name, array in begun.parameters.items()}
    save_run(replace(begun, parameters=zeros), tmp_path / "zeros")
    for text, is_weak in ((page, False), (_report(str(tmp_path / "zeros")), True)):
        cards = re.findall(r"<p>r = ([+-][\d.]+)(, hardly at all)?\.", text)
        assert len(cards) == 6
        assert all(bool(weak) is is_weak is (abs(float(r)) < 0.3) for r, weak in cards)


def _arguments(command: str) -> TrainRequest:
    words = shlex.split(command)
    assert words[0] == "d2lrnn"
    request = parse(words[1:])
    assert isinstance(request, TrainRequest)
    return request


@pytest.mark.parametrize(
    "argv",
    [
        ["sample"],
        ["sample", "--cell", "gru", "--impl", "concise", "--layers", "2", "--dropout", "0.1", "--clip",
         "none", "--hidden", "12", "--seed", "7", "--min-freq", "30"],
        ["TEXT", "--embedding", "8", "--hidden", "8", "--tied", "--input-dropout", "0.2", "--output-dropout",
         "0.3", "--tokens", "word", "--normalize", "--optimizer", "adamw", "--weight-decay", "0.02",
         "--steps", "4"],
        ["TEXT", "--iterator", "sequential", "--accumulate", "2", "--batch-size", "3", "--steps", "5",
         "--schedule", "cosine", "--warmup", "3", "--optimizer", "sgd", "--momentum", "0.9", "--nesterov"],
        ["sample", "--schedule", "cosine", "--schedule-steps", "1000", "--lr", "0.3", "--epochs", "5",
         "--patience", "2"],
        ["TEXT", "sample", "--no-normalize", "--steps", "3", "--schedule", "plateau",
         "--schedule-patience", "2"],
    ],
)  # fmt: skip
def test_the_command_makes_the_same_run(argv: list[str], tmp_path: Path) -> None:
    text = tmp_path / "it's.txt"
    text.write_text("Call me Ishmael. Some years ago, never mind how long. " * 6)
    asked = parse(["train", *[str(text) if word == "TEXT" else word for word in argv]])
    assert isinstance(asked, TrainRequest)
    numpy = d2lrnn.backend("numpy")
    begun, _, _ = new_run(asked, numpy)
    (command,), exceptions = commands_of(begun)
    again, _, _ = new_run(_arguments(command), numpy)
    assert exceptions == []
    for name in ("model", "data", "training", "num_epochs", "early_stopping", "text_digest"):
        assert getattr(again, name) == getattr(begun, name)


def test_a_changed_run_is_repeated_by_several_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = _train(Path("first"), "sample", *QUICK, "--epochs", "2", "--schedule", "exponential")
    changed = [
        "--resume",
        "first",
        "--epochs",
        "3",
        "--lr",
        "0.5",
        "--clip",
        "none",
        "--schedule",
        "constant",
    ]
    assert main(["train", *changed]) == 0
    begun = load_run(first)
    commands, exceptions = commands_of(begun)
    assert exceptions == []
    assert len(commands) == 2
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
    again = load_run("repeated")
    assert again.training == begun.training
    assert again.changes == begun.changes
    for name, array in begun.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], array)
    assert _text(_of(_report(first), "The command")).count("d2lrnn train") == 2


def test_a_text_that_is_gone_is_replaced_by_one_of_the_models_own(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Call me Ishmael.\nSome years ago, never mind how long.\n" * 20)
    folder = _train(tmp_path / "run", str(text), *QUICK[6:], "--epochs", "1")
    moved = text.rename(tmp_path / "moved.txt")
    page = _report(folder)
    assert "is not there any more" in _of(page, "Loss")
    assert "a text that the model wrote itself" in _of(page, "Loss")
    assert 'class="note"' in page
    page = _report(folder, str(moved))
    assert "the beginning of the validation part" in _of(page, "Loss")
    assert 'class="note"' not in page
    moved.write_text("Some years ago: quite another text. " * 30)
    page = _report(folder, str(moved))
    assert "another text than that of the run" in _of(page, "Loss")
    shown = _text(_of(page, "Loss").split('id="losses">')[1])
    assert "Some years ago□ □□i□e ano□her" in shown


def test_an_interrupted_run_without_an_epoch_or_a_history(tmp_path: Path, run: str) -> None:
    begun = load_run(run)
    part = EpochPart(3, 90.0, 30, 1.0)
    save_run(replace(begun, position=Position(3, (), part), identity="ab" * 16), tmp_path / "begun")
    (tmp_path / "begun" / "history.jsonl").unlink(missing_ok=True)
    page = _report(str(tmp_path / "begun"))
    assert "No epoch has ended yet" in page
    assert "0 of 4 epochs, and 3 batches of the next one, so far." in page
    assert "3 steps, inside epoch 1" in _of(page, "Samples by epoch")
    # As before version 0.4: no rate of an epoch, and no size of its text.
    records = tuple(replace(r, learning_rate=None, num_tokens=None) for r in begun.position.epochs)
    old = replace(begun, position=Position(20, records), text_size=None, text_digest=None)
    save_run(replace(old, prompt=None), tmp_path / "old")
    page = _report(str(tmp_path / "old"))
    assert "learning rate, at the end" not in page
    assert "Loss, character by character" in page


@pytest.mark.parametrize("number", [1, 2])
def test_runs_of_earlier_versions_have_a_page(number: int, tmp_path: Path) -> None:
    folder = shutil.copytree(Path(__file__).with_name(f"format-{number}"), tmp_path / "run", symlinks=True)
    page = _report(str(folder))
    assert "learning rate, at the end" not in page
    assert "polyline" in page or "<circle" in _of(page, "Perplexity by epoch").partition("</ul>")[2]


def test_a_perplexity_that_overflowed_is_left_out(tmp_path: Path, run: str) -> None:
    begun = load_run(run)
    infinite = {"train_perplexity": math.inf, "val_perplexity": math.inf}
    records = tuple(replace(record, **infinite) for record in begun.position.epochs)
    save_run(replace(begun, position=Position(20, records)), tmp_path / "all")
    assert "No perplexity is finite" in _report(str(tmp_path / "all"))
    save_run(
        replace(begun, position=Position(20, (*begun.position.epochs[:3], records[3]))), tmp_path / "one"
    )
    assert "inf" not in _of(_report(str(tmp_path / "one")), "Perplexity by epoch")


def test_a_damaged_checkpoint_is_named(tmp_path: Path, run: str) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run", symlinks=True))
    model = folder / "step-00000005" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    samples = _of(_report(str(folder)), "Samples by epoch")
    assert "Not readable, and so not shown: epoch 1 (5 steps)" in samples
    assert samples.count("<h3>") == 3


def test_many_checkpoints_are_sampled_now_and_then(tmp_path: Path) -> None:
    folder = _train(tmp_path / "run", "sample", *QUICK, "--hidden", "4", "--epochs", "11", "--keep", "11")
    samples = _of(_report(folder), "Samples by epoch")
    assert "11 checkpoints are kept, from epoch 1 (5 steps) to epoch 11 (55 steps): 8 are shown" in samples
    assert samples.count("<h3>") == 8


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{none}", "--html", "x.html"], "does not exist"),
        (["{run}", "--html", "/nowhere/x.html"], "--html /nowhere/x.html cannot be written"),
        (["{alone}", "--html", "x.html"], "holds a model alone"),
        (["{run}", "{none}", "--html", "x.html"], "there is no file"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    argv: list[str], message: str, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    numpy, spec = d2lrnn.backend("numpy"), ModelSpec(4)
    d2lrnn.save(numpy.build(spec, initial_parameters(spec)), "alone", vocab=d2lrnn.Vocab("abc"))
    named = {"none": str(tmp_path / "none"), "run": run, "alone": "alone"}
    assert main(["report", *(word.format(**named) for word in argv)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


def test_the_page_goes_to_standard_output(run: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", run, "--html", "-"]) == 0
    out, error = capfd.readouterr()
    assert out.startswith("<!DOCTYPE html>")
    assert "saved    -" in error


def test_curves_have_whole_epochs_and_a_scale_that_fits() -> None:
    one = line_plot("p", "epoch", "", [Curve("a", [(1.0, 8.0)], 0)], counted=True)
    assert "<circle" in one
    assert "polyline" not in one
    assert re.findall(r">([\d.]+)</text>", one)[-2:] == ["0", "1"]
    three = [Curve("a", [(1.0, 900.0), (2.0, 90.0), (3.0, 9.0)], 0)]
    steep = line_plot("p", "epoch", "", three, counted=True, logarithmic=True)
    heights = [float(y) for y in re.findall(r",([\d.]+)", re.findall('points="(.*?)"', steep)[0])]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert "1.5" not in re.findall(r">([\d.]+)</text>", steep)


def test_a_heat_map_is_a_picture_of_its_numbers() -> None:
    figure = heat_map("h", ["0", "1"], ["a", "b", "c"], np.array([[0.0, 1.0, -1.0], [0.5, -0.2, 0.0]]))
    (found,) = re.findall('base64,([^"]*)', figure)
    png = base64.b64decode(found)
    assert struct.unpack(">II", png[16:24]) == (3, 2)
    start = png.index(b"IDAT") + 4
    pixels = zlib.decompress(png[start : png.index(b"IEND") - 8])
    rows = [np.frombuffer(pixels[n * 13 + 1 : n * 13 + 13], np.uint8).reshape(3, 4) for n in range(2)]
    assert rows[0].tolist() == [[0, 114, 178, 0], [213, 94, 0, 255], [0, 114, 178, 255]]
    assert rows[1][:, 3].tolist() == [128, 51, 0]


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("kind", ["characters", "words"])
def test_the_page_looks_as_it_should(
    run: str, words: str, kind: str, width: int, scheme: str, tmp_path: Path
) -> None:
    seen = look(_report(run if kind == "characters" else words), width, scheme, tmp_path)
    check_look(seen, width, scheme)
    found = seen.found
    assert found["smallest"] >= 11
    assert found["texts"] > 20
    # Curves, on characters those of the rate, and the heat map.
    assert found["shown"] == (3 if kind == "characters" else 2)
