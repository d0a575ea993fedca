"""The progress line of a training."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from d2lrnn.cli.progress import ProgressDisplay, duration, thousands
from d2lrnn.training.history import EpochRecord, Progress

LAST_LINE = re.compile(r".*(?:\r\x1b\[2K|\n)")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """The line that is drawn now, without its colours."""
        last = LAST_LINE.sub("", self.getvalue())
        return re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", last)


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return clock


@pytest.mark.parametrize(
    ("epoch", "step", "filled"), [(1, 1, 1), (1, 6, 6), (1, 12, 12), (2, 1, 13), (2, 12, 24)]
)
def test_the_bar_is_as_long_as_the_part_that_is_done(
    epoch: int, step: int, filled: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")  # without colours, what is not done is blank
    terminal = Terminal()
    ProgressDisplay(2, terminal).step(Progress(epoch, 2, step, 12, 7.125, 12345.6))
    bar, text = terminal.shown()[:24], terminal.shown()[24:]
    assert bar.count("━") == filled
    assert re.fullmatch(rf" epoch {epoch}/2  perplexity 7.12 +\S+ left 12,346 tokens/s", text)


def test_the_bar_is_drawn_again_after_a_while_and_cleared_at_the_end(clock: Clock) -> None:
    terminal = Terminal()
    display = ProgressDisplay(1, terminal)
    display.step(Progress(1, 1, 1, 4, 9.0, 10.0))
    drawn = terminal.getvalue()
    display.step(Progress(1, 1, 2, 4, 8.0, 10.0))
    assert terminal.getvalue() == drawn
    clock.now += 1.0
    display.step(Progress(1, 1, 3, 4, 7.0, 10.0))
    assert "perplexity 7.00" in terminal.shown()
    display.close()
    assert terminal.getvalue().endswith("\x1b[2K")


def test_a_process_that_is_killed_leaves_a_cursor(clock: Clock) -> None:
    terminal = Terminal()
    display = ProgressDisplay(1, terminal)
    for step in (1, 2, 3):
        display.step(Progress(1, 1, step, 4, 9.0, 10.0))
        assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")
        clock.now += 1.0


def test_validation_and_the_time_left_are_shown_and_a_line_of_each_epoch_stays(clock: Clock) -> None:
    terminal = Terminal()
    display = ProgressDisplay(4, terminal)
    # The run was resumed: its first half is not what took this time.
    for step in range(1, 11):
        display.step(Progress(3, 4, step, 10, 9.5 - step / 10, 10.0))
        clock.now += 1.0
    assert re.search(r"perplexity 8\.50 00:1[01] left", terminal.shown())
    display.epoch(EpochRecord(3, 8.25, 8.75, 3.0, 3.2, 1000.0, 10))
    assert "\x1b[2Kepoch 3/4  perplexity 8.25, validation 8.75  1,000 tokens/s\n" in terminal.getvalue()
    display.step(Progress(4, 4, 1, 10, 8.0, 123456.0))
    left = r"epoch 4/4  perplexity 8\.00  validation 8\.75 00:(?:09|10) left 123,456 tokens/s"
    assert re.search(left, terminal.shown())


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, r"\S{8,24} *epoch 8/9  perplexity 8.00  validation 8.75 \S+ left"),
        (66, r"\S{8,24} *epoch 8/9  perplexity 8.00  validation 8.75 \S+ left"),
        (65, r"epoch 8/9  perplexity 8.00  validation 8.75"),
        (30, r"epoch 8/9  perplexity 8.00  v…"),
    ],
)
def test_the_line_fits_the_terminal(
    width: int, shown: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    display = ProgressDisplay(9, terminal)
    display.epoch(EpochRecord(7, 8.25, 8.75, 3.0, 3.2, 1000.0, 10))
    display.step(Progress(8, 9, 1, 10, 8.0, 1234567.0))
    assert re.fullmatch(shown, terminal.shown())
    assert len(terminal.shown()) <= width


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


def test_a_log_says_once_how_long_it_will_take(clock: Clock) -> None:
    log = io.StringIO()
    display = ProgressDisplay(10, log)
    for step in range(1, 9):
        display.step(Progress(1, 10, step, 100, 9.0, 10.0))
        clock.now += 1.0
    assert log.getvalue() == "step 6 of 1,000: about 17 min left\n"


def test_the_first_step_and_a_run_that_is_soon_done_are_not_counted(clock: Clock) -> None:
    log = io.StringIO()
    display = ProgressDisplay(1, log)
    clock.now += 600.0
    for step in range(1, 13):
        display.step(Progress(1, 1, step, 12, 9.0, 10.0))
        clock.now += 1.0
    assert log.getvalue() == ""


@pytest.mark.parametrize(("seconds", "shown"), [
    (0.4, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (3569, "59 min"), (3571, "1 h 0 min"),
    (86340, "23 h 59 min"),
    (86400, "1 d 0 h"), (200_000, "2 d 8 h"),
])  # fmt: skip
def test_times_for_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_only_a_training_imports_what_draws() -> None:
    code = "import sys, d2lrnn, d2lrnn.cli.main, d2lrnn.cli.generate, d2lrnn.cli.evaluate\n"
    code += "assert not [name for name in sys.modules if name.split('.')[0] == 'rich']"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_are_grouped() -> None:
    assert thousands(1234567.8) == "1,234,568"
