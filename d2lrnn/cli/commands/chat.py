"""``d2lrnn chat``: what it asks for, and its options."""

from __future__ import annotations

from dataclasses import dataclass

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.generate import TEMPERATURE, GenerateRequest, add_sampling
from d2lrnn.cli.commands.options import add_backend, add_debug, add_device, add_saved_run
from d2lrnn.cli.commands.request import Request


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


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Type a beginning, and see a saved model continue it. A line that begins with / is a command: /help "
        "lists them, such as /temperature 0.5 and /model runs/b. Ctrl-C stops a text, Ctrl-D quits. Lines "
        "can also come through a pipe."
    )
    parser.asks_for(ChatRequest, "d2lrnn chat runs/a --temperature 0.5")
    add_saved_run(parser)
    add_sampling(parser)
    add_backend(parser)
    add_device(parser)
    add_debug(parser)
