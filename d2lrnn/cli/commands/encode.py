"""``d2lrnn encode``: what it asks for, and its options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug, add_option, add_texts
from d2lrnn.cli.commands.request import Request
from d2lrnn.errors import SpecError


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


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    from d2lrnn.cli.train_options import option_of

    parser.description = (
        "Encode a text of any size into a file that train and evaluate take in its place: it stays on disk, "
        "and only the rows of a batch are read. An encoding that was ended goes on where it stood."
    )
    parser.asks_for(
        EncodeRequest,
        "d2lrnn encode book.txt --out book.tokens && d2lrnn train book.tokens",
        "d2lrnn encode --check book.tokens",
    )
    add_texts(parser, "'time-machine' or 'sample'")
    parser.add_argument("--out", metavar="FILE", help="the file to write")
    for name in ("unit", "vocab_size", "normalized", "min_freq", "encoding"):
        add_option(parser, option_of("data", name))
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
    add_debug(parser)
