"""From argv to a request.

A command's options are added, and what their help names is imported, where argv has that command: ``--help``
answers at once. Nothing here imports NumPy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from d2lrnn.errors import WRONG_INPUT
from d2lrnn.version import __version__

#: Set by a shell for whom the command is to complete (`d2lrnn.cli.completion`).
COMPLETING = "_ARGCOMPLETE"

if TYPE_CHECKING:
    from d2lrnn.cli.requests import Request
    from d2lrnn.cli.train_options import Option


def parse(argv: Sequence[str]) -> Request:
    """What argv asks for.

    Raises:
        SpecError: a number is out of its range.
        SystemExit: with code 0 for ``--help`` and ``--version``, with code 2 where argv does not fit the
            parser, after one line on stderr.

    Example:
        >>> parse(["generate", "runs/a", "--num", "20"]).num_tokens
        20
    """
    given = vars(parser_for(argv).parse_args(argv))
    from d2lrnn.cli.requests import REQUESTS

    command = given.pop("command").replace("-", "_")
    if "config" in given:
        from d2lrnn.cli.config_file import read_config, with_config

        # A range test has no epochs and no schedule.
        known = REQUESTS[command].__dataclass_fields__
        config = read_config(given.pop("config"))
        config = {name: value for name, value in config.items() if name.partition(".")[0] in known}
        given = with_config(config, given)
    if "action" in given:
        command += f"_{given.pop('action')}"
    return request_of(REQUESTS[command], given)


def request_of(kind: type[Request], given: dict[str, Any]) -> Request:
    """A request from what was parsed; ``model.cell`` becomes the entry ``cell`` of its field ``model``."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        group, _, field = name.rpartition(".")
        (values.setdefault(group, {}) if group else values)[field] = value
    return kind(**values)


