"""``d2lrnn train --plot``: the curve below the progress line, and at the end."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from d2lrnn.cli import terminal_curve
from d2lrnn.cli.main import main
from d2lrnn.cli.progress import ProgressDisplay
from d2lrnn.cli.terminal_curve import PerplexityCurve
from d2lrnn.training.history import EpochRecord, Progress

pytest.importorskip("plotille")

QUICK = ["--num-train", "600", "--num-val", "200", "--batch-size", "128", "--steps", "16", "--hidden", "8"]


def _records(validation: list[float], train: list[float] | None = None) -> list[EpochRecord]:
    return [
        EpochRecord(n, t, v, 3.0, 3.0, 1.0, 4)
        for n, (v, t) in enumerate(zip(validation, train or validation, strict=True), 1)
    ]


def _shown(
    records: list[EpochRecord], width: int = 40, height: int = 24, encoding: str = "utf-8"
) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, height=height).print(PerplexityCurve(records))
    file.flush()
    written = file.buffer.getvalue()  # type: ignore[attr-defined]
    return str(written.decode(encoding)).splitlines()


def _plotted(lines: list[str]) -> list[str]:
    """The rows of the picture, without the axes."""
    return [
        re.split("[│┤|+]", line, maxsplit=1)[1] for line in lines if re.match(" *[0-9.,]* [│┤|+](?!-)", line)
    ]


def test_a_falling_curve_falls() -> None:
    lines = _shown(_records([30.0, 20.0, 10.0]))
    assert lines[0] == "perplexity  ━━ validation  ╍╍ training"
    assert lines[-1].split() == ["1", "epoch", "3"]
    labels = [float(match[1]) for line in lines if (match := re.match(r" *([0-9.]+) ┤", line))]
    assert labels == [30.0, 25.0, 20.0, 15.0, 10.0]
    rows = _plotted(lines)
    firsts = [len(row) - len(row.lstrip()) for row in rows]
    assert firsts == sorted(firsts)
    assert firsts[0] == 0
    assert len(rows[-1].rstrip()) == len(rows[-1])  # it ends at the right


def test_training_is_dashed_and_below_what_it_is() -> None:
    rows = _plotted(_shown(_records([30.0] * 9, [10.0] * 9)))
    assert " " not in rows[0]
    assert 0 < rows[-1].strip().count(" ") < len(rows[-1]) / 2
    assert not "".join(rows[1:-1]).strip()


@pytest.mark.parametrize(("width", "height"), [(200, 50), (80, 24), (40, 24), (24, 11), (20, 10)])
@pytest.mark.parametrize("number", [2, 7, 300])
def test_it_fits_the_terminal(width: int, height: int, number: int) -> None:
    lines = _shown(_records([30.0 - 20 * n / number for n in range(number)]), width, height)
    assert 0 < len(lines) <= height - 2
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "height", "number"), [(19, 24, 9), (40, 9, 9), (40, 24, 1), (40, 24, 0)])
def test_without_room_or_epochs_nothing_is_drawn(width: int, height: int, number: int) -> None:
    assert "".join(_shown(_records([9.0] * number), width, height)).strip() == ""


def test_perplexities_far_apart_have_a_logarithmic_axis() -> None:
    lines = _shown(_records([1000.0, 100.0, 10.0]))
    labels = [match[1] for line in lines if (match := re.match(r" *([0-9.,]+) ┤", line))]
    assert labels == ["1,000", "100", "10"]


def test_a_perplexity_that_overflowed_is_left_out() -> None:
    assert _shown(_records([math.inf, math.inf])) == [""] or _shown(_records([math.inf, math.inf])) == []
    rows = _plotted(_shown(_records([30.0, 20.0, 10.0], [math.inf, 20.0, 10.0])))
    assert len(rows) == 9


def test_equal_perplexities_are_a_level_line() -> None:
    rows = _plotted(_shown(_records([9.0] * 5)))
    assert sum(bool(row.strip()) for row in rows) == 1


def test_where_there_is_no_braille_there_are_stars() -> None:
    lines = _shown(_records([30.0, 20.0, 10.0]), encoding="ascii")
    assert any("*" in line for line in lines)
    assert lines[0] == "perplexity  -- validation  -  training"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_it_is_drawn_below_the_bar_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", iter(range(1000)).__next__)
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "60"), ("LINES", "24"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    terminal, curve = Terminal(), PerplexityCurve([])
    display = ProgressDisplay(9, terminal, curve)
    display.step(Progress(1, 9, 1, 4, 9.0, 10.0))
    assert "validation  ╍╍" not in terminal.getvalue()
    for number in (2, 3):
        curve.epochs = tuple(_records([30.0 - 10 * n for n in range(number)]))
        display.step(Progress(number + 1, 9, 1, 4, 9.0, 10.0))
        drawn = terminal.getvalue()[terminal.getvalue().rindex(f"epoch {number + 1}/9") :]
        assert "━━ validation  ╍╍ training" in drawn
        assert re.search(rf"1 +epoch +{number}\b", drawn)
    display.close()
    # All of it is wiped: what stays is printed then.
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")


def test_a_log_has_it_once_at_the_end_and_json_for_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", *QUICK, "--epochs", "3", "--plot"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    before, _, after = captured.out.partition("perplexity  ━━ validation  ╍╍ training\n")
    assert "measure" in before
    assert re.search(r"\n +1 +epoch +3\ntrain       perplexity", after)
    assert "━━" not in after + captured.err
    assert "\x1b" not in captured.out
    # The earlier epochs of a resumed run are part of it.
    assert main(["train", "--resume", str(tmp_path), "--epochs", "4", "--plot", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"\n +1 +epoch +4\n", captured.err)
    assert "━━" not in captured.out


def test_without_plotille_the_command_that_installs_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal_curve, "find_spec", lambda name: None)
    assert main(["train", *QUICK, "--plot", "--out", str(tmp_path / "run")]) == 2
    message = "--plot needs plotille, which is not installed here: pip install plotille"
    assert capsys.readouterr() == ("", f"d2lrnn: {message}\n")
    assert list(tmp_path.iterdir()) == []
