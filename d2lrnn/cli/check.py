"""``d2lrnn check``: layers of another framework, built here and compared with what they computed there."""

from __future__ import annotations

from typing import Any

from d2lrnn.cli.commands.check import CheckRequest
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.ports.description import StackSpec
from d2lrnn.ports.ported import load_port
from d2lrnn.ports.proof import Report


def check(request: CheckRequest) -> int:
    """Prints what was compared; returns the exit code."""
    check_writable("--json", request.json)
    ported = load_port(request.file)
    print(f"file     {request.file}: {_described(ported.spec)}, from {ported.source}")
    built = ported.build(request.backend)
    for report in built.reports:
        print(f"proved   {report}")
    for note in built.notes:
        print(f"note     {note}")
    write_json(request.json, {
        "file": request.file,
        "source": built.source,
        "stack": built.spec.to_json(),
        "reports": [_to_json(report) for report in built.reports],
        "notes": list(built.notes),
    })  # fmt: skip
    return 0


def _described(spec: StackSpec) -> str:
    """``2 layers, gru tanh 4, gru tanh 4``: cells, activations and hidden units."""
    number = len(spec.layers)
    layers = ", ".join(f"{each.cell} {each.activation} {each.hidden_size}" for each in spec.layers)
    return f"{number} {spec.form}{'s' if number > 1 else ''}, {layers}"


def _to_json(report: Report) -> dict[str, Any]:
    worst, twin = report.worst, report.worst_twin
    return {
        "side": report.side,
        "against": report.against,
        "arrays": len(report.comparisons),
        "worst": worst.worst,
        "worst_array": worst.array,
        "worst_case": worst.case,
        "bound": report.bound,
        "worst_of_twins": None if twin is None else twin.worst,
        "by_twin_alone": report.by_twin_alone,
        "rounding": report.rounding,
    }
