"""The command line: what can be asked, and how errors are told.

This module knows the words and their defaults; `d2lrnn.cli.commands` does the work and is imported when
there is work, so that ``d2lrnn --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from d2lrnn.chapters.source import TAB_NAMES
from d2lrnn.errors import INTERRUPTED, UNEXPECTED, WRONG_INPUT, D2LError
from d2lrnn.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        from d2lrnn.allocator import keep_freed_memory
        from d2lrnn.cli import commands

        keep_freed_memory()
        with commands.plain_warnings():
            code: int = getattr(commands, arguments.command)(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (``| head``): nothing to tell anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except KeyboardInterrupt:
        return _tell(arguments, "interrupted", INTERRUPTED)
    except D2LError as error:
        return _tell(arguments, str(error), WRONG_INPUT)
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
        return _tell(arguments, what, UNEXPECTED)
    return code


def _tell(arguments: argparse.Namespace, message: str, code: int) -> int:
    """One line on stderr; with ``--debug`` the traceback as well."""
    if getattr(arguments, "debug", False):
        import traceback

        traceback.print_exc()
    print(f"d2lrnn: {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """Tells a wrong word in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_INPUT, f"{self.prog}: {message} ({self.prog} --help shows what there is)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="d2lrnn",
        description="Recurrent language models: one model, five backends, the same numbers. "
        "The environment variable D2LRNN_BACKEND chooses the backend.",
    )
    parser.add_argument("--version", action="version", version=f"d2lrnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_train(commands.add_parser("train", help="train a language model on a text"))
    _add_generate(commands.add_parser("generate", help="let a saved model write"))
    _add_evaluate(commands.add_parser("evaluate", help="measure a saved model on its validation text"))
    _add_backends(commands.add_parser("backends", help="what is installed, and on which devices it runs"))
    _add_chapter(commands.add_parser("chapter", help="run a chapter of the book, cell by cell"))
    add_bench(commands.add_parser("bench", help="how long training steps take, in every backend installed"))
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.description = "Train a language model and report perplexity, bits per character and a sample."
    parser.add_argument(
        "text",
        nargs="?",
        help="a text file, 'time-machine' (the novel) or 'sample' (the built-in story; default)",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--cell", help="rnn, gru or lstm (default: rnn)")
    model.add_argument(
        "--impl",
        help="scratch (the formulas spelt out) or concise (the framework's layers; default: scratch)",
    )
    model.add_argument("--layers", type=int, help="recurrent layers (default: 1)")
    model.add_argument("--hidden", type=int, help="hidden units of a layer (default: 32)")
    model.add_argument("--dropout", type=float, help="rate between concise layers (default: 0)")
    text = parser.add_argument_group("text")
    text.add_argument("--tokens", help="what a token is: char or word (default: char)")
    text.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="turn everything but A-Z into spaces, in lower case (default: the built-in texts only)",
    )
    text.add_argument(
        "--iterator",
        help="sliding (overlapping windows), random or sequential (the state carried from batch to batch; "
        "default: sliding)",
    )
    text.add_argument("--steps", type=int, help="time steps of a batch (default: 32; else than sliding: 35)")
    text.add_argument("--batch-size", type=int, help="sequences in a batch (default: 1024; else: 32)")
    text.add_argument("--num-train", type=int, help="training windows, sliding (default: 10000 at most)")
    text.add_argument("--num-val", type=int, help="validation windows, sliding (default: 5000 at most)")
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, help="times through the data, in all (default: 100)")
    training.add_argument("--lr", type=float, help="learning rate of SGD (default: 1)")
    training.add_argument("--clip", type=float, help="largest gradient norm (default: 1)")
    training.add_argument("--seed", type=int, help="decides start, order and dropout (default: 0)")
    _add_device(training)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="save the run here after every epoch")
    output.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with a saved run, on any backend, until it has --epochs (default: what it was started "
        "with); it is saved where it was, or in --out",
    )
    output.add_argument(
        "--keep",
        type=int,
        default=1,
        metavar="K",
        help="how many of the newest checkpoints stay; the best by validation always does (default: 1)",
    )
    output.add_argument("--save-every", type=int, metavar="STEPS", help="save inside an epoch, too")
    _add_json(output)
    _add_debug(parser)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Continue a prefix with a saved model, on any backend."
    parser.add_argument("run", metavar="DIR", help="what train --out wrote")
    parser.add_argument("--prefix", default="it has", help="the beginning (default: 'it has')")
    parser.add_argument("--num", type=int, default=100, help="tokens to add (default: 100)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token, 1 samples (default: 0)"
    )
    parser.add_argument("--top-k", type=int, help="sample among the k likeliest tokens only")
    parser.add_argument("--top-p", type=float, help="sample among the likeliest tokens that add up to p")
    parser.add_argument("--seed", type=int, default=0, help="decides what is sampled (default: 0)")
    _add_device(parser)
    _add_json(parser)
    _add_debug(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Perplexity and bits per character of a saved model on its validation text."
    parser.add_argument("run", metavar="DIR", help="what train --out wrote")
    _add_device(parser)
    _add_json(parser)
    _add_debug(parser)


def _add_backends(parser: argparse.ArgumentParser) -> None:
    parser.description = "The backends: version and devices of those installed, the command for the others."
    _add_debug(parser)


def _add_chapter(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the cells of one tab of a chapter, in order, with d2lrnn in place of d2l, and show what each "
        "gives. A chapter is code: it runs on this machine with all your rights, so run only those that you "
        "trust. The exit code is 0 when every cell ran, 2 when one failed (the others run still), 130 after "
        "Ctrl-C."
    )
    parser.add_argument("file", metavar="FILE", help="the chapter's Markdown source, of either edition")
    parser.add_argument("--tab", help=f"{', '.join(TAB_NAMES)} (default: that of D2LRNN_BACKEND)")
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="run at most N epochs where a cell asks for more"
    )
    parser.add_argument(
        "--save-notebook", metavar="FILE", help="write text, cells, outputs and figures here, as a notebook"
    )
    _add_json(parser)
    _add_debug(parser)


