"""``d2lrnn completion``: what it asks for, and its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.options import add_debug
from d2lrnn.cli.commands.request import Request
from d2lrnn.errors import SpecError


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


def add_options(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Print the lines by which a shell completes commands, options and their values, by argcomplete. "
        "They belong in its start file; in that of zsh, below compinit."
    )
    parser.asks_for(
        CompletionRequest,
        'eval "$(d2lrnn completion bash)"',
        "d2lrnn completion fish | source",
    )
    parser.add_argument("shell", metavar="SHELL", help=", ".join(CompletionRequest.SHELLS))
    add_debug(parser)