class ArgumentParser(argparse.ArgumentParser):
    """Reports what does not fit in one line, like every other error, and leaves out what was not given."""

    def __init__(self, **options: Any) -> None:
        super().__init__(argument_default=argparse.SUPPRESS, **options)
        self.color = False  # some Pythons colour the help, which would be shown as text
        self.register("type", int, _whole_number)
        self.register("type", float, _number)

    def error(self, message: str) -> NoReturn:
        """Ends the process with the code for wrong input."""
        self.exit(WRONG_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _workers(text: str) -> int | str:
    return text if text == "auto" else _whole_number(text)


def _seeds(text: str) -> int | tuple[int, ...]:
    if "," not in text:
        return _whole_number(text)
    return tuple(_whole_number(seed) for seed in text.split(","))


#: What stands for a value, by what reads it.
_METAVARS: dict[Any, str] = {int: "N", str: "NAME", _seeds: "N,..."}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def parser_for(argv: Sequence[str]) -> ArgumentParser:
    """The parser, with the options of the commands that argv has."""
    parser = ArgumentParser(
        prog="d2lrnn",
        description="Recurrent language models: one model, five backends, the same numbers. "
        "The environment variable D2LRNN_BACKEND chooses the backend.",
    )
    parser.add_argument("--version", action="version", version=f"d2lrnn {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=ArgumentParser
    )
    for name, (add_options, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name in argv:
            add_options(command)
    return parser


def _add_train(parser: ArgumentParser) -> None:
    from d2lrnn.cli.train_options import OPTIONS, SETTINGS

    parser.description = "Train a language model and report perplexity, bits per character and a sample."
    _add_texts(parser, "'time-machine' (the novel) or 'sample' (the built-in story; default)")
    groups = {name: parser.add_argument_group(name) for name in ("model", "data", "training")}
    groups |= {name: parser.add_argument_group(name) for name in ("optimizer", "schedule")}
    for option in OPTIONS:
        _add_option(groups[option.group], option)
    for option in SETTINGS:
        _add_option(groups["training"], option if option.field != "seed" else _several(option))
    _add_config_file(parser)
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
    _add_json(output)
    _add_debug(parser)


def _several(seed: Option) -> Option:
    """The option of a seed where several are as many runs."""
    text = (
        f"{seed.help}; several, as 1,2,3, are as many runs one after the other, in DIR/seed-1, ... of --out, "
        "and a table of them"
    )
    return seed._replace(kind=_seeds, help=text)


def _add_config_file(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE",
        help="take all that describes the run from this file, which d2lrnn config prints; what is given here "
        "as well goes before",
    )  # fmt: skip


def _add_option(group: argparse._ActionsContainer, option: Option) -> None:
    name: dict[str, Any] = {"dest": f"{option.group}.{option.field}".lstrip("."), "help": option.help}
    if option.kind is bool:
        group.add_argument(
            option.flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, **name
        )
    else:
        metavar = _METAVARS.get(option.kind, "X")
        # The names of cells and the like are in lower case: GRU is gru.
        kind = str.lower if option.kind is str and option.group else option.kind
        group.add_argument(option.flag, type=kind, metavar=metavar, **name)


def _add_lr_find(parser: ArgumentParser) -> None:
    from d2lrnn.cli.requests import LrFindRequest
    from d2lrnn.cli.train_options import OPTIONS, option_of

    parser.description = (
        "Find a learning rate for d2lrnn train: train a new model for some steps with a rate that rises by "
        "the same factor each time, until the loss diverges, and suggest the rate at which it fell fastest "
        "(Smith 2017). Nothing is saved, and no saved run is read."
    )
    parser.epilog = "example: d2lrnn lr-find time-machine --cell gru --optimizer adam --out rates.svg"
    _add_texts(parser, "'time-machine' (the novel) or 'sample' (the built-in story; default)")
    names = ("model", "data", "training", "optimizer")
    groups = {name: parser.add_argument_group(name) for name in names}
    for option in OPTIONS:
        if option.group in groups and option.field != "learning_rate":
            _add_option(groups[option.group], option)
    for field in ("seed", "backend", "device"):
        _add_option(groups["training"], option_of("", field))
    _add_config_file(parser)
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
    _add_json(output)
    _add_debug(parser)


def _add_generate(parser: ArgumentParser) -> None:
    parser.description = (
        "Continue a prefix, or several of them in one batch, with a saved model, on any backend. Several "
        "texts have a line -- between them."
    )
    parser.epilog = "example: d2lrnn generate runs/a --prefix 'it has' --samples 3"
    _add_saved_run(parser)
    parser.add_argument(
        "--prefix", metavar="TEXT", action="append",
        help="the text to continue, also more than once (default: the beginning of the text that the model "
        "was trained on)",
    )  # fmt: skip
    parser.add_argument(
        "--prefixes",
        metavar="FILE",
        help="continue every line of this text (UTF-8) but blank ones; - is standard input",
    )
    _add_sampling(parser)
    parser.add_argument(
        "--samples", type=int, metavar="K",
        help="write K texts of each prefix in one batch: those of --seed N, N+1, ... (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--beam", type=int, metavar="K",
        help="in place of sampling, search for the likeliest text and keep K beginnings (1 is greedy)",
    )  # fmt: skip
    parser.add_argument(
        "--stream", action="store_true", default=argparse.SUPPRESS, help="show the text as it is made"
    )
    _add_backend(parser)
    _add_device(parser)
    _add_json(parser)
    _add_debug(parser)


def _add_chat(parser: ArgumentParser) -> None:
    parser.description = (
        "Type a beginning, and see a saved model continue it. A line that begins with / is a command: /help "
        "lists them, such as /temperature 0.5 and /model runs/b. Ctrl-C stops a text, Ctrl-D quits. Lines "
        "can also come through a pipe."
    )
    parser.epilog = "example: d2lrnn chat runs/a --temperature 0.5"
    _add_saved_run(parser)
    _add_sampling(parser)
    _add_backend(parser)
    _add_device(parser)
    _add_debug(parser)


def _add_sampling(parser: ArgumentParser) -> None:
    from d2lrnn.cli.requests import TEMPERATURE, GenerateRequest

    parser.add_argument(
        "--num",
        dest="num_tokens",
        type=int,
        metavar="N",
        help=f"how many tokens to add (default: {GenerateRequest.num_tokens})",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        metavar="X",
        help="0 takes the likeliest token every time, 1 samples as the model predicts, less is safer "
        f"(default: {TEMPERATURE:g})",
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens only")
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="sample among the fewest tokens whose probabilities add up to P",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help=f"decides what is sampled (default: {GenerateRequest.seed})"
    )
    parser.add_argument(
        "--no-unknown", action="store_true", default=argparse.SUPPRESS,
        help="never write the unknown token, <unk>",
    )  # fmt: skip


def _add_evaluate(parser: ArgumentParser) -> None:
    from d2lrnn.cli.train_options import option_of

    parser.description = (
        "Perplexity and bits per character of a saved model: on the validation part of its own text, or on "
        "the whole of another text."
    )
    _add_saved_run(parser)
    _add_texts(parser, "'time-machine' or 'sample' (default: the validation part of the model's own text)")
    encoding = option_of("data", "encoding")
    parser.add_argument(encoding.flag, metavar="NAME", help="encoding of TEXT (default: that of the run's)")
    _add_backend(parser)
    _add_device(parser)
    _add_json(parser)
    _add_debug(parser)


def _add_compare(parser: ArgumentParser) -> None:
    parser.description = (
        "Compare saved runs: a table of what differs in their specifications, the best perplexity on the "
        "validation text, and the speed."
    )
    parser.epilog = "example: d2lrnn compare runs/a runs/b"
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders that train --out wrote, two or more")
    _add_json(parser)
    _add_debug(parser)


def _add_plot(parser: ArgumentParser) -> None:
    parser.description = (
        "Draw the perplexity of saved runs by epoch: on the validation text and in training, the best epoch "
        "marked, with what differs between the runs. It needs matplotlib."
    )
    parser.epilog = "example: d2lrnn plot runs/a runs/b --out curves.svg"
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders that train --out wrote")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="the picture to write, or to replace: .png or .svg"
    )
    _add_debug(parser)


def _add_report(parser: ArgumentParser) -> None:
    parser.description = (
        "Show a saved run on one page: curves, samples of the kept checkpoints and at several temperatures, "
        "the loss of a validation text character by character, what hidden units respond to, the hidden "
        "state, the specification, and the command that repeats the run."
    )
    parser.epilog = "example: d2lrnn report runs/a --html a.html"
    _add_saved_run(parser)
    _add_texts(parser, "'time-machine' or 'sample' (default: the validation part of the model's own text)")
    parser.add_argument(
        "--html", metavar="FILE", required=True, help="the page to write, or to replace; - is standard output"
    )
    _add_backend(parser)
    _add_device(parser)
    _add_debug(parser)


def _add_config(parser: ArgumentParser) -> None:
    parser.description = (
        "Print a file with every setting of a run, its default and what it means, or that of a saved run: "
        "train --config trains it."
    )
    parser.epilog = "example: d2lrnn config > run.toml && d2lrnn train --config run.toml"
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="the folder of a saved run (default: a run without any option)"
    )
    _add_debug(parser)


