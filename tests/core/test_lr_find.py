"""``d2lrnn lr-find`` and the range test behind it."""

from __future__ import annotations

import json
import math
import signal
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from d2lrnn_numpy.adapter import NumpyLearner

from d2lrnn import ModelSpec, SequentialPartitioning, TrainingSpec, backend, initial_parameters
from d2lrnn.cli.lr_find import draw
from d2lrnn.cli.main import main
from d2lrnn.contract.optimizers import Adam
from d2lrnn.contract.values import StepResult
from d2lrnn.data.corpus import load_corpus
from d2lrnn.errors import SpecError
from d2lrnn.training import pictures
from d2lrnn.training.rate_range import RateRange, rate_range

QUICK = ["--num-train", "640", "--num-val", "64", "--batch-size", "64", "--steps", "8", "--hidden", "8"]


def _find(*argv: str | Path) -> int:
    return main(["lr-find", *QUICK, *map(str, argv)])


def _learner(training: TrainingSpec, num_steps: int = 8) -> tuple[Any, Any]:
    numpy, spec = backend("numpy"), ModelSpec(28, num_hiddens=4)
    learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), training)
    return learner, SequentialPartitioning(load_corpus("sample"), batch_size=32, num_steps=num_steps)


class Scripted:
    """Gives losses from a list in place of a learner's own."""

    def __init__(self, learner: Any, losses: list[float]) -> None:
        self._learner, self._losses, self.rates, self.states = learner, iter(losses), [], []
        self.learning_rate, self.step = 1.0, 0

    def initial_state(self, batch_size: int) -> str:
        return "zero"

    def train_step(self, batch: Any, state: Any) -> tuple[StepResult, str]:
        self.rates.append(self.learning_rate)
        self.states.append(state)
        return StepResult(next(self._losses), 1.0), "carried"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)


def test_rates_rise_by_the_same_factor() -> None:
    learner, data = _learner(TrainingSpec())
    scripted: Any = Scripted(learner, [2.0] * 30)
    found = rate_range(scripted, data, lowest=0.01, highest=10, num_steps=30)
    assert found.rates == tuple(scripted.rates)
    assert found.rates[0] == pytest.approx(0.01)
    assert found.rates[-1] == pytest.approx(10)
    factors = np.divide(found.rates[1:], found.rates[:-1])
    assert factors == pytest.approx([1000 ** (1 / 29)] * 29)
    assert found.ended == "finished"
    assert found.smoothed == pytest.approx([2.0] * 30)
    assert found.suggestion is None, "the loss has not fallen"


def test_the_state_is_carried_and_begins_anew_with_every_epoch() -> None:
    learner, data = _learner(TrainingSpec(), num_steps=100)
    number = data.num_train_batches
    assert 1 < number < 20
    scripted: Any = Scripted(learner, [2.0] * 40)
    rate_range(scripted, data, num_steps=2 * number + 12)
    assert [state == "zero" for state in scripted.states[: 2 * number]] == 2 * [True, *[False] * (number - 1)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e9])
def test_it_ends_where_the_loss_diverges(bad: float) -> None:
    learner, data = _learner(TrainingSpec())
    losses = [3.0 - 0.01 * step for step in range(25)] + [bad] * 5
    found = rate_range(Scripted(learner, losses), data, num_steps=30)  # type: ignore[arg-type]
    assert found.ended == "diverged"
    assert len(found.losses) == (26 if bad == 1e9 else 25)
    assert found.suggestion in found.rates[:25]


def test_the_suggestion_is_where_the_smoothed_loss_falls_fastest() -> None:
    rates = tuple(10 ** (step / 20 - 3) for step in range(80))
    losses = tuple(3.0 / (1 + math.exp((step - 40) / 3)) + 0.5 + (step > 70) * 9.0 for step in range(80))
    found = RateRange(rates, losses, "finished")
    slopes = np.gradient(np.array(found.smoothed))
    assert found.suggestion == rates[int(np.argmin(slopes))]
    assert rates[38] < found.suggestion < rates[60]
    # What the rates after the lowest loss did suggests nothing.
    assert RateRange(rates[:12], tuple(np.linspace(1, 2, 12)), "diverged").suggestion is None


def test_the_learner_is_put_back() -> None:
    learner, data = _learner(TrainingSpec(0.01, optimizer=Adam()))
    batch = next(data.train_batches(1))
    learner.train_step(batch, learner.initial_state(len(batch.inputs)))
    before = learner.export_parameters(), learner.export_optimizer_state(), learner.step
    rate_range(learner, data, num_steps=20)
    after = learner.export_parameters(), learner.export_optimizer_state(), learner.step
    assert learner.learning_rate == 0.01
    np.testing.assert_equal(after, before)


