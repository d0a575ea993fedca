"""``d2lrnn generate``: what it asks for, and its options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_backend, add_debug, add_device, add_json, add_saved_run
from d2lrnn.cli.commands.request import Request, check_alone, check_at_least_one

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
        check_at_least_one("--samples", self.samples)
        check_at_least_one("--beam", self.beam)
        several = {"--samples": self.samples > 1}
        if self.beam is not None:
            sampled = {
                "--temperature": self.temperature is not None,
                "--top-k": self.top_k is not None,
                "--top-p": self.top_p is not None,
                "--seed": self.seed != 0,
            }
            check_alone("--beam finds a likely text and samples nothing", sampled | several)
            check_alone("--beam knows its text at the end", {"--stream": self.stream})
        if self.stream:
            more = {"a second --prefix": len(self.prefix) > 1, "--prefixes": self.prefixes is not None}
            check_alone("--stream shows one text", several | more)


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Continue a prefix, or several of them in one batch, with a saved model, on any backend. Several "
        "texts have a line -- between them."
    )
    parser.asks_for(
        GenerateRequest,
        "d2lrnn generate runs/a --prefix 'it has' --samples 3",
        "d2lrnn generate runs/a --beam 5 --num 40",
    )
    add_saved_run(parser)
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
    add_sampling(parser)
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
    add_backend(parser)
    add_device(parser)
    add_json(parser)
    add_debug(parser)


def add_sampling(parser: ArgumentParser) -> None:
    """What decides the text that is written."""
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