def _add_completion(parser: ArgumentParser) -> None:
    from d2lrnn.cli.requests import CompletionRequest

    parser.description = (
        "Print the lines by which a shell completes commands, options and their values, by argcomplete."
    )
    parser.epilog = 'example: eval "$(d2lrnn completion bash)" in ~/.bashrc'
    parser.add_argument("shell", metavar="SHELL", help=", ".join(CompletionRequest.SHELLS))
    _add_debug(parser)


def _add_encode(parser: ArgumentParser) -> None:
    from d2lrnn.cli.train_options import option_of

    parser.description = (
        "Encode a text of any size into a file that train and evaluate take in its place: it stays on disk, "
        "and only the rows of a batch are read. An encoding that was ended goes on where it stood."
    )
    _add_texts(parser, "'time-machine' or 'sample'")
    parser.add_argument("--out", metavar="FILE", help="the file to write")
    for field in ("unit", "vocab_size", "normalized", "min_freq", "encoding"):
        _add_option(parser, option_of("data", field))
    parser.add_argument(
        "--like",
        metavar="RUN",
        help="take vocabulary, --tokens and --normalize of a saved run, to evaluate it",
    )
    parser.add_argument(
        "--overwrite", action="store_true", default=argparse.SUPPRESS,
        help="replace FILE, and begin anew what was begun with other texts or options",
    )  # fmt: skip
    parser.add_argument("--check", metavar="FILE", help="read all of an encoded text, and verify it")
    _add_debug(parser)


def _add_backends(parser: ArgumentParser) -> None:
    parser.description = (
        "The backends: version and devices of those that are installed, and for the others the command that "
        "installs them."
    )
    _add_debug(parser)


