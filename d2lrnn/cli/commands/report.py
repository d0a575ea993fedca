"""``d2lrnn report``: what it asks for, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_backend, add_debug, add_device, add_saved_run, add_texts
from d2lrnn.cli.commands.request import Request


@dataclass(frozen=True)
class ReportRequest(Request):
    """``d2lrnn report``.

    Attributes:
        run: the folder of the run.
        html: the page to write.
        text: what `d2lrnn.data.texts.source_of` takes, to be read in place of the run's own text.
    """

    command = "report"

    run: str
    html: str
    text: Sequence[str] = ()
    backend: str | None = None
    device: str = "auto"


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Show a saved run on one page: curves, samples of the kept checkpoints and at several temperatures, "
        "the loss of a validation text character by character, what hidden units respond to, the hidden "
        "state, the specification, and the command that repeats the run."
    )
    parser.asks_for(ReportRequest, "d2lrnn report runs/a --html a.html")
    add_saved_run(parser)
    add_texts(parser, "'time-machine' or 'sample' (default: the validation part of the model's own text)")
    parser.add_argument(
        "--html", metavar="FILE", required=True, help="the page to write, or to replace; - is standard output"
    )
    add_backend(parser)
    add_device(parser)
    add_debug(parser)
