"""What a doctor says: whether two sides agree, and what makes them agree where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2lrnn.ports.proof import Comparison, worst_of


@dataclass(frozen=True)
class Cause:
    """One difference between two sides.

    Attributes:
        kind: a short name of the difference: ``"gate order"``.
        sentence: what it is, and where.
        parameters: the canonical names of the parameters that it is about; none, of how they are used.
    """

    kind: str
    sentence: str
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Explanation:
    """Two sides, whether they agree, and where they do not, why.

    Attributes:
        causes: the fewest differences that together make the two agree, no more than are known; none where
            they agree, or nothing that is known makes them agree.
        before: every array of the two sides as they were given.
        after: the same with the causes applied; none without causes.
        bound: the largest difference at which they agree.
        equally: other causes that make them agree as well as these do.
        notes: what a person should know of the two beside that.

    Example:
        >>> same = Explanation((), (Comparison("zero state", "outputs", 2e-8),), (), 1e-6)
        >>> print(same)
        a and b agree: the worst difference is 2.0e-08 (outputs, zero state), bound 1e-06.
    """

    causes: tuple[Cause, ...]
    before: tuple[Comparison, ...]
    after: tuple[Comparison, ...]
    bound: float
    equally: tuple[tuple[Cause, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def agreed(self) -> bool:
        """Whether the two agreed from the start."""
        return not self.causes and worst_of(self.before).worst <= self.bound

    @property
    def explained(self) -> bool:
        """Whether they differ, and it is known why."""
        return bool(self.causes)

    @property
    def worst_before(self) -> Comparison:
        """The largest difference between the two as they were given."""
        return worst_of(self.before)

    @property
    def worst_after(self) -> Comparison | None:
        """The largest that is left with the causes applied."""
        return worst_of(self.after) if self.after else None

    def __str__(self) -> str:
        before, after = _told(self.worst_before), self.worst_after
        lines = []
        if self.agreed:
            lines.append(f"a and b agree: the worst difference is {before}, bound {self.bound:.0e}.")
        elif after is None:
            lines.append(
                f"a and b differ: the worst difference is {before}, bound {self.bound:.0e}. No difference of "
                "convention that is known here makes them agree, alone or with another."
            )
        else:
            lines.append(f"a and b differ: the worst difference is {before}.")
            lines += [f"{_capital(cause.sentence)}." for cause in self.causes]
            both = "that" if len(self.causes) == 1 else "all that"
            lines.append(f"But for {both} they agree: the worst difference is {_told(after)}.")
        for others in self.equally:
            lines.append(f"As well it could be: {'; and '.join(map(str, others))}.")
        lines += [f"Note: {note}." for note in self.notes]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain data; a difference that is no finite number is None."""
        return {
            "agreed": self.agreed,
            "explained": self.explained,
            "causes": [_cause_to_json(cause) for cause in self.causes],
            "equally": [[_cause_to_json(cause) for cause in causes] for causes in self.equally],
            "bound": self.bound,
            "before": [_comparison_to_json(each) for each in self.before],
            "after": [_comparison_to_json(each) for each in self.after],
            "worst_before": _comparison_to_json(self.worst_before),
            "worst_after": None if self.worst_after is None else _comparison_to_json(self.worst_after),
            "notes": list(self.notes),
        }


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them.

    Example:
        >>> listed(["w_x", "w_h", "b"])
        'w_x, w_h and b'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _told(worst: Comparison) -> str:
    return f"{worst.worst:.1e} ({worst.array}, {worst.case})"


def _capital(sentence: str) -> str:
    # A name of one letter is not written large: a side, a gate.
    return sentence if not sentence[1:2].isalpha() else sentence[:1].upper() + sentence[1:]


def _cause_to_json(cause: Cause) -> dict[str, Any]:
    return {"kind": cause.kind, "sentence": cause.sentence, "parameters": list(cause.parameters)}


def _comparison_to_json(each: Comparison) -> dict[str, Any]:
    worst = each.worst if np.isfinite(each.worst) else None
    return {"case": each.case, "array": each.array, "worst": worst}