def _add_chapter(parser: ArgumentParser) -> None:
    parser.description = (
        "Run the cells of one tab of a chapter, in order, with d2lrnn in place of d2l, and show the output "
        "of each. A chapter is code: it runs on this machine with all your rights, so run only those that "
        "you trust. The exit code is 0 when every cell ran, 2 when one failed (the others run all the same), "
        "130 after Ctrl-C."
    )
    parser.add_argument(
        "file", metavar="FILE", help="the chapter's Markdown source, of either edition, or a notebook"
    )
    _add_tab(parser)
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="run at most N epochs where a cell asks for more"
    )
    parser.add_argument(
        "--save-notebook", metavar="FILE", help="write text, cells, outputs and figures here, as a notebook"
    )
    _add_json(parser)
    _add_debug(parser)


def _add_run(parser: ArgumentParser) -> None:
    parser.description = (
        "Run a script that imports the book's package, with d2lrnn in place of d2l and with what the "
        "frameworks have dropped since put back; or the cells of a notebook or of a chapter, up to the first "
        "that fails. The exit code is the script's own."
    )
    _add_tab(parser, "of a chapter: ")
    _add_debug(parser)
    parser.add_argument("file", metavar="FILE", help="a script (.py), a notebook (.ipynb) or a chapter (.md)")
    rest = parser.add_argument(
        "arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="what the script finds in sys.argv"
    )
    rest.required = False  # some Pythons count the rest among what is missing


def _add_tab(parser: ArgumentParser, what: str = "") -> None:
    from d2lrnn.chapters.source import TAB_NAMES

    parser.add_argument(
        "--tab",
        metavar="NAME",
        help=f"{what}{', '.join(TAB_NAMES)}, or another package's backend (default: the one that a notebook "
        "imports, else that of D2LRNN_BACKEND)",
    )


def _add_translate(parser: ArgumentParser) -> None:
    parser.description = "Train a translator on pairs of sentences, or translate with one."
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=ArgumentParser
    )
    _add_translate_train(
        actions.add_parser("train", help="learn from a text with a pair of sentences a line")
    )
    _add_translate_run(actions.add_parser("run", help="translate sentences with a saved translator"))


def _add_translate_train(parser: ArgumentParser) -> None:
    parser.description = (
        "Train a translator, a recurrent encoder and decoder, on pairs of sentences, and report perplexity, "
        "BLEU and samples. A part of the pairs is kept for validation."
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?",
        help="a text with a pair a line: a sentence, a tab, its translation; more columns do not count",
    )  # fmt: skip
    groups = {name: parser.add_argument_group(name) for name in ("model", "pairs", "training")}
    for group, option, kind, text in (
        ("model", "--embedding", int, "size of the embeddings (default: 64)"),
        ("model", "--hidden", int, "hidden units of every layer (default: 64)"),
        ("model", "--layers", int, "recurrent layers of encoder and decoder (default: 2)"),
        ("model", "--dropout", float, "rate between layers, while training (default: 0)"),
        ("pairs", "--batch-size", int, "pairs in a batch (default: 64)"),
        ("pairs", "--max-tokens", int, "leave out pairs with longer sentences (default: 20)"),
        ("pairs", "--min-freq", int, "words that come less often are unknown (default: 2)"),
        ("pairs", "--val-share", float, "share of the pairs for validation (default: 0.1)"),
        ("training", "--lr", float, "learning rate (default: the optimizer's)"),
        ("training", "--clip", float, "largest norm of the gradient (default: 1)"),
    ):
        field = _FIELDS.get(option, option.strip("-").replace("-", "_"))
        metavar = "N" if kind is int else "X"
        groups[group].add_argument(option, type=kind, metavar=metavar, dest=f"{group}.{field}", help=text)
    groups["model"].add_argument(
        "--no-attention", action="store_false", dest="model.attention",
        help="read the encoder's last state in every step, without attention",
    )  # fmt: skip
    training = groups["training"]
    training.add_argument("--optimizer", metavar="NAME", help="as for d2lrnn train (default: adam)")
    training.add_argument("--epochs", type=int, metavar="N", help="epochs of the run, in all (default: 30)")
    training.add_argument(
        "--seed", type=int, metavar="N", help="of parameters, order, validation and dropout (default: 0)"
    )
    _add_backend(training)
    _add_device(training)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="save the run here after every epoch")
    output.add_argument(
        "--overwrite", action="store_true", help="replace another translator that --out holds"
    )
    output.add_argument(
        "--resume", metavar="DIR",
        help="go on with a saved run, on any backend, until it has --epochs; FILE is that of the run",
    )  # fmt: skip
    _add_json(output)
    _add_debug(parser)


