"""The progress line of a training."""

from __future__ import annotations

import io

import pytest

from d2lrnn.cli.progress import ProgressDisplay, thousands
from d2lrnn.training.history import EpochRecord, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("epoch", "step", "filled"), [(1, 1, 1), (1, 6, 6), (1, 12, 12), (2, 1, 13), (2, 12, 24)]
)
def test_the_bar_is_as_long_as_the_part_that_is_done(epoch: int, step: int, filled: int) -> None:
    terminal = Terminal()
    ProgressDisplay(2, terminal).step(Progress(epoch, 2, step, 12, 7.125, 12345.6))
    bar = f"[{'#' * filled}{'.' * (24 - filled)}]"
    assert terminal.getvalue() == f"\r{bar}  epoch {epoch}/2  perplexity 7.12  12,346 tokens/s"


def test_the_bar_is_drawn_again_after_a_while_and_cleared_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    terminal = Terminal()
    display = ProgressDisplay(1, terminal)
    display.step(Progress(1, 1, 1, 4, 9.0, 10.0))
    display.step(Progress(1, 1, 2, 4, 9.0, 10.0))
    assert terminal.getvalue().count("\r") == 1
    now += 1.0
    display.step(Progress(1, 1, 3, 4, 9.0, 10.0))
    assert terminal.getvalue().count("\r") == 2
    display.close()
    assert terminal.getvalue().endswith("\r")
    assert not terminal.getvalue().rpartition("s")[2].strip()


def test_validation_and_the_time_left_are_shown_and_a_line_of_each_epoch_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    terminal = Terminal()
    display = ProgressDisplay(4, terminal)
    # The run was resumed: its first half is not what took this time.
    display.step(Progress(3, 4, 1, 10, 9.0, 10.0))
    now += 9.0
    display.step(Progress(3, 4, 10, 10, 8.5, 10.0))
    assert "perplexity 8.50  0:10 left" in terminal.getvalue()
    display.epoch(EpochRecord(3, 8.25, 8.75, 3.0, 3.2, 1000.0, 10))
    now += 1.0
    display.step(Progress(4, 4, 1, 10, 8.0, 123456.0))
    stays, _, drawn = terminal.getvalue().rpartition("\n")
    assert stays.endswith("\repoch 3/4  perplexity 8.25, validation 8.75  1,000 tokens/s")
    # At 80 columns the speed gives way to the bar.
    assert drawn == "\r[################.....]  epoch 4/4  perplexity 8.00  validation 8.75  0:09 left"


def test_a_log_has_a_line_for_every_tenth_epoch_and_no_bar() -> None:
    log = io.StringIO()
    display = ProgressDisplay(30, log)
    display.step(Progress(1, 30, 1, 4, 9.0, 10.0))
    for epoch in range(1, 31):
        display.epoch(EpochRecord(epoch, 8.0, 9.0, 3.0, 3.2, 1000.0, 4))
    display.close()
    lines = log.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == [f"{n}/30" for n in (1, *range(3, 31, 3))]
    assert lines[0] == "epoch 1/30  perplexity 8.00, validation 9.00  1,000 tokens/s"


def test_numbers_are_grouped() -> None:
    assert thousands(1234567.8) == "1,234,568"
