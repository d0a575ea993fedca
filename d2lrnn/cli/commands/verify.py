"""``d2lrnn verify``: what it asks for, and its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug, add_json
from d2lrnn.cli.commands.request import Request, check_timeout


@dataclass(frozen=True)
class VerifyRequest(Request):
    """``d2lrnn verify``.

    Attributes:
        backend: names of backends; empty takes all.
        env: interpreters of other environments by the backends that they have, ``numpy=/path/to/python``.
        device: as for `d2lrnn.contract.devices.choose_device`; None takes the CPU and the first GPU.
        cell: names of cells; empty takes all.
        timeout: after how many seconds without a result a process is ended.
        json: the file to write the result to.

    Raises:
        SpecError: a number is out of its range.
    """

    command = "verify"

    backend: Sequence[str] = ()
    env: Sequence[str] = ()
    device: str | None = None
    cell: Sequence[str] = ()
    timeout: float = 120.0
    json: str | None = None

    def __post_init__(self) -> None:
        check_timeout(self.timeout)


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Whether the backends that are installed compute what they should on this machine: outputs, "
        "gradients and 20 training steps of every cell against the float64 reference, and matrix products "
        "against exact ones. The exit code is 0 when all agree, 1 when something differs or is broken, and 2 "
        "when a backend or a device that was asked for is not there."
    )
    parser.asks_for(
        VerifyRequest,
        "d2lrnn verify",
        "d2lrnn verify --backend numpy --cell lstm --json verify.json",
        "d2lrnn verify --env numpy=/envs/new/bin/python",
    )
    parser.add_argument(
        "--backend", action="append", metavar="NAME",
        help="verify this backend alone; may be given again (default: all that are installed)",
    )  # fmt: skip
    parser.add_argument(
        "--env", action="append", metavar="NAME=PYTHON",
        help="verify a backend in another environment, that of this interpreter; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, gpu or gpu:1 (default: the processor and the first GPU)"
    )
    parser.add_argument(
        "--cell", action="append", metavar="NAME",
        help="verify models of this cell alone, such as lstm; may be given again (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=float, metavar="X",
        help="seconds without a result after which a backend is given up "
        f"(default: {VerifyRequest.timeout:g})",
    )  # fmt: skip
    add_json(parser)
    add_debug(parser)
