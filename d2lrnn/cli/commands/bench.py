"""``d2lrnn bench``: what it asks for, and its options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug, add_device, add_json
from d2lrnn.cli.commands.request import Request, check_at_least_one
from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class BenchRequest(Request):
    """``d2lrnn bench``. None takes what `d2lrnn.cli.bench` has for a quick run or for a whole one.

    Attributes:
        quick: whether to be done soon, with numbers that are not for comparison.
        settings: names with commas between them.
        models: names with commas between them.
        backends: names with commas between them; None takes all that are installed.
        rounds: how often each subject has its turn.
        seconds: how long training steps are repeated in a turn.
        timeout: after how many seconds a process is ended.
        threads: how many processors each may use.
        patience: how many seconds to wait for a quiet machine.
        resume: whether to go on with the file of `json`.
        workers: how many are to share a training step, where that is what is measured.
        device: as for `d2lrnn.contract.devices.choose_device`.
        json: the file to write the document to.
        html: the file to write the page to.

    Raises:
        SpecError: a number is out of its range, or an option does not go with `workers`.
    """

    command = "bench"

    quick: bool = False
    settings: str | None = None
    models: str | None = None
    backends: str | None = None
    rounds: int | None = None
    seconds: float | None = None
    timeout: float | None = None
    threads: int | None = None
    patience: float = 0.0
    resume: bool = False
    workers: int | None = None
    device: str = "auto"
    json: str | None = None
    html: str | None = None

    def __post_init__(self) -> None:
        check_at_least_one("--rounds", self.rounds)
        check_at_least_one("--threads", self.threads)
        for option, seconds in (("--seconds", self.seconds), ("--timeout", self.timeout)):
            if seconds is not None and not seconds > 0:
                raise SpecError(f"{option} is {seconds}: it must be above 0")
        if not self.patience >= 0:
            raise SpecError(f"--patience is {self.patience}: it must be 0 or above")
        if self.workers is None:
            return
        if self.workers < 2:
            raise SpecError(
                f"--workers is {self.workers}: it must be at least 2, which are compared with one"
            )
        for option in ("threads", "html", "patience"):
            if getattr(self, option):
                raise SpecError(f"--{option} does not go with --workers: leave one of them out")


def add_options(parser: ArgumentParser) -> None:
    """The options of the command; ``benchmarks/run.py`` has them, too."""
    parser.description = (
        "Time training steps of the backends that are installed here, each in a process of its own, after "
        "its loss and gradients were compared with the reference's. The exit code is 2 where something could "
        "not be measured; the table has it all the same, with the reason."
    )
    parser.asks_for(
        BenchRequest,
        "d2lrnn bench --quick",
        "d2lrnn bench --settings M --models gru-scratch --json bench.json",
    )
    parser.add_argument(
        "--quick", action="store_true", default=argparse.SUPPRESS,
        help="small and short: its numbers are not for comparison",
    )  # fmt: skip
    parser.add_argument(
        "--settings",
        metavar="S,...",
        help="of M, C, L, W, W33, scaling, or batch x steps x hidden: 32x35x256 (default: M,C)",
    )
    parser.add_argument(
        "--models", metavar="M,...", help="such as rnn-scratch,lstm-2 (default: all; at W lstm-2)"
    )
    parser.add_argument(
        "--backends", metavar="B,...", help="such as numpy,torch (default: all that are installed)"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each has its turn (default: 3)")
    parser.add_argument(
        "--seconds", type=float, metavar="X", help="how long steps are repeated in a turn (default: 3)"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="X", help="seconds after which a process is ended (default: 300)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="processors for each (default: OMP_NUM_THREADS, else all)"
    )
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=float,
        help="how long to wait, before each process, until the machine does a fixed piece of work as fast as "
        "before (default: 0; a quick run never waits)",
    )
    parser.add_argument(
        "--resume", action="store_true", default=argparse.SUPPRESS,
        help="go on with the results in the file of --json",
    )  # fmt: skip
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="compare one worker with N that share a step, and with one process of N threads",
    )
    add_device(parser)
    add_json(parser)
    parser.add_argument("--html", metavar="FILE", help="write a page with figures and raw samples here")
    add_debug(parser)
