"""What ``d2lrnn chat`` does with a line: a beginning is continued, a command changes what continues it."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from d2lrnn.cli.opened_model import OpenedModel
from d2lrnn.cli.output import describe_model
from d2lrnn.cli.wording import in_own_words
from d2lrnn.errors import PromptError, SpecError
from d2lrnn.generation import Sampling, stream

#: What turns a setting off that need not be there.
OFF = "off"

#: How many columns the help's texts have, however narrow the terminal is.
_LEAST_WIDTH = 20


@dataclass
class ChatSession:
    """A model, and how it writes.

    Attributes:
        open: gives the model of a run's folder, ready to write.
        folder: the folder of the model.
        model: the model.
        sampling: how it chooses; the seed is that of the next text, and every text takes one.
        num_tokens: how many tokens it adds.
        forbid: what it never writes.
        last: the beginning that was continued last.
    """

    open: Callable[[str], OpenedModel]
    folder: str
    model: OpenedModel
    sampling: Sampling
    num_tokens: int
    forbid: tuple[str, ...] = ()
    last: str | None = None

    def continued(self, beginning: str) -> Iterator[str]:
        """The pieces of a text, as `d2lrnn.generation.stream` gives them.

        Raises:
            PromptError: there is nothing to continue.
        """
        pieces = stream(
            self.model.learner,
            self.model.vocab,
            beginning,
            self.num_tokens,
            temperature=self.sampling.temperature,
            top_k=self.sampling.top_k,
            top_p=self.sampling.top_p,
            seed=self.sampling.seed,
            forbid=self.forbid,
        )
        self.last = beginning
        self.sampling = replace(self.sampling, seed=self.sampling.seed + 1)
        return pieces

    def describe(self) -> str:
        """The model, and which epoch it is of where that is not the newest."""
        epoch = f"\nfrom {self.model.best}" if self.model.best else ""
        return f"{self.folder}: {describe_model(self.model.spec)}{epoch}"


@dataclass(frozen=True)
class Answer:
    """What follows a line.

    Attributes:
        told: a line for the person, or several.
        pieces: a text as it is made.
        over: whether that was the last line.
    """

    told: str = ""
    pieces: Iterator[str] | None = None
    over: bool = False


@dataclass(frozen=True)
class Command:
    """A command of the chat.

    Attributes:
        argument: what the help calls its argument, if it has one.
        text: what the help says of it.
        perform: what it does with the argument that was given, which may be empty.
        value: its value now, where it is a setting.
    """

    argument: str
    text: str
    perform: Callable[[ChatSession, str], Answer]
    value: Callable[[ChatSession], object] | None = None


def answer(session: ChatSession, line: str) -> Answer:
    """What follows a line that was typed.

    Raises:
        D2LError: there is no such command, or it cannot be done; the message is for the person.
    """
    if not line.strip():
        return Answer()
    if not line.startswith("/"):
        return Answer(pieces=session.continued(line))
    if line.startswith("//"):
        return Answer(pieces=session.continued(line[1:]))
    name, _, argument = line[1:].strip().partition(" ")
    command, argument = COMMANDS.get(name), argument.strip()
    if command is None:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean /{close[0]}? " if close else ""
        raise SpecError(f"there is no command /{name}: {hint}/help lists all of them")
    if argument and not command.argument:
        raise SpecError(f"/{name} takes nothing behind it")
    if not argument and command.value:
        return Answer(f"{name} {command.value(session)}")
    try:
        return command.perform(session, argument)
    except SpecError as error:
        # The options of the command line have the names of the commands.
        raise SpecError(in_own_words(str(error)).replace("--", "/")) from None


def _set_temperature(session: ChatSession, argument: str) -> Answer:
    return _sample_with(session, "temperature", _number("temperature", argument))


def _set_top_k(session: ChatSession, argument: str) -> Answer:
    return _sample_with(session, "top_k", None if argument == OFF else _whole("top-k", argument))


def _set_top_p(session: ChatSession, argument: str) -> Answer:
    return _sample_with(session, "top_p", None if argument == OFF else _number("top-p", argument))


def _set_seed(session: ChatSession, argument: str) -> Answer:
    return _sample_with(session, "seed", _whole("seed", argument))


def _sample_with(session: ChatSession, field: str, value: Any) -> Answer:
    session.sampling = replace(session.sampling, **{field: value})
    return Answer(f"{field.replace('_', '-')} {_shown(value)}")


def _set_num(session: ChatSession, argument: str) -> Answer:
    number = _whole("num", argument)
    if number < 0:
        raise SpecError(f"/num is {number}: it must be 0 or above")
    session.num_tokens = number
    return Answer(f"num {number}")


def _set_model(session: ChatSession, argument: str) -> Answer:
    folder = os.path.expanduser(argument)
    session.model = session.open(folder)
    session.folder = folder
    return Answer(session.describe())


def _again(session: ChatSession, _: str) -> Answer:
    if session.last is None:
        raise PromptError("there is nothing to continue again: type a beginning")
    return Answer(pieces=session.continued(session.last))


def _help(session: ChatSession, _: str) -> Answer:
    lines = _help_lines(session)
    indent = max(len(what) for what, _ in lines) + 2
    width = max(indent + _LEAST_WIDTH, shutil.get_terminal_size().columns)
    return Answer("\n".join(
        textwrap.fill(text, width, initial_indent=f"{what:<{indent}}", subsequent_indent=" " * indent)
        for what, text in lines
    ))  # fmt: skip


def _help_lines(session: ChatSession) -> list[tuple[str, str]]:
    """What can be typed, and what comes of it."""
    lines = [("TEXT", "continue it")]
    for name, command in COMMANDS.items():
        now = f" (now {command.value(session)})" if command.value else ""
        lines.append((f"/{name} {command.argument}".rstrip(), command.text + now))
    return [*lines, ("//TEXT", "continue a text that begins with /")]


def _quit(_session: ChatSession, _: str) -> Answer:
    return Answer(over=True)


def _number(name: str, argument: str) -> float:
    try:
        return float(argument)
    except ValueError:
        raise SpecError(f"/{name} takes a number, and {argument!r} is none") from None


def _whole(name: str, argument: str) -> int:
    try:
        return int(argument)
    except ValueError:
        raise SpecError(f"/{name} takes a whole number, and {argument!r} is none") from None


def _shown(value: object) -> object:
    return OFF if value is None else value


#: The commands in the order of the help.
COMMANDS = {
    "temperature": Command(
        "X", "0 takes the likeliest token, 1 samples as the model predicts", _set_temperature,
        lambda session: session.sampling.temperature,
    ),
    "top-k": Command(
        "K", f"sample among the K likeliest tokens, or {OFF}", _set_top_k,
        lambda session: _shown(session.sampling.top_k),
    ),
    "top-p": Command(
        "P", f"sample among the fewest tokens whose probabilities reach P, or {OFF}", _set_top_p,
        lambda session: _shown(session.sampling.top_p),
    ),
    "num": Command("N", "add N tokens", _set_num, lambda session: session.num_tokens),
    "seed": Command(
        "N", "the seed of the next text; each text takes one", _set_seed,
        lambda session: session.sampling.seed,
    ),
    "model": Command(
        "DIR", "go on with the model of another run", _set_model, lambda session: session.folder
    ),
    "again": Command("", "continue the last beginning once more, with the next seed", _again),
    "help": Command("", "this list", _help),
    "quit": Command("", "end; so does Ctrl-D", _quit),
}  # fmt: skip