def test_numbers_out_of_their_range() -> None:
    learner, data = _learner(TrainingSpec())
    wrong: list[dict[str, Any]] = [
        {"lowest": 0.0}, {"highest": math.inf}, {"lowest": 1.0, "highest": 1.0}, {"num_steps": 5},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(SpecError):
            rate_range(learner, data, **options)


def test_the_command_suggests_a_rate_at_which_training_learns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _find("--cell", "gru", "--optimizer", "adam", "--json", tmp_path / "a.json") == 0
    printed = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "a.json").read_text())
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"]) <= 100
    assert found["rates"][0] == 1e-5
    assert f"suggestion  --lr {found['suggestion']:.2g}, where the smoothed loss falls fastest" in printed
    assert 12 <= len(printed) <= 22
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    # One epoch at that rate learns more than one at the first.
    losses = []
    for rate in (found["suggestion"], found["rates"][0]):
        words = ["--cell", "gru", "--optimizer", "adam", "--lr", str(rate), "--epochs", "1"]
        assert main(["train", *QUICK, *words, "--json", "b.json"]) == 0
        losses.append(json.loads(Path("b.json").read_text())["epochs"][0]["val_perplexity"])
    assert losses[0] < losses[1] - 1


def test_the_same_command_gives_the_same_numbers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert _find("--trials", "20", "--seed", "3", "--json", tmp_path / name) == 0
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()


def test_a_file_of_train_gives_the_model_and_what_is_not_of_the_test_is_left_out(tmp_path: Path) -> None:
    file, words = tmp_path / "run.toml", ["--trials", "20", "--json"]
    file.write_text(
        'epochs = 2\npatience = 1\nseed = 3\n[model]\ncell = "gru"\n'
        '[optimizer]\nname = "adam"\nlr = 0.5\n[schedule]\nname = "cosine"\n'
    )
    assert _find("--config", file, *words, tmp_path / "a") == 0
    assert _find("--cell", "gru", "--optimizer", "adam", "--seed", "3", *words, tmp_path / "b") == 0
    found, same = (json.loads((tmp_path / name).read_text()) for name in "ab")
    assert found["training"].pop("learning_rate") == 0.5
    same["training"].pop("learning_rate")
    assert found == same


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_picture(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / f"rates.{kind}"
    assert _find("--trials", "20", "--max-lr", "1000", "--out", out) == 0
    assert f"saved    {out}" in capsys.readouterr().out
    if kind == "svg":
        ElementTree.parse(out)
    else:
        assert out.read_bytes().startswith(b"\x89PNG")


def test_the_picture_has_room_for_the_fall_and_not_for_what_diverged() -> None:
    pytest.importorskip("matplotlib")
    rates = tuple(10 ** (step / 10 - 3) for step in range(40))
    losses = tuple(3.0 - 0.05 * step for step in range(30)) + (50.0,) * 10
    (axes,) = draw(RateRange(rates, losses, "diverged")).axes
    low, high = axes.get_ylim()
    assert 0 < low < min(losses)
    assert 3.0 < high < 5.0
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min-lr", "0"], "--min-lr is 0: it must be a number above 0"),
        (["--max-lr", "inf"], "--max-lr is inf: it must be a number above 0"),
        (["--min-lr", "2", "--max-lr", "1"], "--max-lr is 1: it must be above --min-lr, 2"),
        (["--trials", "3"], "--trials is 3: it must be at least 20"),
        (["--out", "a.pdf"], "--out is a.pdf: its name must end in .png or .svg"),
        (["--hidden", "0"], "--hidden is 0: it must be at least 1"),
    ],
)
def test_what_cannot_be(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _find(*words) == 2
    assert capsys.readouterr().err == f"d2lrnn: {message}\n"


def test_a_picture_without_matplotlib_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    assert _find("--out", tmp_path / "a.svg") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("d2lrnn: a picture needs matplotlib")
    assert printed.out == ""


def test_ctrl_c_shows_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = NumpyLearner.train_step

    def interrupted(self: Any, batch: Any, state: Any) -> Any:
        if self.step == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, state)

    monkeypatch.setattr(NumpyLearner, "train_step", interrupted)
    assert _find("--backend", "numpy") == 130
    printed = capsys.readouterr().out
    assert "interrupted after 5 steps" in printed
    assert "suggestion" not in printed
