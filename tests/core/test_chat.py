"""``d2lrnn chat``: lines from a pipe, and a terminal."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from d2lrnn.cli.main import main
from d2lrnn.data.vocabulary import UNKNOWN

pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")

QUICK = ["--epochs", "1", "--num-train", "600", "--num-val", "200", "--batch-size", "128", "--steps", "16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["train", *QUICK, "--out", str(folder / "a")]) == 0
    assert main(["train", *QUICK, "--hidden", "8", "--cell", "gru", "--out", str(folder / "b")]) == 0
    return folder


class Chat:
    """Chats through a pipe, in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.folder, self._capsys, self._patch = folder, capsys, patch

    def __call__(self, *lines: str, options: tuple[str, ...] = ("--num", "12")) -> tuple[int, str, str]:
        self._capsys.readouterr()
        self._patch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code = main(["chat", str(self.folder / "a"), *options])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def text(self, prefix: str, *options: str, run: str = "a") -> str:
        """What ``generate`` prints."""
        self._capsys.readouterr()
        assert main(["generate", str(self.folder / run), "--prefix", prefix, "--num", "12", *options]) == 0
        return self._capsys.readouterr().out


@pytest.fixture
def chat(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Chat:
    return Chat(folder, capsys, monkeypatch)


def test_beginnings_are_continued_with_one_seed_after_the_other(chat: Chat) -> None:
    code, printed, log = chat("it has", "", "the", "/again")
    assert (code, log) == (0, ""), "no prompt"
    texts = [chat.text("it has"), chat.text("the", "--seed", "1"), chat.text("the", "--seed", "2")]
    assert printed == "".join(texts)


def test_settings_change_what_follows(chat: Chat, folder: Path) -> None:
    lines = ["/temperature 0", "it", "/temperature 0.5", "/seed 7", "/top-k 4", "it", "/top-k off"]
    lines += [
        "/top-p 0.3",
        "/num 5",
        "it",
        f"/model {folder / 'b'}",
        "/seed",
        "/temperature",
        "/top-k",
        "/model",
    ]
    code, printed, log = chat(*lines)
    assert code == 0
    assert printed.splitlines() == [
        chat.text("it", "--temperature", "0").rstrip("\n"),
        chat.text("it", "--temperature", "0.5", "--seed", "7", "--top-k", "4").rstrip("\n"),
        chat.text("it", "--temperature", "0.5", "--seed", "8", "--top-p", "0.3", "--num", "5").rstrip("\n"),
    ]
    assert log.splitlines() == [
        "temperature 0.0", "temperature 0.5", "seed 7", "top-k 4", "top-k off", "top-p 0.3", "num 5",
        f"{folder / 'b'}: scratch GRU (reset before), 1 layer of 8 hidden units, 28 symbols",
        "seed 9", "temperature 0.5", "top-k off", f"model {folder / 'b'}",
    ]  # fmt: skip


def test_another_model_continues(chat: Chat, folder: Path) -> None:
    _, printed, _ = chat("it", f"/model {folder / 'b'}", "it", "/quit", "it")
    assert printed == chat.text("it") + chat.text("it", "--seed", "1", run="b")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "/temprature 1",
            "there is no command /temprature: did you mean /temperature? /help lists all of them",
        ),
        ("/xyz", "there is no command /xyz: /help lists all of them"),
        ("/", "there is no command /: /help lists all of them"),
        ("/temperature x", "/temperature takes a number, and 'x' is none"),
        ("/temperature -1", "/temperature is -1.0: it must be a number, 0 (greedy) or above"),
        ("/top-k 1.5", "/top-k takes a whole number, and '1.5' is none"),
        ("/top-p 2", "/top-p is 2.0: it must be a number above 0 and at most 1"),
        ("/seed -1", "/seed is -1: it must be 0 or above"),
        ("/num -1", "/num is -1: it must be 0 or above"),
        ("/model nowhere", "nowhere does not exist: make a run with d2lrnn train --out nowhere"),
        ("/again", "there is nothing to continue again: type a beginning"),
        ("/quit now", "/quit takes nothing behind it"),
    ],
)
def test_what_is_wrong_gets_one_line_and_changes_nothing(chat: Chat, line: str, message: str) -> None:
    code, printed, log = chat(line, "it")
    assert (code, log) == (2, f"d2lrnn: {message}\n")
    assert printed == chat.text("it")


