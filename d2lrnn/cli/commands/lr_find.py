"""``d2lrnn lr-find``: what it asks for, and its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_config_file, add_debug, add_json, add_option, add_texts
from d2lrnn.cli.commands.request import Request, check_size, kind_of_picture
from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class LrFindRequest(Request):
    """``d2lrnn lr-find``.

    Attributes:
        text: as in `TrainRequest`, and so `model`, `data`, `training`, `optimizer`, `seed`, `backend` and
            `device`.
        min_lr: the first rate.
        max_lr: the last.
        trials: how many training steps, each with a rate of its own.
        out: the picture to write, whose name says of which kind it is.
        json: the file to write the result to.

    Raises:
        SpecError: a number is out of its range, or the name says no kind of picture that can be written.
    """

    command = "lr_find"

    #: Fewer steps give no suggestion.
    FEWEST: ClassVar[int] = 20

    text: Sequence[str] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    min_lr: float = 1e-5
    max_lr: float = 100.0
    trials: int = 100
    backend: str | None = None
    device: str = "auto"
    out: str | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        for option, rate in (("--min-lr", self.min_lr), ("--max-lr", self.max_lr)):
            if not 0 < rate < float("inf"):
                raise SpecError(f"{option} is {rate:g}: it must be a number above 0")
        if self.max_lr <= self.min_lr:
            raise SpecError(f"--max-lr is {self.max_lr:g}: it must be above --min-lr, {self.min_lr:g}")
        if self.trials < self.FEWEST:
            raise SpecError(f"--trials is {self.trials}: it must be at least {self.FEWEST}")
        check_size("--seed", self.seed)
        if self.out is not None:
            kind_of_picture(self.out)

    @property
    def kind(self) -> str:
        """``"png"`` or ``"svg"``."""
        return kind_of_picture(self.out or "")


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    from d2lrnn.cli.train_options import OPTIONS, option_of

    parser.description = (
        "Find a learning rate for d2lrnn train: train a new model for some steps with a rate that rises by "
        "the same factor each time, until the loss diverges, and suggest the rate at which it fell fastest "
        "(Smith 2017). Nothing is saved, and no saved run is read."
    )
    parser.asks_for(
        LrFindRequest,
        "d2lrnn lr-find time-machine --cell gru --optimizer adam --out rates.svg",
    )
    add_texts(parser, "'time-machine' (the novel) or 'sample' (the built-in story; default)")
    names = ("model", "data", "training", "optimizer")
    groups = {name: parser.add_argument_group(name) for name in names}
    for option in OPTIONS:
        if option.group in groups and option.field != "learning_rate":
            add_option(groups[option.group], option)
    for name in ("seed", "backend", "device"):
        add_option(groups["training"], option_of("", name))
    add_config_file(parser)
    rates = parser.add_argument_group("rates")
    for flag, default, text in (
        ("--min-lr", LrFindRequest.min_lr, "first"), ("--max-lr", LrFindRequest.max_lr, "last"),
    ):  # fmt: skip
        rates.add_argument(flag, type=float, metavar="X", help=f"the {text} rate (default: {default:g})")
    rates.add_argument(
        "--trials", type=int, metavar="N",
        help=f"training steps, each with a rate of its own (default: {LrFindRequest.trials})",
    )  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", metavar="FILE", help="draw the loss by the rate here: .png or .svg; it needs matplotlib"
    )
    add_json(output)
    add_debug(parser)
