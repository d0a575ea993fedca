"""``d2lrnn backends``: what it asks for, and its options."""

from __future__ import annotations

from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug, add_json
from d2lrnn.cli.commands.request import Request, check_timeout


@dataclass(frozen=True)
class BackendsRequest(Request):
    """``d2lrnn backends``.

    Attributes:
        timeout: after how many seconds the processes that import the frameworks are ended.
        json: the file to write the result to.

    Raises:
        SpecError: a number is out of its range.
    """

    command = "backends"

    timeout: float = 60.0
    json: str | None = None

    def __post_init__(self) -> None:
        check_timeout(self.timeout)


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "The backends: version and devices of those that work here, and for the others what is wrong and the "
        "command that mends or installs them. The exit code is 2 where the chosen backend does not work."
    )
    parser.asks_for(
        BackendsRequest,
        "d2lrnn backends",
        "D2LRNN_BACKEND=numpy d2lrnn backends --json backends.json",
    )
    parser.add_argument(
        "--timeout", type=float, metavar="X",
        help="seconds after which a framework that does not answer is given up "
        f"(default: {BackendsRequest.timeout:g})",
    )  # fmt: skip
    add_json(parser)
    add_debug(parser)
