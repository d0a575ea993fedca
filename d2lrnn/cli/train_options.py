"""The options of ``d2lrnn train`` that describe a run, as a table: each is a field of a specification.

The parser, the errors of a resumed run and those of an optimizer without such a parameter read it. The
parameters of optimizers and schedules follow from their classes.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from d2lrnn.contract.cells import CELLS, RNN
from d2lrnn.contract.optimizers import OPTIMIZERS, SGD
from d2lrnn.training.schedules import SCHEDULES, Constant


class Option(NamedTuple):
    """One option.

    Attributes:
        flag: ``--hidden``.
        group: the field of `d2lrnn.cli.commands.train.TrainRequest` that its value goes into; empty for a
            field of the request itself.
        field: which field of the specification it is.
        kind: reads its value; `bool` is a switch with a ``--no-`` of its own.
        help: what ``--help`` says of it.
    """

    flag: str
    group: str
    field: str
    kind: Callable[[str], Any]
    help: str


def option_of(group: str, field: str) -> Option:
    """The option that gives a field.

    Example:
        >>> option_of("model", "num_hiddens").flag
        '--hidden'
    """
    options = (*SETTINGS, *OPTIONS)
    return next(option for option in options if (option.group, option.field) == (group, field))


def owners(table: Mapping[str, type[Any]], field: str) -> list[str]:
    """The names of the optimizers, or of the schedules, that have a parameter.

    Example:
        >>> owners(OPTIMIZERS, "momentum")
        ['sgd', 'rmsprop']
    """
    return [name for name, kind in table.items() if field in {each.name for each in fields(kind)}]


#: What stands for no clipping.
NONE = "none"


def number_or_none(text: str) -> float | None:
    """Reads a number, or None from ``none``.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if text.lower() == NONE:
        return None
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a number nor {NONE}") from None


def _parameters(
    group: str, table: Mapping[str, type[Any]], flags: str, help_texts: Mapping[str, str]
) -> Iterator[Option]:
    """An option for each parameter that one of the classes of a table has."""
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": bool}
    for name, text in help_texts.items():
        having = {owner: _field(table[owner], name) for owner in owners(table, name)}
        defaults = {owner: field.default for owner, field in having.items()}
        listed = ", ".join(f"{owner} {default:g}" for owner, default in defaults.items())
        if len(set(defaults.values())) == 1:
            listed = f"{', '.join(defaults)}; default: {next(iter(defaults.values())):g}"
        kind = kinds[str(next(iter(having.values())).type)]
        if not text.endswith(")"):
            text += f" ({', '.join(defaults) if kind is bool else listed})"
        yield Option(flags + name.replace("_", "-"), group, name, kind, text)


def _field(kind: type[Any], name: str) -> Any:
    return next(field for field in fields(kind) if field.name == name)


_OPTIMIZER_HELP = {
    "weight_decay": "L2 penalty; for adamw the decoupled decay",
    "momentum": "momentum",
    "nesterov": "Nesterov's momentum",
    "beta1": "decay of the first moment",
    "beta2": "decay of the second moment",
    "alpha": "decay of the mean square",
    "epsilon": "added to the denominator",
}

_SCHEDULE_HELP = {
    "steps": "training steps to the end of the decay, warm-up included (cosine; default: those of the run)",
    "final": "the part of the rate that is left at the end",
    "every": "training steps after which the rate is multiplied by gamma",
    "gamma": "the factor of a decay",
    "patience": "epochs without a lower validation loss before the rate falls",
    "threshold": "the part by which a lower loss must be lower",
}

#: What else describes a run, or where it is trained; its text is not an option.
SETTINGS = (
    Option("--epochs", "", "epochs", int, "epochs of the run, in all (default: 100)"),
    Option("--patience", "", "patience", int,
           "end early after so many epochs in a row without a better validation perplexity than the best so "
           "far; --out DIR has the best in DIR/best (default: go on to the last epoch)"),
    Option("--seed", "", "seed", int,
           "decides the initial parameters, the order of the batches and dropout (default: 0)"),
    Option("--backend", "", "backend", str,
           "one that d2lrnn backends lists (default: that of D2LRNN_BACKEND, else the first installed)"),
    Option("--device", "", "device", str,
           "auto (a GPU where there is one), cpu, gpu or gpu:1 (default: auto)"),
)  # fmt: skip

