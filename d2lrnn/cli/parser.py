"""From argv to a request.

A command's options are added, and what their help names is imported, where argv has that command: ``--help``
answers at once. Nothing here imports NumPy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from d2lrnn.cli.commands import TABLE
from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.version import __version__

if TYPE_CHECKING:
    from d2lrnn.cli.commands.request import Request

#: Set by a shell for whom the command is to complete (`d2lrnn.cli.completion`).
COMPLETING = "_ARGCOMPLETE"


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
    kind: type[Request] = given.pop("request")
    if "config" in given:
        from d2lrnn.cli.config_file import read_config, with_config

        # A range test has no epochs and no schedule.
        known = kind.__dataclass_fields__
        config = read_config(given.pop("config"))
        config = {name: value for name, value in config.items() if name.partition(".")[0] in known}
        given = with_config(config, given)
    return request_of(kind, given)


def request_of(kind: type[Request], given: dict[str, Any]) -> Request:
    """A request from what was parsed; ``model.cell`` becomes the entry ``cell`` of its field ``model``."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        group, _, field = name.rpartition(".")
        (values.setdefault(group, {}) if group else values)[field] = value
    return kind(**values)


def parser_for(argv: Sequence[str]) -> ArgumentParser:
    """The parser, with the options of the commands that argv has."""
    parser = ArgumentParser(
        prog="d2lrnn",
        formatter_class=_GroupedHelp,
        description="Recurrent language models: one model, five backends, the same numbers. "
        "The environment variable D2LRNN_BACKEND chooses the backend.",
        epilog="d2lrnn COMMAND --help shows its options, and examples.",
    )
    parser.add_argument("--version", action="version", version=f"d2lrnn {__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=ArgumentParser
    )
    for group in TABLE.values():
        for name, text in group.items():
            command = commands.add_parser(name, help=text)
            if name in argv:
                import_module(f"d2lrnn.cli.commands.{name.replace('-', '_')}").add_options(command)
    return parser


class _GroupedHelp(argparse.HelpFormatter):
    """Shows the commands by their groups."""

    def _format_action(self, action: argparse.Action) -> str:
        if not isinstance(action, argparse._SubParsersAction):
            return super()._format_action(action)
        shown = {each.dest: each for each in action._get_subactions()}
        lines = []
        self._action_max_length += self._indent_increment  # the groups' own
        for title, group in TABLE.items():
            lines.append(f"{'':{self._current_indent}}{title}:\n")
            self._indent()
            lines += [super(_GroupedHelp, self)._format_action(shown[name]) for name in group]
            self._dedent()
        return "".join(lines)
