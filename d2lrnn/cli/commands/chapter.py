"""``d2lrnn chapter``: what it asks for, and its options."""

from __future__ import annotations

from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug, add_json
from d2lrnn.cli.commands.request import Request, check_at_least_one


@dataclass(frozen=True)
class ChapterRequest(Request):
    """``d2lrnn chapter``.

    Attributes:
        file: the chapter's source.
        tab: the name of the tab or of its backend; None takes that of ``D2LRNN_BACKEND``.
        epochs: the most epochs that a cell may ask for.
        save_notebook: the file to write a notebook to.
        json: the file to write the results to.
    """

    command = "chapter"

    file: str
    tab: str | None = None
    epochs: int | None = None
    save_notebook: str | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        check_at_least_one("the number of epochs", self.epochs)


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Run the cells of one tab of a chapter, in order, with d2lrnn in place of d2l, and show the output "
        "of each. A chapter is code: it runs on this machine with all your rights, so run only those that "
        "you trust. The exit code is 0 when every cell ran, 2 when one failed (the others run all the same), "
        "130 after Ctrl-C."
    )
    parser.asks_for(
        ChapterRequest,
        "d2lrnn chapter rnn-scratch.md --epochs 1",
        "d2lrnn chapter rnn-scratch.ipynb --save-notebook ran.ipynb",
    )
    parser.add_argument(
        "file", metavar="FILE", help="the chapter's Markdown source, of either edition, or a notebook"
    )
    add_tab(parser)
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="run at most N epochs where a cell asks for more"
    )
    parser.add_argument(
        "--save-notebook", metavar="FILE", help="write text, cells, outputs and figures here, as a notebook"
    )
    add_json(parser)
    add_debug(parser)


def add_tab(parser: ArgumentParser, what: str = "") -> None:
    """``--tab``; `what` says of which file it is, where there are several kinds."""
    from d2lrnn.chapters.source import TAB_NAMES

    parser.add_argument(
        "--tab",
        metavar="NAME",
        help=f"{what}{', '.join(TAB_NAMES)}, or another package's backend (default: the one that a notebook "
        "imports, else that of D2LRNN_BACKEND)",
    )
