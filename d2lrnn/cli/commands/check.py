"""``d2lrnn check``: what it asks for, and its options."""

from __future__ import annotations

from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_backend, add_debug, add_json
from d2lrnn.cli.commands.request import Request


@dataclass(frozen=True)
class CheckRequest(Request):
    """``d2lrnn check``.

    Attributes:
        file: what `d2lrnn.ports.ported.Ported.save` wrote.
        backend: the name of the backend to build it on.
        json: the file to write the result to.
    """

    command = "check"

    file: str
    backend: str | None = None
    json: str | None = None


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Build recurrent layers that d2lrnn.port took out of a framework, and compare what they compute "
        "with what they computed there and with the float64 reference. The exit code is 0 when all agree."
    )
    parser.asks_for(CheckRequest, "d2lrnn check gru.safetensors")
    parser.add_argument("file", metavar="FILE", help="a file that Ported.save wrote")
    add_backend(parser)
    add_json(parser)
    add_debug(parser)
