"""What a command is asked to do, as frozen values: `d2lrnn.cli.parser` makes them of argv.

What was not given has the default that stands here. Defaults of a model, its data and its training stand in
the specifications that `TrainRequest.model`, `data`, `training`, `optimizer` and `schedule` hold fields of.
Nothing here imports NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from d2lrnn.errors import SpecError


@dataclass(frozen=True)
class Request:
    """What all commands have; take one of the subclasses.

    Attributes:
        debug: whether an error is shown with its traceback.
    """

    #: The name of the command, of its module in `d2lrnn.cli` and of the function therein.
    command: ClassVar[str]

    debug: bool = field(default=False, kw_only=True)

    @property
    def output_paths(self) -> tuple[str | None, ...]:
        """What the options for results name; see `d2lrnn.cli.output_files`."""
        return tuple(getattr(self, name, None) for name in ("json", "csv", "html", "save_notebook"))


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
            _check_at_least_one("--workers", self.workers)
        if self.restart < 0:
            raise SpecError(f"--restart is {self.restart}: it must be 0 or above")
        if self.restart and not (self.out or self.resume):
            raise SpecError("--restart needs a folder to start again from: give --out as well")
        _check_at_least_one("the number of epochs", self.epochs)
        _check_at_least_one("--patience", self.patience)
        _check_at_least_one("the number of checkpoints to keep", self.keep)
        _check_at_least_one("--save-every", self.save_every)
        for option, folder in (("--out", self.out), ("--resume", self.resume)):
            if folder == "":
                raise SpecError(f"{option} needs the name of a folder")
        for seed in self.seed if isinstance(self.seed, tuple) else (self.seed,):
            _check_size("--seed", seed)
        _check_size("--epochs", self.epochs)
        _check_size("--patience", self.patience)
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


#: At which temperature text is sampled where none is given.
TEMPERATURE = 0.8


@dataclass(frozen=True)
class GenerateRequest(Request):
    """``d2lrnn generate``; see `d2lrnn.generation.generate` for what decides the text.

    Attributes:
        prefix: what is continued; with `prefixes` None, none takes what the run's samples begin with.
        prefixes: a file with more of them, a line each; ``"-"`` is standard input.
        temperature: None is `TEMPERATURE`.
        samples: how many texts of each prefix.
        beam: the width of the beam; None samples.
        stream: whether the text appears as it is made.
        no_unknown: whether the unknown token is never written.

    Raises:
        SpecError: a number is out of its range, or two options contradict each other.
    """

    command = "generate"

    run: str
    prefix: Sequence[str] = ()
    prefixes: str | None = None
    num_tokens: int = 100
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    samples: int = 1
    beam: int | None = None
    stream: bool = False
    no_unknown: bool = False
    backend: str | None = None
    device: str = "auto"
    json: str | None = None

    def __post_init__(self) -> None:
        _check_at_least_one("--samples", self.samples)
        _check_at_least_one("--beam", self.beam)
        several = {"--samples": self.samples > 1}
        if self.beam is not None:
            sampled = {
                "--temperature": self.temperature is not None,
                "--top-k": self.top_k is not None,
                "--top-p": self.top_p is not None,
                "--seed": self.seed != 0,
            }
            _check_alone("--beam finds a likely text and samples nothing", sampled | several)
            _check_alone("--beam knows its text at the end", {"--stream": self.stream})
        if self.stream:
            more = {"a second --prefix": len(self.prefix) > 1, "--prefixes": self.prefixes is not None}
            _check_alone("--stream shows one text", several | more)


@dataclass(frozen=True)
class ChatRequest(Request):
    """``d2lrnn chat``; what decides the text can be changed while it runs.

    Attributes:
        no_unknown: whether the unknown token is never written.
    """

    command = "chat"

    run: str
    num_tokens: int = GenerateRequest.num_tokens
    temperature: float = TEMPERATURE
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    no_unknown: bool = False
    backend: str | None = None
    device: str = "auto"


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


@dataclass(frozen=True)
class CompareRequest(Request):
    """``d2lrnn compare``.

    Attributes:
        runs: the folders of the runs, two or more.
        json: the file to write the result to.

    Raises:
        SpecError: there is one run alone.
    """

    command = "compare"

    runs: Sequence[str]
    json: str | None = None

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise SpecError("one run alone has nothing to be compared with: name two or more")


@dataclass(frozen=True)
class PlotRequest(Request):
    """``d2lrnn plot``.

    Attributes:
        runs: the folders of the runs.
        out: the picture to write, whose name says of which kind it is.

    Raises:
        SpecError: the name says no kind that can be written.
    """

    command = "plot"

    runs: Sequence[str]
    out: str

    def __post_init__(self) -> None:
        _kind_of_picture(self.out)

    @property
    def kind(self) -> str:
        """``"png"`` or ``"svg"``."""
        return _kind_of_picture(self.out)


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
        _check_size("--seed", self.seed)
        if self.out is not None:
            _kind_of_picture(self.out)

    @property
    def kind(self) -> str:
        """``"png"`` or ``"svg"``."""
        return _kind_of_picture(self.out or "")


@dataclass(frozen=True)
class ConfigRequest(Request):
    """``d2lrnn config``.

    Attributes:
        run: the folder of a saved run; None is a run without any option.
    """

    command = "config"

    run: str | None = None


@dataclass(frozen=True)
class CompletionRequest(Request):
    """``d2lrnn completion``.

    Attributes:
        shell: one of `SHELLS`.

    Raises:
        SpecError: it is none of them.
    """

    command = "completion"

    SHELLS: ClassVar[tuple[str, ...]] = ("bash", "zsh", "fish")

    shell: str

    def __post_init__(self) -> None:
        if self.shell not in self.SHELLS:
            raise SpecError(f"unknown shell {self.shell!r}: choose one of {', '.join(self.SHELLS)}")


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


@dataclass(frozen=True)
class EncodeRequest(Request):
    """``d2lrnn encode``.

    Attributes:
        text: what `d2lrnn.data.texts.source_of` takes.
        data: given fields of `d2lrnn.data.spec.DataSpec`: what a token is, and how the text is read.
        like: the folder of a saved run, whose vocabulary and kind of token are taken.
        out: the file to write.
        overwrite: whether that file is replaced, and one that was begun from other texts is begun anew.
        check: the file to read and verify, in place of all that.

    Raises:
        SpecError: there is nothing to encode, or no file to write it to; or a file is to be checked beside.
    """

    command = "encode"

    text: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    like: str | None = None
    out: str | None = None
    overwrite: bool = False
    check: str | None = None

    def __post_init__(self) -> None:
        if self.check is not None and (self.text or self.data or self.like or self.out or self.overwrite):
            raise SpecError("--check FILE reads an encoded text, and takes nothing beside it")
        if self.check is None and not (self.text and self.out):
            raise SpecError("name the text to encode, and the file to write with --out: TEXT --out FILE")


@dataclass(frozen=True)
class BackendsRequest(Request):
    """``d2lrnn backends``."""

    command = "backends"


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
        _check_at_least_one("the number of epochs", self.epochs)


@dataclass(frozen=True)
class RunRequest(Request):
    """``d2lrnn run``.

    Attributes:
        file: a script, a notebook or a chapter.
        arguments: what it finds in ``sys.argv``.
        tab: the name of the tab or of its backend, of a chapter; None takes that of ``D2LRNN_BACKEND``.
    """

    command = "run"

    file: str
    arguments: Sequence[str] = ()
    tab: str | None = None


@dataclass(frozen=True)
class TranslateTrainRequest(Request):
    """``d2lrnn translate train``.

    Attributes:
        file: a text with a pair of sentences a line; None where a run is resumed.
        model: what was given of a `d2lrnn.translation.spec.TranslatorSpec`.
        pairs: of a `d2lrnn.translation.pairs.PairSpec`.
        training: of a `d2lrnn.contract.specs.TrainingSpec`.
        optimizer: its name.
        epochs: how many epochs; None takes `d2lrnn.cli.translate_train.NUM_EPOCHS`, or those of the run.
        seed: of the parameters, the order of the pairs and the dropout.
        out: the folder to save to.
        resume: the folder of the run to go on with.
        overwrite: whether another run in the folder is replaced.
        backend: the name of the backend; None takes that of ``D2LRNN_BACKEND``.
        device: as for `d2lrnn.contract.devices.choose_device`.
        json: the file to write the result to.

    Raises:
        SpecError: a number is out of its range.
    """

    command = "translate_train"

    file: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    pairs: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    epochs: int | None = None
    seed: int | None = None
    out: str | None = None
    resume: str | None = None
    overwrite: bool = False
    backend: str | None = None
    device: str = "auto"
    json: str | None = None

    def __post_init__(self) -> None:
        _check_at_least_one("--epochs", self.epochs)
        if self.resume is not None and (self.model or self.pairs or self.training or self.optimizer):
            raise SpecError("--resume goes on with the run as it is: leave out all but --epochs")
        for option, folder in (("--out", self.out), ("--resume", self.resume)):
            if folder == "":
                raise SpecError(f"{option} needs the name of a folder")


@dataclass(frozen=True)
class TranslateRunRequest(Request):
    """``d2lrnn translate run``.

    Attributes:
        run: the folder of a saved translator.
        sentences: what to translate; none takes the lines of standard input.
        beam: the width of the beam; 1 is greedy search.
        backend: the name of the backend; None takes that of ``D2LRNN_BACKEND``.
        device: as for `d2lrnn.contract.devices.choose_device`.
        json: the file to write the translations to.

    Raises:
        SpecError: a number is out of its range.
    """

    command = "translate_run"

    run: str
    sentences: Sequence[str] = ()
    beam: int = 1
    backend: str | None = None
    device: str = "auto"
    json: str | None = None

    def __post_init__(self) -> None:
        _check_at_least_one("--beam", self.beam)


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
        _check_at_least_one("--rounds", self.rounds)
        _check_at_least_one("--threads", self.threads)
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


#: The requests by the name of their command.
REQUESTS: dict[str, type[Request]] = {
    kind.command: kind
    for kind in (
        TrainRequest, GenerateRequest, ChatRequest, EvaluateRequest, CompareRequest, PlotRequest,
        ReportRequest, LrFindRequest, ConfigRequest, EncodeRequest, BackendsRequest, ChapterRequest,
        RunRequest, TranslateTrainRequest, TranslateRunRequest, BenchRequest, CompletionRequest,
    )
}  # fmt: skip


#: The kinds of pictures.
_PICTURES = ("png", "svg")


def _kind_of_picture(out: str) -> str:
    """``"png"`` or ``"svg"``, by the name of the file."""
    kind = out.rpartition(".")[2].lower()
    if kind not in _PICTURES:
        raise SpecError(f"--out is {out}: its name must end in .{' or .'.join(_PICTURES)}")
    return kind


#: A saved run holds whole numbers of 63 bits.
_LIMIT = 1 << 63


def _check_size(option: str, number: int | None) -> None:
    if number is not None and number >= _LIMIT:
        raise SpecError(f"{option} is {number}: it must be below 2**63")


def _check_at_least_one(what: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise SpecError(f"{what} is {number}: it must be at least 1")


def _check_alone(what: str, given: Mapping[str, bool]) -> None:
    """Raises a SpecError where something is given that an option leaves no room for."""
    if unwanted := [name for name, there in given.items() if there]:
        raise SpecError(f"{what}: leave {' and '.join(unwanted)} out")
