"""What came of verifying a backend, from what its process told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from d2lrnn.verification.comparison import GRADIENTS, OUTPUTS, Comparison
from d2lrnn.verification.models import TRAININGS
from d2lrnn.verification.pace import Pace
from d2lrnn.verification.products import ProductCheck

#: ``differs``: it computes other numbers than the reference. ``broken``: it cannot be used, dies or hangs, or
#: matrix products are wrong. ``nothing compared``: it has none of the cells that were asked for.
Verdict = Literal["agrees", "differs", "broken", "not installed", "no such device", "nothing compared"]

#: The verdicts on what is not right.
FAILURES: tuple[Verdict, ...] = ("differs", "broken")

#: The columns of the report.
PARTS = (OUTPUTS, GRADIENTS, *TRAININGS)


@dataclass
class DeviceReport:
    """What was found on one device.

    Attributes:
        name: of the device.
        description: what the framework calls it.
        products: of each product of matrices and each type.
        comparisons: of each part of each model.
        pace: how long a training step takes; None where it was not timed.
    """

    name: str
    description: str
    products: list[ProductCheck] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    pace: Pace | None = None

    @property
    def dtypes(self) -> list[str]:
        """The types in which something was compared."""
        return list(dict.fromkeys(each.dtype for each in self.comparisons))

    def worst(self, dtype: str, part: str) -> Comparison | None:
        """The comparison of a part with the largest difference; None where there is none."""
        found = [each for each in self.comparisons if (each.dtype, each.part) == (dtype, part)]
        return max(found, key=lambda each: each.worst, default=None)


@dataclass
class BackendReport:
    """What was found of one backend.

    Attributes:
        name: of the backend.
        python: the interpreter of its environment; None for this one.
        environment: d2lrnn, Python, NumPy, system and processor there.
        versions: of the framework's packages.
        devices: by name, those that were verified.
        missing: where it is not installed: what mends that.
        unusable: why it cannot be used.
        broken: what is wrong beside numbers that differ.
        remarks: what is no fault.
        no_device: why the device that was asked for is not there.
        reference: how far the reference there is from what it computed elsewhere, as a part of it.
    """

    name: str
    python: str | None
    environment: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    devices: dict[str, DeviceReport] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unusable: str | None = None
    broken: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    no_device: str | None = None
    reference: float | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Takes in what the process told."""
        kind = event["event"]
        if kind == "environment":
            self.environment = {name: event[name] for name in event if name != "event"}
        elif kind == "absent":
            self.missing = event["mend"]
        elif kind == "unusable":
            self.unusable = event["error"]
            self.remarks += event["mend"]
        elif kind == "backend":
            self.versions = event["versions"]
            self.remarks += event["remarks"]
        elif kind == "device":
            self.devices[event["name"]] = DeviceReport(event["name"], event["description"])
        elif kind == "reference":
            self.reference = event["worst"]
            if event["itself"]:
                self.remarks.append(
                    f"float64 is the reference itself: it gives the numbers of other machines, "
                    f"within {event['worst']:.1e}"
                )
        elif kind == "products":
            self._add_product(event["device"], ProductCheck(**event["check"]))
        elif kind == "comparison":
            self.devices[event["device"]].comparisons.append(Comparison(**event["comparison"]))
        elif kind == "pace":
            self._add_pace(event["device"], Pace(**event["pace"]))
        elif kind == "broken":
            self.broken.append(event["what"])
        elif kind == "remark":
            self.remarks.append(event["what"])
        elif kind == "lost":
            self.broken.append(f"{event['why']}; it was at: {event['doing']}")
        elif kind == "no device":
            self.no_device = event["error"]

    def _add_product(self, device: str, check: ProductCheck) -> None:
        self.devices[device].products.append(check)
        if check.fault:
            self.broken.append(f"{check.product} in {check.dtype} on {device}: {check.fault}")
        elif check.rounds:
            self.remarks.append(f"{check.rounding} on {device}")

    def _add_pace(self, device: str, pace: Pace) -> None:
        self.devices[device].pace = pace
        if pace.is_slow:
            self.remarks.append(f"slow on {device}: {pace}")

    @property
    def differing(self) -> list[tuple[str, Comparison]]:
        """What does not agree, with the names of the devices."""
        return [
            (device.name, each)
            for device in self.devices.values()
            for each in device.comparisons
            if not each.agrees
        ]

    @property
    def verdict(self) -> Verdict:
        """What it all comes to."""
        if self.missing:
            return "not installed"
        if self.no_device:
            return "no such device"
        if self.broken or self.unusable:
            return "broken"
        if self.differing:
            return "differs"
        return "agrees" if any(device.comparisons for device in self.devices.values()) else "nothing compared"

    @property
    def line(self) -> str:
        """One line for a bug report.

        Example:
            >>> BackendReport("numpy", None, {"d2lrnn": "1.0", "python": "3.11.7"}, {"numpy": "2.1.0"}).line
            'd2lrnn 1.0 | numpy | numpy 2.1.0 | Python 3.11.7 | nothing compared'
        """
        here = self.environment
        parts = [f"d2lrnn {here.get('d2lrnn', '?')}", self.name, _versions(self.versions)]
        parts += [f"Python {here['python']}"] if "python" in here else []
        if "numpy" in here and "numpy" not in self.versions:
            parts.append(f"numpy {here['numpy']}")
        if "system" in here:
            parts += [here["system"], f"{here['processor']}, {here['processors']} processors"]
        parts += [_device_line(device) for device in self.devices.values()]
        parts += [self.unusable or "", *self.broken]
        if self.differing:
            device, worst = max(self.differing, key=lambda each: each[1].worst / each[1].bound)
            parts.append(f"{worst} ({device})")
        return " | ".join([part for part in parts if part] + [self.verdict])

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data; a difference that is no number is null."""
        return {
            "name": self.name,
            "python": self.python,
            "verdict": self.verdict,
            "environment": self.environment,
            "versions": self.versions,
            "reference": self.reference,
            "missing": self.missing,
            "unusable": self.unusable,
            "broken": self.broken,
            "remarks": self.remarks,
            "devices": [_device_json(device) for device in self.devices.values()],
            "line": self.line,
        }


def gathered(name: str, python: str | None, events: Iterable[Mapping[str, Any]]) -> BackendReport:
    """The report of what a process told."""
    report = BackendReport(name, python)
    for event in events:
        report.add(event)
    return report


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def _device_line(device: DeviceReport) -> str:
    """``cpu (…): float32 outputs 1.2e-07 of 1e-06, …; float64 …; products right``."""
    told = []
    for dtype in device.dtypes:
        worst = [(part, device.worst(dtype, part)) for part in PARTS]
        numbers = [f"{part} {each.worst:.1e} of {each.bound:.0e}" for part, each in worst if each is not None]
        told.append(f"{dtype} {', '.join(numbers)}")
    if device.products:
        told.append("products " + ("wrong" if any(each.fault for each in device.products) else "right"))
    return f"{device.name} ({device.description}): {'; '.join(told) or 'nothing'}"


def _device_json(device: DeviceReport) -> dict[str, Any]:
    return {
        "name": device.name,
        "description": device.description,
        "products": [asdict(each) for each in device.products],
        "comparisons": [
            {**asdict(each), "worst": each.worst if np.isfinite(each.worst) else None, "bound": each.bound}
            for each in device.comparisons
        ],
        "pace": None if device.pace is None else asdict(device.pace),
    }
