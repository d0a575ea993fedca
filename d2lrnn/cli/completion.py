"""``d2lrnn completion``: what lets a shell complete commands, options and their values, by argcomplete.

At a tab the shell runs ``d2lrnn`` itself with a variable set, and `answer_shell` answers from the parser.
What an option's values are is imported where that option is completed, and only then.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any, get_args

from d2lrnn.cli.commands.completion import CompletionRequest
from d2lrnn.errors import UNEXPECTED, SpecError

#: What names a folder.
_FOLDERS = {"run", "runs", "resume", "like", "tensorboard"}


def completion(request: CompletionRequest) -> int:
    """Prints the lines for the shell; returns the exit code.

    Raises:
        SpecError: argcomplete is not installed.
    """
    if find_spec("argcomplete") is None:
        raise SpecError("completion needs argcomplete, which is not installed here: pip install argcomplete")
    from argcomplete.shell_integration import shellcode

    print(shellcode(["d2lrnn"], shell=request.shell))
    return 0


def answer_shell() -> None:
    """Answers the shell, and ends the process; a shell that is told nothing completes names of files."""
    if find_spec("argcomplete") is None:
        os._exit(UNEXPECTED)
    import argcomplete
    from argcomplete.completers import DirectoriesCompleter

    from d2lrnn.cli.parser import parser_for

    parser = parser_for(os.environ.get("COMP_LINE", "").split())
    _set_completers(parser, DirectoriesCompleter())
    argcomplete.autocomplete(parser, always_complete_options="long")


def _set_completers(parser: argparse.ArgumentParser, folders: Any) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _set_completers(command, folders)
        # argcomplete looks for an attribute that argparse does not know.
        elif action.dest in _VALUES:
            action.completer = _Values(_VALUES[action.dest])  # type: ignore[attr-defined]
        elif action.dest in _FOLDERS:
            action.completer = folders  # type: ignore[attr-defined]


class _Values:
    """Names that are looked up when they are asked for."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names

    def __call__(self, prefix: str, **_: Any) -> list[str]:
        return [name for name in self._names() if name.startswith(prefix)]


def _cells() -> Iterable[str]:
    from d2lrnn.contract.cells import cell_names

    return cell_names()


def _implementations() -> Iterable[str]:
    from d2lrnn.contract.values import Implementation

    return get_args(Implementation)


def _optimizers() -> Iterable[str]:
    from d2lrnn.contract.optimizers import OPTIMIZERS

    return OPTIMIZERS


def _schedules() -> Iterable[str]:
    from d2lrnn.training.schedules import SCHEDULES

    return SCHEDULES


def _units() -> Iterable[str]:
    from d2lrnn.data.vocabulary import Unit

    return get_args(Unit)


def _iterators() -> Iterable[str]:
    from d2lrnn.data.spec import IteratorName

    return get_args(IteratorName)


def _backends() -> Iterable[str]:
    from d2lrnn.registry import backends

    return [entry.name for entry in backends() if entry.installed]


#: The names that there are, by what the parser calls the value of an option.
_VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "model.cell": _cells,
    "model.implementation": _implementations,
    "optimizer.name": _optimizers,
    "optimizer": _optimizers,  # that of translate train
    "schedule.name": _schedules,
    "data.unit": _units,
    "data.iterator": _iterators,
    "backend": _backends,
    "device": lambda: ("auto", "cpu", "gpu"),
    "shell": lambda: CompletionRequest.SHELLS,
}
