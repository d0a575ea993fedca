"""``d2lrnn train``: what it asks for, and its options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from d2lrnn.cli.commands.argument_parser import ArgumentParser, whole_number
from d2lrnn.cli.commands.options import add_config_file, add_debug, add_json, add_option, add_texts
from d2lrnn.cli.commands.request import Request, check_at_least_one, check_size
from d2lrnn.errors import SpecError

if TYPE_CHECKING:
    from d2lrnn.cli.train_options import Option


@dataclass(frozen=True)
class TrainRequest(Request):
    """``d2lrnn train``. What is not given is a new run's default, and stays as it is in a resumed one.

    Attributes:
        text: what `d2lrnn.data.texts.source_of` takes; none is the default.
        model: given fields of `d2lrnn.contract.specs.ModelSpec`.
        data: given fields of `d2lrnn.data.spec.DataSpec`; ``batch_size`` is that of one accumulated part.
        training: given fields of `d2lrnn.contract.specs.TrainingSpec`.
        optimizer: its ``name`` and the fields of one of `d2lrnn.contract.optimizers.OPTIMIZERS`, as given.
        schedule: its ``name`` and the fields of one of `d2lrnn.training.schedules.SCHEDULES`, as given.
        seed: decides the initial parameters, the order of the batches and the dropout masks; several are as
            many runs, one after the other.
        epochs: how many epochs the run has in the end.
        patience: after how many epochs in a row without a better validation perplexity it ends early.
        backend: a backend's name; None takes what `d2lrnn.registry.backend` takes.
        device: as for `d2lrnn.contract.devices.choose_device`.
        out: the folder to save the run in; of several, the folder of their folders.
        overwrite: whether another run in that folder is replaced, or what came after the checkpoint that is
            resumed.
        resume: the folder of the run to go on with.
        keep: how many of the newest checkpoints stay.
        save_every: the number of training steps between checkpoints inside an epoch.
        json: the file to write the result to.
        csv: the file to write the epochs to as they end.
        plot: whether the terminal shows the perplexity by epoch as a curve.
        tensorboard: the folder to write scalars to, for TensorBoard.
        workers: how many processes of this machine train the model together, or ``"auto"``, one a GPU.
        restart: how often the run is started again where a worker is lost.

    Raises:
        SpecError: a number is out of its range, or steps are to be saved and there is no folder for them.
    """

    command = "train"

    text: Sequence[str] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    seed: int | tuple[int, ...] | None = None
    epochs: int | None = None
    patience: int | None = None
    backend: str | None = None
    device: str = "auto"
    out: str | None = None
    overwrite: bool = False
    resume: str | None = None
    keep: int = 1
    save_every: int | None = None
    json: str | None = None
    csv: str | None = None
    plot: bool = False
    tensorboard: str | None = None
    workers: int | str | None = None
    restart: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.workers, int):
            check_at_least_one("--workers", self.workers)
        if self.restart < 0:
            raise SpecError(f"--restart is {self.restart}: it must be 0 or above")
        if self.restart and not (self.out or self.resume):
            raise SpecError("--restart needs a folder to start again from: give --out as well")
        check_at_least_one("the number of epochs", self.epochs)
        check_at_least_one("--patience", self.patience)
        check_at_least_one("the number of checkpoints to keep", self.keep)
        check_at_least_one("--save-every", self.save_every)
        for option, folder in (("--out", self.out), ("--resume", self.resume)):
            if folder == "":
                raise SpecError(f"{option} needs the name of a folder")
        for seed in self.seed if isinstance(self.seed, tuple) else (self.seed,):
            check_size("--seed", seed)
        check_size("--epochs", self.epochs)
        check_size("--patience", self.patience)
        self._check_seeds()
        if self.save_every and not (self.out or self.resume):
            raise SpecError("--save-every needs a folder to save to: give --out as well")
        if self.overwrite and not (self.out or self.resume):
            raise SpecError("--overwrite replaces the run in the folder of --out: give --out as well")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of several runs; none where there is one."""
        return self.seed if isinstance(self.seed, tuple) else ()

    def _check_seeds(self) -> None:
        if not self.seeds:
            return
        if negative := [seed for seed in self.seeds if seed < 0]:
            raise SpecError(f"--seed is {negative[0]}: it must be 0 or above")
        if twice := [seed for seed in self.seeds if self.seeds.count(seed) > 1]:
            raise SpecError(f"--seed has {twice[0]} twice: two such runs are the same")
        if self.resume:
            raise SpecError("--resume goes on with one run, which has a seed: leave --seed out")
        if self.csv is not None:
            raise SpecError(
                "--csv is a table of one run: with several seeds give --out, and each run's folder has its "
                "history.jsonl, or --json"
            )
        if "-" in self.text:
            raise SpecError(
                "standard input can be read by one run alone, and each seed is one: save the text in a file"
            )


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    from d2lrnn.cli.train_options import OPTIONS, SETTINGS

    parser.description = "Train a language model and report perplexity, bits per character and a sample."
    parser.asks_for(
        TrainRequest,
        "d2lrnn train --cell gru --lr 2 --epochs 20 --out runs/a",
        "d2lrnn train book.txt --cell lstm --optimizer adam --lr 0.002 --patience 5",
    )
    add_texts(parser, "'time-machine' (the novel) or 'sample' (the built-in story; default)")
    groups = {name: parser.add_argument_group(name) for name in ("model", "data", "training")}
    groups |= {name: parser.add_argument_group(name) for name in ("optimizer", "schedule")}
    for option in OPTIONS:
        add_option(groups[option.group], option)
    for option in SETTINGS:
        if option.field == "seed":
            add_option(groups["training"], _several(option), "N,...")
        else:
            add_option(groups["training"], option)
    add_config_file(parser)
    workers = parser.add_argument_group("workers")
    workers.add_argument(
        "--workers", type=_workers, metavar="N",
        help="train with N processes of this machine, or auto: one a GPU (default: this process alone). "
        "Under a launcher of the backend's framework the command finds its place by itself: docs/workers.md",
    )  # fmt: skip
    workers.add_argument(
        "--restart", type=int, metavar="K",
        help="where a worker is lost, start again from the last checkpoint, up to K times (default: 0)",
    )  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", metavar="DIR",
        help="save the run here after every epoch; where DIR ends with a slash and is no run, or is a folder "
        "of runs and nothing else, in a new folder in it, such as DIR/0001-gru-scratch-time-machine",
    )  # fmt: skip
    output.add_argument(
        "--overwrite", action="store_true", default=argparse.SUPPRESS,
        help="replace another run that --out holds, or what came after the checkpoint that --resume names, "
        "as soon as the first checkpoint is written",
    )  # fmt: skip
    output.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with a saved run, on any backend, until it has --epochs (default: as many as it was "
        "begun for); it is saved where it was, or in --out. --lr, --schedule, --clip and --patience may be "
        "given anew; other options stay as they were",
    )
    output.add_argument(
        "--keep",
        type=int,
        metavar="K",
        help="how many of the newest checkpoints to keep; the best by validation is kept in any case "
        "(default: 1)",
    )
    output.add_argument(
        "--save-every", type=int, metavar="N", help="save every N training steps inside an epoch as well"
    )
    output.add_argument(
        "--csv", metavar="FILE",
        help="write the epochs of the run here as they end, a line each, as DIR/history.jsonl of --out has "
        "them; - is standard output, as for --json",
    )  # fmt: skip
    output.add_argument(
        "--plot", action="store_true", default=argparse.SUPPRESS,
        help="draw the perplexity by epoch below the progress line, and once more at the end; needs plotille",
    )  # fmt: skip
    output.add_argument(
        "--tensorboard", metavar="DIR",
        help="write perplexity, bits, speed, learning rate and gradient norm here for TensorBoard; a resumed "
        "run goes on in the same curves; needs tensorboardX",
    )  # fmt: skip
    add_json(output)
    add_debug(parser)


def _several(seed: Option) -> Option:
    """The option of a seed where several are as many runs."""
    text = (
        f"{seed.help}; several, as 1,2,3, are as many runs one after the other, in DIR/seed-1, ... of --out, "
        "and a table of them"
    )
    return seed._replace(kind=_seeds, help=text)


def _workers(text: str) -> int | str:
    return text if text == "auto" else whole_number(text)


def _seeds(text: str) -> int | tuple[int, ...]:
    if "," not in text:
        return whole_number(text)
    return tuple(whole_number(seed) for seed in text.split(","))
