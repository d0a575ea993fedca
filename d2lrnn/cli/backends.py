"""``d2lrnn backends``: which work here, in which version, on which devices, and what mends the others."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2lrnn import registry
from d2lrnn.cli.commands.backends import BackendsRequest
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.streams import in_one_line
from d2lrnn.errors import WRONG_INPUT, UnknownBackendError
from d2lrnn.installation.diagnosis import error_text, summary
from d2lrnn.installation.faults import Fault
from d2lrnn.installation.probe import Answer, ask
from d2lrnn.registry import ENVIRONMENT_VARIABLE, BackendEntry

#: How far what belongs to a backend is indented where a terminal has no room for its name beside it.
_NARROW, _INDENT = 50, 2
#: A space at which no line ends.
_UNBROKEN = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Examined:
    """A backend and what was found of it.

    Attributes:
        name: of the backend.
        state: ``"works"``, ``"cannot be used"`` or ``"not installed"``.
        versions: by package, where it works.
        devices: what it computes on, each a name and a description.
        error: what its import failed with, in a line.
        faults: what is wrong, and what mends it; of one that works, what could be better.
    """

    name: str
    state: str
    versions: dict[str, str]
    devices: list[list[str]]
    error: str | None
    faults: list[Fault]

    @property
    def works(self) -> bool:
        """Whether it can be trained with."""
        return self.state == "works"


def backends(request: BackendsRequest) -> int:
    """Prints what is known of every backend; returns 0 if the chosen one works."""
    check_writable("--json", request.json)
    examined = examine(registry.backends(), request.timeout)
    chosen, unknown = _chosen()
    width = shutil.get_terminal_size().columns
    indent = max(len(each.name) for each in examined) + 1
    for each in examined:
        print("\n".join(_lines(each, indent, width)))
    how = f"by {ENVIRONMENT_VARIABLE}" if os.environ.get(ENVIRONMENT_VARIABLE) else "the first installed"
    verdict = [f"chosen: {chosen}, {how}"] if chosen else list(_told(unknown, 0, width))
    print("\n".join(["", *verdict]))
    works = any(each.name == chosen and each.works for each in examined)
    write_json(request.json, {
        "chosen": chosen,
        "works": works,
        "faults": [vars(fault) for fault in unknown],
        "backends": [_to_json(each) for each in examined],
    })  # fmt: skip
    return 0 if works else WRONG_INPUT


def examine(entries: Sequence[BackendEntry], seconds: float) -> list[Examined]:
    """Tries every backend whose framework is here, each in a process of its own.

    Args:
        entries: the backends.
        seconds: how long their processes may take.
    """
    whole = [entry.name for entry in entries if entry.installed]
    answers = ask(f"{__name__}:answer", whole, seconds)
    return [_examined(entry, answers.get(entry.name), seconds) for entry in entries]


def _examined(entry: BackendEntry, answer: Answer | None, seconds: float) -> Examined:
    if not entry.begun:
        missing = Fault(f"{', '.join(entry.missing)} not found", entry.install)
        return Examined(entry.name, "not installed", {}, [], None, [missing])
    if not entry.installed:
        return Examined(entry.name, "cannot be used", {}, [], None, entry.faults(None))
    if answer is None:
        slow = Fault("wait longer where the machine is busy", f"d2lrnn backends --timeout {10 * seconds:g}")
        hung = f"importing it took longer than {seconds:g} seconds"
        return Examined(entry.name, "cannot be used", {}, [], hung, [*entry.faults(None), slow])
    faults = entry.faults(answer.error, [name for name, _ in answer.devices])
    state, error = ("cannot be used", summary(answer.error)) if answer.error else ("works", None)
    return Examined(entry.name, state, answer.versions, answer.devices, error, faults)


def answer(question: str) -> None:
    """In the process of its own: imports a backend, and writes what came of it.

    Args:
        question: ``NAME=FILE``.
    """
    name, _, file = question.partition("=")
    try:
        found = registry.backend(name)
        devices = [[device.name, device.description] for device in found.devices()]
        told: dict[str, Any] = {"versions": found.versions(), "devices": devices}
    except Exception as error:
        told = {"error": error_text(error.__cause__ or error)}
    # Written whole or not at all: a process that is ended here has no answer.
    Path(f"{file}.part").write_text(json.dumps(told), encoding="utf-8")
    Path(f"{file}.part").replace(file)


def _chosen() -> tuple[str | None, list[Fault]]:
    try:
        return registry.find_backend().name, []
    except UnknownBackendError as error:
        names = [entry.name for entry in registry.backends()]
        near = difflib.get_close_matches(os.environ[ENVIRONMENT_VARIABLE].lower(), names, 1)
        mend = f"export {ENVIRONMENT_VARIABLE}={near[0]}" if near else f"unset {ENVIRONMENT_VARIABLE}"
        return None, [Fault(f"{ENVIRONMENT_VARIABLE}: {error}", mend)]


def _lines(each: Examined, indent: int, width: int) -> Iterator[str]:
    versions = ", ".join(f"{package}{_UNBROKEN}{version}" for package, version in each.versions.items())
    said = [each.state, versions, each.error or ""]
    hanging = indent if width >= _NARROW else _INDENT
    first = f"{each.name:<{indent - 1}} " + ": ".join(in_one_line(part) for part in said if part)
    for line in textwrap.wrap(first, width, subsequent_indent=" " * hanging, break_on_hyphens=False):
        yield line.replace(_UNBROKEN, " ")
    if each.devices:
        devices = ", ".join(f"{name} ({what})" for name, what in each.devices)
        yield from wrapped(f"devices: {devices}", hanging, width)
    if each.state == "not installed":
        yield " " * (hanging + _INDENT) + each.faults[0].mend
    else:
        yield from _told(each.faults, hanging, width)


def _told(faults: Sequence[Fault], indent: int, width: int) -> Iterator[str]:
    """What is wrong, and below it the command, in one line: a break of ours would be copied with it."""
    for fault in faults:
        yield from wrapped(f"{fault.what}:", indent, width)
        yield " " * (indent + _INDENT) + in_one_line(fault.mend)


def wrapped(text: str, indent: int, width: int) -> list[str]:
    """A text in lines of a terminal's width, indented."""
    margin = " " * indent
    return textwrap.wrap(
        in_one_line(text), width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
    )


def _to_json(each: Examined) -> dict[str, Any]:
    return {
        "name": each.name,
        "state": each.state,
        "versions": each.versions,
        "devices": [{"name": name, "description": what} for name, what in each.devices],
        "error": each.error,
        "faults": [vars(fault) for fault in each.faults],
    }
