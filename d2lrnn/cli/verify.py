"""``d2lrnn verify``: whether the backends compute what they should, here and in other environments."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from d2lrnn.cli.backends import wrapped
from d2lrnn.cli.bench import report_worker
from d2lrnn.cli.commands.verify import VerifyRequest
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.progress import StageDisplay
from d2lrnn.cli.streams import in_one_line
from d2lrnn.cli.text_table import text_table
from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.values import Device
from d2lrnn.errors import UNEXPECTED, BackendNotInstalledError, DeviceError, SpecError
from d2lrnn.registry import backends, find_backend
from d2lrnn.verification.comparison import Comparison, bound_of
from d2lrnn.verification.processes import events
from d2lrnn.verification.products import MANTISSA
from d2lrnn.verification.report import FAILURES, PARTS, BackendReport
from d2lrnn.verification.surroundings import processors
from d2lrnn.verification.worker import Plan

_INDENT = 2


class _Turn(NamedTuple):
    """A backend, the interpreter that has it (None for this one), and whether it was named."""

    name: str
    python: str | None
    named: bool

    @property
    def title(self) -> str:
        return self.name if self.python is None else f"{self.name} of {self.python}"


def verify(request: VerifyRequest) -> int:
    """Verifies, and prints what was found; the exit code is 1 where something differs or is broken."""
    check_writable("--json", request.json)
    _check_device(request.device)
    for name in request.cell:
        find_cell(name)
    turns, remarks = _turns(request), list(processors().remarks())
    reports = []
    width = shutil.get_terminal_size().columns
    for number, turn in enumerate(turns):
        report = _verified(turn, request, number, len(turns))
        reports.append(report)
        print("\n".join(_lines(turn, report, width)), flush=True)
    print("\n".join(_summary(reports, remarks, width)))
    fails = any(report.verdict in FAILURES for report in reports)
    write_json(request.json, {
        "agrees": not fails and any(report.verdict == "agrees" for report in reports),
        "remarks": remarks,
        "backends": [report.to_json() for report in reports],
    })  # fmt: skip
    if fails:
        return UNEXPECTED
    _check_found(turns, reports)
    return 0


def _check_device(name: str | None) -> None:
    """A name that no device can have is wrong before anything is done."""
    if name is not None:
        # Every kind of device, under the name that is asked for.
        wanted = "gpu:0" if name == "gpu" else name
        choose_device(name, [Device(wanted, "some backend's"), Device("cpu", "this computer")])


def _turns(request: VerifyRequest) -> list[_Turn]:
    """The backends of other environments stand where their own would."""
    elsewhere: dict[str, list[str]] = {}
    for text in request.env:
        name, equals, python = text.partition("=")
        if not equals or not python:
            raise SpecError(
                f"--env {text}: it must be a backend and an interpreter, as in numpy=/path/to/python"
            )
        found = shutil.which(python)
        if found is None:
            raise SpecError(f"--env {text}: there is no program {python}")
        elsewhere.setdefault(find_backend(name).name, []).append(found)
    named = {find_backend(name).name for name in request.backend}
    turns = []
    for entry in backends():
        if named and entry.name not in named:
            continue
        if entry.name in elsewhere:
            turns += [_Turn(entry.name, python, True) for python in elsewhere[entry.name]]
        else:
            if entry.name in named:
                entry.require()
            turns.append(_Turn(entry.name, None, entry.name in named))
    if left_out := sorted(set(elsewhere) - {turn.name for turn in turns}):
        raise SpecError(f"--env names {', '.join(left_out)}, and --backend does not: leave one of them out")
    return turns


def _verified(turn: _Turn, request: VerifyRequest, number: int, total: int) -> BackendReport:
    plan = Plan(turn.name, request.device, tuple(request.cell))
    report = BackendReport(turn.name, turn.python)
    display = StageDisplay(turn.name)
    display.update("starting", 0, 1)
    if not sys.stderr.isatty():
        report_worker(turn.title, number, total)
    try:
        for event in events(plan, turn.python, request.timeout):
            if event["event"] == "begin":
                display.update(event["what"], event["done"], event["total"])
            report.add(event)
    finally:
        display.close()
    return report


def _check_found(turns: Sequence[_Turn], reports: Sequence[BackendReport]) -> None:
    """What was asked for by name has to be there."""
    for turn, report in zip(turns, reports, strict=True):
        if turn.named and report.verdict == "not installed":
            raise BackendNotInstalledError(f"the backend {turn.title} is not installed: {report.missing[0]}")
    if any(report.verdict == "agrees" for report in reports):
        return
    for report in reports:
        if report.no_device:
            raise DeviceError(report.no_device)
    raise SpecError("no backend here has any of the cells of --cell: nothing was compared")


def _lines(turn: _Turn, report: BackendReport, width: int) -> Iterator[str]:
    versions = ", ".join(f"{package} {version}" for package, version in report.versions.items())
    said = [report.verdict, versions, report.unusable or "", report.no_device or "", *report.missing]
    yield from wrapped(f"{turn.name}: " + ": ".join(part for part in said if part), 0, width)
    if turn.python is not None:
        yield from wrapped(f"in the environment of {turn.python}", _INDENT, width)
    for what in report.broken:
        yield from wrapped(what, _INDENT, width)
    for device, comparison in report.differing:
        yield from wrapped(f"{comparison} ({device})", _INDENT, width)
    for each in report.devices.values():
        if each.pace is not None:
            yield from wrapped(f"{each.name}: {each.pace}", _INDENT, width)
    for remark in report.remarks:
        yield from wrapped(f"note: {remark}", _INDENT, width)


def _summary(reports: Sequence[BackendReport], remarks: Sequence[str], width: int) -> Iterator[str]:
    """The worst differences in a table, and for each backend the line to paste."""
    for remark in remarks:
        yield from wrapped(f"note: {remark}", 0, width)
    rows = [
        (f"{report.name} {device.name} {dtype}", *(_number(device.worst(dtype, part)) for part in PARTS))
        for report in reports
        for device in report.devices.values()
        for dtype in device.dtypes
    ]
    if rows:
        bounds = [
            (f"allowed {dtype}", *(f"{bound_of(part, dtype):.0e}" for part in PARTS)) for dtype in MANTISSA
        ]
        yield from ("", text_table([("worst differences", *PARTS), *rows, *bounds], width))
    lines = [report.line for report in reports if report.verdict != "not installed"]
    if lines:
        # Not wrapped: a break of ours would be copied with it.
        yield from ("", "For a bug report:", *map(in_one_line, lines))


def _number(comparison: Comparison | None) -> str:
    return "-" if comparison is None else f"{comparison.worst:.1e}"