def add_bench(parser: argparse.ArgumentParser) -> None:
    """The words of ``d2lrnn bench``; ``benchmarks/run.py`` has them, too."""
    parser.description = (
        "Measure training steps of the backends that are installed here, each in a process of its own, after "
        "their loss and gradients were found equal to the reference's. The exit code is 2 where something "
        "could not be measured; it is in the table all the same, with its reason."
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny and short: its numbers are not for comparison"
    )
    parser.add_argument(
        "--settings",
        metavar="S,...",
        help="of M, C, L, scaling, or batch x steps x hidden: 32x35x256 (default: M,C)",
    )
    parser.add_argument("--models", metavar="M,...", help="such as rnn-scratch,lstm-2 (default: all seven)")
    parser.add_argument("--backends", metavar="B,...", help="which (default: all that are installed)")
    parser.add_argument("--rounds", type=int, help="how often each has its turn (default: 3)")
    parser.add_argument("--seconds", type=float, help="how long steps are repeated in a turn (default: 3)")
    parser.add_argument("--timeout", type=float, help="seconds after which a process is ended (default: 300)")
    parser.add_argument(
        "--threads", type=int, help="processors for each (default: OMP_NUM_THREADS, else all)"
    )
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=0.0,
        help="how long to wait, before each, for a machine on which fixed work is done as fast as before "
        "(default: 0; a quick run never waits)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the file of --json, where it stopped"
    )
    _add_device(parser)
    _add_json(parser)
    parser.add_argument("--html", metavar="FILE", help="write a page with figures and raw samples here")
    _add_debug(parser)


def _add_device(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU where there is one), cpu, gpu or gpu:1 (default: auto)"
    )


def _add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the result here as data, too")


def _add_debug(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
