"""``d2lrnn convert``: what it asks for, and its options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug, add_json
from d2lrnn.cli.commands.request import Request


@dataclass(frozen=True)
class ConvertRequest(Request):
    """``d2lrnn convert``. None of what a file may say itself is what the file says.

    Attributes:
        file: the file or the folder to read.
        to: the name of the format to write.
        out: what to write; None is a name like that of `file`, beside it.
        format: the name of the format of `file`; None finds it.
        overwrite: whether what is there is replaced.
        cell: of the layers.
        activation: of the candidate.
        reset_after: where the reset gate of a GRU is applied.
        batch_first: whether the first axis of a sequence is the batch.
        prefix: what the names of the layers' arrays begin with.
        proof: the file to write for ``d2lrnn check``.
        json: the file to write the result to.
    """

    command = "convert"

    file: str
    to: str
    out: str | None = None
    format: str | None = None
    overwrite: bool = False
    cell: str | None = None
    activation: str | None = None
    reset_after: bool | None = None
    batch_first: bool | None = None
    prefix: str | None = None
    proof: str | None = None
    json: str | None = None


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Convert a file with recurrent layers to the format of another framework, and prove that what lies "
        "on the disk then computes the same. Layers that are not recurrent are left out, and named. The exit "
        "code is 0 when all agree; else nothing is written."
    )
    parser.asks_for(
        ConvertRequest,
        "d2lrnn convert gru.pt --to ported",
        "d2lrnn convert model.safetensors --to onnx --prefix encoder.rnn",
        "d2lrnn convert rnn.pt --to onnx --activation relu --proof proof.safetensors",
    )
    parser.add_argument("file", metavar="FILE", help="the file or the folder to read")
    parser.add_argument(
        "--to", metavar="FORMAT", required=True,
        help="the format to write; an unknown one lists those that there are. d2lrnn reads ported in every "
        "environment",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="what to write (default: named like FILE, beside it)")
    parser.add_argument("--overwrite", action="store_true", default=argparse.SUPPRESS, help="replace it")
    parser.add_argument(
        "--proof", metavar="FILE", help="also write what d2lrnn check proves in another environment"
    )
    group = parser.add_argument_group("where FILE does not say it")
    group.add_argument("--from", dest="format", metavar="FORMAT", help="its format (default: by its name)")
    group.add_argument("--prefix", metavar="NAME", help="what the names of its layers begin with")
    group.add_argument("--cell", type=str.lower, metavar="NAME", help="the cell of its layers: gru, ...")
    group.add_argument(
        "--activation", type=str.lower, metavar="NAME", help="of the candidate: tanh, relu, sigmoid, linear"
    )
    reset = group.add_mutually_exclusive_group()
    for where, value in (("after", True), ("before", False)):
        reset.add_argument(
            f"--reset-{where}", dest="reset_after", action="store_const", const=value,
            default=argparse.SUPPRESS, help=f"its GRU resets {where} the matrix product",
        )  # fmt: skip
    group.add_argument(
        "--batch-first", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
        help="sequences are (batch, time, ...) to its layers, or (time, batch, ...)",
    )  # fmt: skip
    add_json(parser)
    add_debug(parser)
