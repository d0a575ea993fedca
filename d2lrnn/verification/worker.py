"""Verifies one backend in this process, and tells what it finds as it finds it.

The process that watches (`d2lrnn.verification.processes`) reads a line of JSON for each of these events, so
that what was found is not lost where a framework ends the process or hangs:

- ``environment``: versions of d2lrnn, Python and NumPy, and the machine.
- ``absent``: the framework is not here; ``unusable``: it is here, and cannot be used.
- ``backend``: its versions, and faults of the installation that do not keep it from working.
- ``no device``: what was asked for is not there; ``device``: the one that comes next.
- ``reference``: how far its numbers are from those that are kept, and whether it is what is verified.
- ``begin``: what comes next, and how much of all is done.
- ``products``, ``comparison`` and ``pace``, each with what was found on a device.
- ``broken``: something failed or is wrong; ``remark``: something that is no fault.
- ``end``: that was all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.values import Device
from d2lrnn.errors import D2LError, DeviceError
from d2lrnn.installation.diagnosis import error_text, summary
from d2lrnn.registry import backend, find_backend
from d2lrnn.verification import record
from d2lrnn.verification.comparison import Judge, compare
from d2lrnn.verification.models import Task, not_compared, tasks
from d2lrnn.verification.pace import pace
from d2lrnn.verification.products import Product, check_products
from d2lrnn.verification.surroundings import machine, processors
from d2lrnn.version import __version__

#: Writes an event: its kind, and what belongs to it.
Tell = Callable[..., None]

#: The devices that are verified where none is named: of several GPUs one.
_DEVICES = ("cpu", "gpu:0")


@dataclass(frozen=True)
class Plan:
    """What a worker is to do.

    Attributes:
        backend: its name.
        device: as for `d2lrnn.contract.devices.choose_device`; None takes the CPU, and then the first GPU.
        cells: names; empty takes all.
        events: the file to write events to.
    """

    backend: str
    device: str | None = None
    cells: tuple[str, ...] = ()
    events: str = ""


def main(question: str) -> None:
    """Does a plan, which is given as JSON."""
    given = json.loads(question)
    plan = Plan(given["backend"], given["device"], tuple(given["cells"]), given["events"])
    with Path(plan.events).open("a", encoding="utf-8") as file:

        def tell(event: str, **values: Any) -> None:
            file.write(json.dumps({"event": event, **values}) + "\n")
            file.flush()

        verify(plan, tell)
        tell("end")


def verify(plan: Plan, tell: Tell) -> None:
    """Verifies a backend, and tells what is found; what fails is told, too."""
    tell(
        "environment", d2lrnn=__version__, **machine(), numpy=np.__version__, processors=processors().usable,
    )  # fmt: skip
    entry = find_backend(plan.backend)
    if not entry.installed:
        faults = entry.faults(None) if entry.begun else []
        told = [str(fault) for fault in faults] or [entry.install]
        tell("absent", missing=list(entry.missing), mend=told)
        return
    try:
        found = backend(entry.name)
        versions, devices = found.versions(), found.devices()
    except Exception as error:
        text = error_text(error.__cause__ or error)
        tell("unusable", error=summary(text), mend=[str(fault) for fault in entry.faults(text)])
        return
    faults = entry.faults(None, [device.name for device in devices])
    tell("backend", versions=versions, remarks=[str(fault) for fault in faults])
    try:
        chosen = _chosen(plan.device, devices)
    except DeviceError as error:
        tell("no device", error=str(error))
        return
    _verify_on(found, chosen, plan.cells, tell)


def _chosen(named: str | None, devices: Any) -> list[Device]:
    if named is not None:
        return [choose_device(named, devices)]
    return sorted((each for each in devices if each.name in _DEVICES), key=lambda each: each.name)


def _verify_on(found: Backend, devices: list[Device], cells: tuple[str, ...], tell: Tell) -> None:
    reference = backend(record.REFERENCE)
    judge, chosen = Judge(reference), list(tasks(found, reference, cells))
    progress = _Progress(tell, total=1 + len(devices) * (2 + len(chosen)))
    with _told(tell, progress.begin("the reference")):
        _check_reference(found, reference, judge, chosen, tell)
    for device in devices:
        on = device.name
        tell("device", name=on, description=device.description)
        with _told(tell, progress.begin(f"matrix products on {on}")):
            for product in check_products(_products(found, on)):
                tell("products", device=on, check=asdict(product))
        for task in chosen:
            with _told(tell, progress.begin(f"{task.name} in {task.spec.dtype} on {on}")):
                _compare(found, judge, task, on, tell)
        with _told(tell, progress.begin(f"the pace of an LSTM on {on}")):
            if (timed := pace(found, on)) is not None:
                tell("pace", device=on, pace=asdict(timed))
    for cell in () if cells else not_compared(found, reference):
        tell("remark", what=f"the cell {cell} is not compared: the reference has no formula of it")


def _compare(found: Backend, judge: Judge, task: Task, on: str, tell: Tell) -> None:
    try:
        for comparison in compare(found, judge, task, on):
            tell("comparison", device=on, comparison=asdict(comparison))
    except D2LError as error:
        # A backend that has no float64, or none on this device, says so.
        if task.spec.dtype == "float32":
            raise
        tell("remark", what=f"{task.name} in {task.spec.dtype} on {on}: {error}")


def _check_reference(
    found: Backend, reference: Backend, judge: Judge, chosen: list[Task], tell: Tell
) -> None:
    if found.name != reference.name:  # NumPy's products, which are otherwise tried as the backend's own
        for product in check_products(_products(reference, "cpu")):
            if product.fault:
                tell("broken", what=f"NumPy's {product.product} in {product.dtype}: {product.fault}")
    difference = record.difference(record.numbers(judge, chosen), record.recorded())
    if difference is not None:
        tell("reference", worst=difference.worst, itself=found.name == reference.name)
        if difference.fault:
            tell("broken", what=difference.fault)


def _products(found: Backend, on: str) -> dict[str, Product]:
    module = type(found).__module__
    name = f"{module.rpartition('.')[0] or module}.verification"
    try:
        own = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return {}  # a third party's backend may have none
    made: dict[str, Product] = own.products(on)
    return made


class _Progress:
    def __init__(self, tell: Tell, total: int) -> None:
        self._tell, self._total, self._begun = tell, total, 0

    def begin(self, what: str) -> str:
        """Tells what comes next."""
        self._tell("begin", what=what, done=self._begun, total=self._total)
        self._begun += 1
        return what


@contextmanager
def _told(tell: Tell, what: str) -> Iterator[None]:
    """An error of what is done inside is told, and the rest goes on."""
    try:
        yield
    except Exception as error:
        tell("broken", what=f"{what}: {summary(error_text(error))}")
