"""What the commands that move layers print of them, and write as JSON."""

from __future__ import annotations

from typing import Any

from d2lrnn.ports.description import Direction, StackSpec
from d2lrnn.ports.ported import Ported
from d2lrnn.ports.proof import Report

#: Where it is not forward.
_DIRECTIONS: dict[tuple[Direction, ...], str] = {
    ("forward",): "",
    ("backward",): " backward",
    ("forward", "backward"): " in both directions",
}


def print_proof(ported: Ported) -> None:
    """A line for each comparison, and one for each note."""
    for report in ported.reports:
        print(f"proved   {report}")
    for note in ported.notes:
        print(f"note     {note}")


def proof_to_json(ported: Ported) -> dict[str, Any]:
    """The same as plain data, with the description."""
    return {
        "source": ported.source,
        "stack": ported.spec.to_json(),
        "reports": [_to_json(report) for report in ported.reports],
        "notes": list(ported.notes),
    }


def described_stack(spec: StackSpec) -> str:
    """``2 layers: gru tanh 4, gru tanh 4 backward``: cells, activations, hidden units and directions."""
    number = len(spec.layers)
    layers = ", ".join(
        f"{each.cell} {each.activation} {each.hidden_size}{_DIRECTIONS[each.directions]}"
        for each in spec.layers
    )
    return f"{number} {spec.form}{'s' if number > 1 else ''}: {layers}"


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
