"""``d2lrnn chat``: type a beginning, see it continued."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress

from d2lrnn.cli.chat_session import ChatSession, answer
from d2lrnn.cli.commands.chat import ChatRequest
from d2lrnn.cli.live_text import write_live
from d2lrnn.cli.opened_model import OpenedModel, forbidden, open_model
from d2lrnn.cli.streams import in_one_line
from d2lrnn.errors import WRONG_INPUT, D2LError, PromptError
from d2lrnn.generation import Sampling
from d2lrnn.registry import backend

#: What a line is typed behind.
PROMPT = "> "


def chat(request: ChatRequest) -> int:
    """Answers lines until there are no more; returns the exit code.

    Texts go to standard output, all else to standard error. From a pipe there is no prompt, and the exit code
    tells of a line that was wrong.
    """
    chosen = backend(request.backend)

    def opened(folder: str) -> OpenedModel:
        model = open_model(folder, chosen, request.device)
        model.warm_up()
        return model

    sampling = Sampling(request.temperature, request.top_k, request.top_p, request.seed)
    model = opened(request.run)
    forbid = forbidden(no_unknown=request.no_unknown)
    session = ChatSession(opened, request.run, model, sampling, request.num_tokens, forbid)
    if not _at_a_terminal():
        return _converse(session, interactive=False)
    with suppress(ImportError):  # where there is none, lines are typed without a history
        import readline  # noqa: F401
    _tell(session.describe())
    _tell("Type a beginning. /help lists the commands, Ctrl-D quits.")
    _converse(session, interactive=True)
    return 0


def _converse(session: ChatSession, *, interactive: bool) -> int:
    code = 0
    # Where nobody reads any more, there is nobody to write for.
    while getattr(sys.stdout, "error", None) is None:
        try:
            line = _typed_line() if interactive else _piped_line()
            if line is None:
                break
            its = answer(session, line)
            if its.over:
                break
            if its.told:
                _tell(its.told)
            if its.pieces is not None:
                _write(its.pieces, interactive=interactive)
        except KeyboardInterrupt:
            if not interactive:
                raise
            print()  # the line that was being typed is dropped
        except D2LError as error:
            _tell(f"d2lrnn: {in_one_line(str(error))}")
            code = WRONG_INPUT
    return code


def _at_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _typed_line() -> str | None:
    """A line of the terminal; None is the end, Ctrl-D."""
    try:
        return input(PROMPT)
    except EOFError:
        print()
        return None
    except UnicodeDecodeError:
        raise _not_text() from None


def _piped_line() -> str | None:
    """A line of standard input; None is the end."""
    try:
        line = sys.stdin.readline() if sys.stdin is not None else ""
    except UnicodeDecodeError:
        raise _not_text() from None
    return line.removesuffix("\n") if line else None


def _not_text() -> PromptError:
    return PromptError(f"standard input is not {sys.stdin.encoding}: give it as text in that encoding")


def _write(pieces: Iterator[str], *, interactive: bool) -> None:
    """Shows a text as it is made; at a terminal, Ctrl-C ends the text alone."""
    with suppress(KeyboardInterrupt) if interactive else nullcontext():
        write_live(pieces)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
