"""The parser: errors in one line, nothing for what was not given, help that ends with examples."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from d2lrnn.errors import WRONG_INPUT

if TYPE_CHECKING:
    from d2lrnn.cli.commands.request import Request


class _Help(argparse.HelpFormatter):
    """Leaves a text of several lines as it is; argparse would fill them."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class ArgumentParser(argparse.ArgumentParser):
    """Reports what does not fit in one line, like every other error, and leaves out what was not given."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"argument_default": argparse.SUPPRESS, "formatter_class": _Help, **options})
        self.color = False  # some Pythons colour the help, which would be shown as text
        self.register("type", int, whole_number)
        self.register("type", float, _number)

    def asks_for(self, request: type[Request], *examples: str) -> None:
        """Says what the options are made into, and shows examples."""
        self.set_defaults(request=request)
        self.show(*examples)

    def show(self, *examples: str) -> None:
        """Shows command lines at the end of the help."""
        self.epilog = "\n  ".join(["examples:", *examples])

    def error(self, message: str) -> NoReturn:
        """Ends the process with the code for wrong input."""
        self.exit(WRONG_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def whole_number(text: str) -> int:
    """Reads a whole number, in place of `int`, whose error names Python's type."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