#: The options, in the order in which the help lists them.
OPTIONS: tuple[Option, ...] = (
    Option("--cell", "model", "cell", str,
           f"{', '.join(CELLS)}, or a cell of another package (default: {RNN.name})"),
    Option("--impl", "model", "implementation", str,
           "scratch (the formulas spelt out) or concise (the framework's layers; default: scratch)"),
    Option("--layers", "model", "num_layers", int, "recurrent layers (default: 1)"),
    Option("--hidden", "model", "num_hiddens", int, "hidden units of a layer (default: 32)"),
    Option("--embedding", "model", "embedding_size", int,
           "size of a learned embedding of the tokens (default: none, one-hot vectors)"),
    Option("--tied", "model", "tied", bool,
           "the output layer's weight is the embedding's; needs --embedding as large as --hidden"),
    Option("--dropout", "model", "dropout", float, "dropout rate between layers (default: 0)"),
    Option("--input-dropout", "model", "input_dropout", float, "dropout rate of the embedding (default: 0)"),
    Option("--output-dropout", "model", "output_dropout", float,
           "dropout rate before the output layer (default: 0)"),
    Option("--tokens", "data", "unit", str,
           "what a token is: char, word, byte, or bpe, rows of bytes that are learned from the text "
           "(default: char)"),
    Option("--vocab-size", "data", "vocab_size", int,
           "with --tokens bpe, the most tokens to learn, 256 bytes among them (default: 1024)"),
    Option("--normalize", "data", "normalized", bool,
           "turn every run of characters other than A-Z into a space, in lower case (default: for the "
           "built-in texts only)"),
    Option("--min-freq", "data", "min_freq", int,
           "tokens that occur less often become the unknown token (default: 0)"),
    Option("--encoding", "data", "encoding", str,
           "encoding of the text file, such as latin1 or windows-1252 (default: utf-8)"),
    Option("--iterator", "data", "iterator", str,
           "sliding (overlapping windows), random, or sequential (the state is carried from batch to batch; "
           "default: sliding)"),
    Option("--steps", "data", "num_steps", int,
           "time steps of a sequence (default: 32; with random and sequential 35)"),
    Option("--batch-size", "data", "batch_size", int,
           "sequences in a batch (default: 1024; with random and sequential 32)"),
    Option("--num-train", "data", "num_train", int,
           "training windows, sliding only (default: 10000 at most of a built-in text, all of another one)"),
    Option("--num-val", "data", "num_val", int,
           "validation windows, sliding only (default: 5000 at most of a built-in text, a tenth of another "
           "one)"),
    Option("--clip", "training", "clip", number_or_none,
           "the largest norm that the gradient may have, or none (default: 1)"),
    Option("--accumulate", "training", "accumulate", int,
           "add up the gradients of this many batches before each step: the numbers are those of a batch "
           "that many times as large (default: 1)"),
    Option("--optimizer", "optimizer", "name", str, f"{', '.join(OPTIMIZERS)} (default: {SGD.name})"),
    Option("--lr", "training", "learning_rate", float,
           "learning rate (default: " + ", ".join(
               f"{name} {kind.default_rate:g}" for name, kind in OPTIMIZERS.items()) + ")"),
    *_parameters("optimizer", OPTIMIZERS, "--", _OPTIMIZER_HELP),
    Option("--schedule", "schedule", "name", str,
           f"how the learning rate changes: {', '.join(SCHEDULES)} (default: {Constant.name})"),
    *_parameters("schedule", SCHEDULES, "--", {
        "warmup": "first training steps of the run, in which the rate rises to --lr (default: 0)"}),
    *_parameters("schedule", SCHEDULES, "--schedule-", _SCHEDULE_HELP),
)  # fmt: skip
