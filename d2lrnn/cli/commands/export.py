"""``d2lrnn export``: what it asks for, and its options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_backend, add_debug, add_saved_run
from d2lrnn.cli.commands.request import Request


@dataclass(frozen=True)
class ExportRequest(Request):
    """``d2lrnn export``.

    Attributes:
        run: the folder of the run.
        out: the file to write, or the folder where the format is one.
        to: the format; None takes that of the backend.
        overwrite: whether what is there is replaced.
    """

    command = "export"

    run: str
    out: str
    to: str | None = None
    overwrite: bool = False
    backend: str | None = None


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Export a saved model to a format that runs without d2lrnn: a function of token ids (batch, time) "
        "and a state, which gives logits and the next state. Each backend has a format of its own, or none."
    )
    parser.asks_for(ExportRequest, "d2lrnn export runs/a --out a.onnx")
    add_saved_run(parser)
    parser.add_argument(
        "--to", metavar="FORMAT", help="onnx, stablehlo or savedmodel (default: that of the backend)"
    )
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="the file to write; a savedmodel is a folder"
    )
    parser.add_argument("--overwrite", action="store_true", default=argparse.SUPPRESS, help="replace FILE")
    add_backend(parser)
    add_debug(parser)
