"""``d2lrnn evaluate``: what it asks for, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_backend, add_debug, add_device, add_json, add_saved_run, add_texts
from d2lrnn.cli.commands.request import Request
from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class EvaluateRequest(Request):
    """``d2lrnn evaluate``.

    Attributes:
        run: the folder of the run.
        text: what `d2lrnn.data.texts.source_of` takes, to be evaluated on as a whole; none is the validation
            part of the run's own text.
        encoding: that of the files in `text`; None is the run's.
    """

    command = "evaluate"

    run: str
    text: Sequence[str] = ()
    encoding: str | None = None
    backend: str | None = None
    device: str = "auto"
    json: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None and not self.text:
            raise SpecError("--encoding is that of another text to evaluate on: name the text as well")


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    from d2lrnn.cli.train_options import option_of

    parser.description = (
        "Perplexity and bits per character of a saved model: on the validation part of its own text, or on "
        "the whole of another text."
    )
    parser.asks_for(
        EvaluateRequest,
        "d2lrnn evaluate runs/a",
        "d2lrnn evaluate runs/a other.txt --json result.json",
    )
    add_saved_run(parser)
    add_texts(parser, "'time-machine' or 'sample' (default: the validation part of the model's own text)")
    encoding = option_of("data", "encoding")
    parser.add_argument(encoding.flag, metavar="NAME", help="encoding of TEXT (default: that of the run's)")
    add_backend(parser)
    add_device(parser)
    add_json(parser)
    add_debug(parser)
