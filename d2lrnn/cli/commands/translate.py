"""``d2lrnn translate``: what its actions ask for, and their options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_backend, add_debug, add_device, add_json
from d2lrnn.cli.commands.request import Request, check_at_least_one
from d2lrnn.errors import SpecError


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
        check_at_least_one("--epochs", self.epochs)
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
        check_at_least_one("--beam", self.beam)


def add_options(parser: ArgumentParser) -> None:
    """The actions of the command, and their options."""
    parser.description = "Train a translator on pairs of sentences, or translate with one."
    parser.show(
        "d2lrnn translate train pairs.txt --epochs 10 --out runs/t",
        "d2lrnn translate run runs/t 'go .' --beam 3",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION", parser_class=ArgumentParser)
    _add_translate_train(
        actions.add_parser("train", help="learn from a text with a pair of sentences a line")
    )
    _add_translate_run(actions.add_parser("run", help="translate sentences with a saved translator"))


def _add_translate_train(parser: ArgumentParser) -> None:
    parser.description = (
        "Train a translator, a recurrent encoder and decoder, on pairs of sentences, and report perplexity, "
        "BLEU and samples. A part of the pairs is kept for validation."
    )
    parser.asks_for(TranslateTrainRequest, "d2lrnn translate train pairs.txt --epochs 10 --out runs/t")
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
    add_backend(training)
    add_device(training)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="save the run here after every epoch")
    output.add_argument(
        "--overwrite", action="store_true", help="replace another translator that --out holds"
    )
    output.add_argument(
        "--resume", metavar="DIR",
        help="go on with a saved run, on any backend, until it has --epochs; FILE is that of the run",
    )  # fmt: skip
    add_json(output)
    add_debug(parser)


#: Options that have another name than the field that they set.
_FIELDS = {
    "--embedding": "embedding_size", "--hidden": "num_hiddens", "--layers": "num_layers",
    "--lr": "learning_rate",
}  # fmt: skip


def _add_translate_run(parser: ArgumentParser) -> None:
    parser.description = "Translate sentences, a line each, with a saved translator."
    parser.asks_for(TranslateRunRequest, "d2lrnn translate run runs/t 'go .' --beam 3")
    parser.add_argument("run", metavar="DIR", help="the folder that translate train --out wrote")
    parser.add_argument(
        "sentences", metavar="SENTENCE", nargs="*",
        help="what to translate; none takes the lines of standard input",
    )  # fmt: skip
    parser.add_argument(
        "--beam", type=int, metavar="K", help="beginnings to keep in the search (default: 1, greedy)"
    )
    add_backend(parser)
    add_device(parser)
    add_json(parser)
    add_debug(parser)
