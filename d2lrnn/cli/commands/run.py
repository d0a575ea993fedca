"""``d2lrnn run``: what it asks for, and its options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.chapter import add_tab
from d2lrnn.cli.commands.options import add_debug
from d2lrnn.cli.commands.request import Request


@dataclass(frozen=True)
class RunRequest(Request):
    """``d2lrnn run``.

    Attributes:
        file: a script, a notebook or a chapter.
        arguments: what it finds in ``sys.argv``.
        tab: the name of the tab or of its backend, of a chapter; None takes that of ``D2LRNN_BACKEND``.
    """

    command = "run"

    file: str
    arguments: Sequence[str] = ()
    tab: str | None = None


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Run a script that imports the book's package, with d2lrnn in place of d2l and with what the "
        "frameworks have dropped since put back; or the cells of a notebook or of a chapter, up to the first "
        "that fails. The exit code is the script's own."
    )
    parser.asks_for(
        RunRequest,
        "d2lrnn run script.py --its-own 3",
        "d2lrnn run notebook.ipynb",
    )
    add_tab(parser, "of a chapter: ")
    add_debug(parser)
    parser.add_argument("file", metavar="FILE", help="a script (.py), a notebook (.ipynb) or a chapter (.md)")
    rest = parser.add_argument(
        "arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="what the script finds in sys.argv"
    )
    rest.required = False  # some Pythons count the rest among what is missing