#: Options that have another name than the field that they set.
_FIELDS = {
    "--embedding": "embedding_size", "--hidden": "num_hiddens", "--layers": "num_layers",
    "--lr": "learning_rate",
}  # fmt: skip


def _add_translate_run(parser: ArgumentParser) -> None:
    parser.description = "Translate sentences, a line each, with a saved translator."
    parser.add_argument("run", metavar="DIR", help="the folder that translate train --out wrote")
    parser.add_argument(
        "sentences", metavar="SENTENCE", nargs="*",
        help="what to translate; none takes the lines of standard input",
    )  # fmt: skip
    parser.add_argument(
        "--beam", type=int, metavar="K", help="beginnings to keep in the search (default: 1, greedy)"
    )
    _add_backend(parser)
    _add_device(parser)
    _add_json(parser)
    _add_debug(parser)


def add_bench(parser: ArgumentParser) -> None:
    """The arguments of ``d2lrnn bench``; ``benchmarks/run.py`` has them, too."""
    parser.description = (
        "Time training steps of the backends that are installed here, each in a process of its own, after "
        "its loss and gradients were compared with the reference's. The exit code is 2 where something could "
        "not be measured; the table has it all the same, with the reason."
    )
    parser.add_argument(
        "--quick", action="store_true", default=argparse.SUPPRESS,
        help="small and short: its numbers are not for comparison",
    )  # fmt: skip
    parser.add_argument(
        "--settings",
        metavar="S,...",
        help="of M, C, L, scaling, or batch x steps x hidden: 32x35x256 (default: M,C)",
    )
    parser.add_argument("--models", metavar="M,...", help="such as rnn-scratch,lstm-2 (default: all)")
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
    _add_device(parser)
    _add_json(parser)
    parser.add_argument("--html", metavar="FILE", help="write a page with figures and raw samples here")
    _add_debug(parser)


def _add_texts(parser: ArgumentParser, built_in: str) -> None:
    parser.add_argument(
        "text", nargs="*", metavar="TEXT",
        help=f"text files, folders of .txt files, - for standard input, {built_in}",
    )  # fmt: skip


def _add_saved_run(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="DIR",
        help="the folder that train --out wrote; its best epoch is taken, DIR/latest is the newest",
    )  # fmt: skip


def _add_backend(parser: argparse._ActionsContainer) -> None:
    from d2lrnn.cli.train_options import option_of

    _add_option(parser, option_of("", "backend"))


def _add_device(parser: argparse._ActionsContainer) -> None:
    from d2lrnn.cli.train_options import option_of

    _add_option(parser, option_of("", "device"))


def _add_json(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the result here as JSON, too; - is standard output, and the report goes to stderr then",
    )


def _add_debug(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )


#: The commands in the order of the help: what adds their options, and what the help says of them.
_COMMANDS = {
    "train": (_add_train, "train a language model on a text"),
    "lr-find": (_add_lr_find, "find a learning rate for train"),
    "generate": (_add_generate, "continue a text with a saved model"),
    "chat": (_add_chat, "type beginnings, and see a saved model continue them"),
    "evaluate": (_add_evaluate, "measure a saved model on its validation text, or on another one"),
    "compare": (_add_compare, "compare saved runs: what differs, best perplexity, speed"),
    "plot": (_add_plot, "draw the perplexity of saved runs by epoch"),
    "report": (_add_report, "show a saved run on a page: curves, samples, losses, hidden units"),
    "config": (_add_config, "print the specification of a run, as a file for train --config"),
    "encode": (_add_encode, "encode a text of any size into a file to train on"),
    "backends": (_add_backends, "list the backends, their versions and their devices"),
    "translate": (_add_translate, "train a translator on pairs of sentences, or translate with one"),
    "chapter": (_add_chapter, "run a chapter of the book, cell by cell"),
    "run": (_add_run, "run a script that imports the book's package, with d2lrnn in its place"),
    "bench": (add_bench, "time training steps in every backend that is installed"),
    "completion": (_add_completion, "print what lets a shell complete these commands"),
}
