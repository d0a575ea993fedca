"""``d2lrnn doctor``: what it asks for, and its options."""

from __future__ import annotations

from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug, add_json
from d2lrnn.cli.commands.request import Request


@dataclass(frozen=True)
class DoctorRequest(Request):
    """``d2lrnn doctor``.

    Attributes:
        a: a file with recurrent layers.
        b: another one, which should compute the same.
        json: the file to write the result to.
    """

    command = "doctor"

    a: str
    b: str
    json: str | None = None


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Say what differs between two files with recurrent layers that should compute the same: the order of "
        "the gates, a transposed weight, a bias, the reset gate, an activation and more. The exit code is 0 "
        "when they agree, and 1 when they differ."
    )
    parser.asks_for(DoctorRequest, "d2lrnn doctor encoder.pt encoder.onnx")
    for name, text in (("a", "a file that d2lrnn convert reads"), ("b", "one that should compute the same")):
        parser.add_argument(name, metavar=name.upper(), help=text)
    add_json(parser)
    add_debug(parser)