def test_a_temperature_of_zero_with_top_k(chat: Chat) -> None:
    _, _, log = chat("/top-k 3", "/temperature 0", "/temperature")
    assert log.splitlines()[1:] == [
        "d2lrnn: /top-k and /top-p need a /temperature above 0: at 0 the likeliest token is taken",
        "temperature 0.8",
    ]


def test_the_help_names_every_command_and_its_value_and_fits_the_terminal(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    code, printed, log = chat("/help")
    assert (code, printed) == (0, "")
    assert max(map(len, log.splitlines())) <= 44
    in_one = " ".join(log.split())
    for part in (
        "/temperature X 0 takes",
        "(now 0.8)",
        "/top-k K",
        "(now off)",
        "/num N add N tokens (now 12)",
    ):
        assert part in in_one
    assert "//TEXT" in in_one


def test_a_beginning_with_a_slash_and_one_that_is_unknown(chat: Chat) -> None:
    code, printed, log = chat("//it")
    assert code == 0
    assert printed.startswith("/it")
    assert log == "d2lrnn: warning: the vocabulary does not have '/': fed to the model as the unknown token\n"


def test_the_unknown_token_and_options(chat: Chat) -> None:
    options = ("--temperature", "50", "--num", "300", "--seed", "3")
    code, printed, _ = chat("it", options=options)
    assert code == 0
    assert printed == chat.text("it", *options)
    assert UNKNOWN in printed
    assert UNKNOWN not in chat("it", options=(*options, "--no-unknown"))[1]


def test_lines_in_another_encoding(chat: Chat, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    words = [sys.executable, "-m", "d2lrnn", "chat", str(folder / "a"), "--num", "3"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(words, input=b"caf\xe9\n", capture_output=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr == b"d2lrnn: standard input is not utf-8: give it as text in that encoding\n"


class Terminal:
    """A chat at a pseudo-terminal, in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process, self._descriptor, self._seen = process, descriptor, ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def until(self, text: str) -> str:
        """What was shown up to a text; waits for it."""
        while text not in self._seen:
            assert select.select([self._descriptor], [], [], 120)[0], f"no {text!r} in {self._seen!r}"
            self._seen += os.read(self._descriptor, 4096).decode()
        shown, _, self._seen = self._seen.partition(text)
        return shown

    def interrupt(self) -> None:
        """Ctrl-C while a line is typed, until it shows.

        Python's `input` looks for a signal, then waits for a key: a signal between the two, which only a
        program sends so soon after a key, is seen with the next one.
        """
        assert not self._seen
        for _ in range(60):
            self.process.send_signal(signal.SIGINT)
            if select.select([self._descriptor], [], [], 1)[0]:
                return
        pytest.fail("nothing was shown after Ctrl-C")


@contextmanager
def _terminal(folder: Path, *options: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "d2lrnn", "chat", str(folder / "a"), *options],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env=os.environ | {"TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_at_a_terminal_ctrl_c_stops_the_text_and_ctrl_d_the_chat(folder: Path) -> None:
    with _terminal(folder, "--num", str(10**9)) as terminal:
        assert "hidden units" in terminal.until("Ctrl-D quits.")
        terminal.until("> ")
        terminal.type("it has\r")
        terminal.until("it has\r\nit has")
        terminal.process.send_signal(signal.SIGINT)
        assert not terminal.until("\n> ").endswith("\n\r"), "the text's line ends, and no other"
        # Half a line is dropped.
        terminal.type("half")
        terminal.until("half")
        terminal.interrupt()
        terminal.until("\n> ")
        terminal.type("/num 4\r")
        terminal.until("num 4\r\n> ")
        terminal.type("the\r")
        text = terminal.until("\r\n> ").split("\r\n")[-1]
        assert text.startswith("the")
        assert len(text.replace(UNKNOWN, "?")) == 7
        terminal.type("\x04")
        assert terminal.process.wait(timeout=60) == 0


def test_lines_have_a_history(folder: Path) -> None:
    pytest.importorskip("readline", reason="this Python has no readline")
    with _terminal(folder, "--num", "3") as terminal:
        terminal.until("> ")
        terminal.type("/seed 5\r")
        terminal.until("seed 5\r\n> ")
        terminal.type("\x10\r")  # Ctrl-P, the line before
        terminal.until("/seed 5\r\nseed 5\r\n> ")
