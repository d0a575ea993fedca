"""The rows of a document, gathered: what every table and figure of the report is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2lrnn.benchmark.settings import MODELS, OWN_LAYERS, find_model, find_setting, own_layer
from d2lrnn.benchmark.statistics import (
    Interval,
    Rounds,
    Summary,
    geometric_mean,
    median_interval,
    paired_ratio,
    summary,
)
from d2lrnn.registry import backends

#: What peers are called in a comparison.
KINDS = {"layers": "its own layers", "book": "the book's package"}


@dataclass(frozen=True)
class Entry:
    """One subject in one cell, over all rounds.

    Attributes:
        name: the subject.
        kind: see `d2lrnn.benchmark.driver.Entrant`.
        framework: likewise.
        setting: the setting's name.
        model: the model's name.
        rows: the rounds that were measured, in order.
    """

    name: str
    kind: str
    framework: str
    setting: str
    model: str
    rows: tuple[Mapping[str, Any], ...]

    @property
    def reason(self) -> str | None:
        """Why there is no time, or not one for every round; None where nothing failed."""
        return next((row["reason"] for row in self.rows if row["status"] != "ok"), None)

    @property
    def ok(self) -> bool:
        """Whether a round was measured, and none was found wrong."""
        states = {row["status"] for row in self.rows}
        return "ok" in states and "wrong" not in states

    def rounds(self, what: str) -> Rounds:
        """The samples of ``"steps"``, ``"forward"`` or ``"floor"``, by round.

        Of ``"generation"`` a round has one: the seconds of a character.
        """
        good = [row for row in self.rows if self.ok and row["status"] == "ok"]
        found = {row["round"]: _samples(row, what) for row in good}
        return [found.get(number) for number in range(1, max(found, default=0) + 1)]

    def summary(self, what: str) -> Summary | None:
        """Median and quartiles over all rounds."""
        samples = [sample for one in self.rounds(what) if one for sample in one]
        return summary(samples) if samples else None

    def interval(self, what: str) -> Interval | None:
        """The median with its bootstrap interval."""
        rounds = self.rounds(what)
        return median_interval(rounds) if any(rounds) else None

    def against_floor(self) -> Interval | None:
        """A training step as a multiple of the products alone."""
        return paired_ratio(self.rounds("steps"), self.rounds("floor"))

    def values(self, *path: str) -> list[float]:
        """A number of every good round: ``values("generation", "characters_per_second")``."""
        found = []
        for row in self.rows if self.ok else ():
            value: Any = row
            for name in path:
                value = value.get(name) if isinstance(value, Mapping) else None
            if row["status"] == "ok" and value is not None:
                found.append(float(value))
        return found

    def median(self, *path: str) -> float | None:
        """The middle of `values`."""
        values = self.values(*path)
        return summary(values).median if values else None


def _samples(row: Mapping[str, Any], what: str) -> Sequence[float] | None:
    samples: Any = row.get(what)
    return [1 / samples["characters_per_second"]] if what == "generation" and samples else samples


@dataclass(frozen=True)
class Table:
    """A document's entries in one order: setting, model, backend, and its peers behind it.

    Attributes:
        document: what `d2lrnn.benchmark.driver.run` returned.
        entries: by subject, setting and model.
    """

    document: Mapping[str, Any]
    entries: Mapping[tuple[str, str, str], Entry]

    @property
    def backends(self) -> list[str]:
        """The backends' names."""
        return _unique(entry.name for entry in self.entries.values() if entry.kind == "backend")

    @property
    def frameworks(self) -> list[str]:
        """The frameworks' names: peers have that of their backend."""
        return _unique(entry.framework for entry in self.entries.values())

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Setting and model of every cell that backends ran."""
        return _unique((e.setting, e.model) for e in self.entries.values() if e.kind == "backend")

    @property
    def failures(self) -> list[Entry]:
        """Every entry of which a round failed."""
        return [entry for entry in self.entries.values() if entry.reason]

    def of_cell(self, setting: str, model: str) -> list[Entry]:
        """The backends' entries of a cell."""
        return [
            e for e in self.entries.values() if (e.setting, e.model, e.kind) == (setting, model, "backend")
        ]

    def peer(self, entry: Entry, kind: str) -> Entry | None:
        """What a backend's entry is compared with: the framework's own layers, or the book's package."""
        model = entry.model
        if kind == "layers":
            model = own_layer(find_setting(entry.setting), find_model(entry.model)).name
        wanted = (kind, entry.framework, entry.setting, model)
        return next(
            (e for e in self.entries.values() if (e.kind, e.framework, e.setting, e.model) == wanted), None
        )

    def speed_up(self, entry: Entry, kind: str, what: str = "steps") -> Interval | None:
        """How many times as fast as a peer a training step is, or what else `Entry.rounds` has."""
        peer = self.peer(entry, kind)
        return paired_ratio(peer.rounds(what), entry.rounds(what)) if peer else None

    def mean_speed_up(self, frameworks: Sequence[str], kind: str, *what: str) -> tuple[float, int] | None:
        """The geometric mean over all cells of some frameworks, and how many they are."""
        ratios = [
            ratio.value
            for entry in self.entries.values()
            if entry.kind == "backend" and entry.framework in frameworks
            for one in what
            if (ratio := self.speed_up(entry, kind, one))
        ]
        return (geometric_mean(ratios), len(ratios)) if ratios else None

    def loss_spread(self, setting: str, model: str) -> tuple[float, int] | None:
        """How far the backends' losses are apart, relative, and over how many of the first steps."""
        curves = [curve for entry in self.of_cell(setting, model) if (curve := losses_of(entry))]
        if len(curves) < 2:
            return None
        length = min(map(len, curves))
        return max(max(at) / min(at) - 1 for at in zip(*curves, strict=False)), length


def losses_of(entry: Entry) -> list[float]:
    """The losses of the first round, up to one that is no number."""
    if not entry.ok:
        return []
    first: list[Any] = next((row.get("losses", []) for row in entry.rows if row["status"] == "ok"), [])
    return list(first[: first.index(None)] if None in first else first)


def gather(document: Mapping[str, Any]) -> Table:
    """A document's rows by subject, setting and model, in the order that `Table` names.

    Models come in the order of the benchmark, each own layer behind the smaller one; backends in that of the
    registry. A document of many runs has its rows in any order.
    """
    rows: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(document["rows"], key=lambda row: row["round"]):
        rows.setdefault((row["name"], row["setting"], row["model"]), []).append(row)
    entries = [
        Entry(own[0]["name"], own[0]["kind"], own[0]["framework"], *key[1:], tuple(own))
        for key, own in rows.items()
    ]
    settings, kinds = list(document["schedule"]["settings"]), ["backend", *KINDS]
    frameworks = framework_order(entry.framework for entry in entries)

    def place(entry: Entry) -> tuple[int, ...]:
        return (
            _place(entry.setting, settings),
            _place(entry.model, _MODEL_ORDER),
            frameworks.index(entry.framework),
            _place(entry.kind, kinds),
        )

    ordered = sorted(entries, key=place)
    return Table(document, {(entry.name, entry.setting, entry.model): entry for entry in ordered})


#: What is written by hand before what is made of layers; of layers, those of one cell together.
_MODEL_ORDER = list(
    dict.fromkeys([
        *(model.name for model in MODELS.values() if model.implementation == "scratch"),
        *OWN_LAYERS,
        *MODELS,
    ])
)  # fmt: skip


def framework_order(present: Iterable[str] = ()) -> list[str]:
    """All backends' names in the order of the registry; behind them those `present` that it does not have."""
    return _unique([*(entry.name for entry in backends()), *present])


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name) if name in names else len(names)


def versions_of(table: Table) -> dict[str, str]:
    """What every subject computed with: ``torch: torch 2.13.0, numpy 2.4.6``."""
    found: dict[str, str] = {}
    for entry in table.entries.values():
        for row in entry.rows:
            if "versions" in row:
                found.setdefault(entry.name, ", ".join(f"{p} {v}" for p, v in row["versions"].items()))
    return found


def load_range(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """The lowest and the highest load average around the workers."""
    loads = [load for row in rows for load in row.get("load", []) if load is not None]
    return (min(loads), max(loads)) if loads else None


def paces(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """How many times its least time the fixed work of `d2lrnn.benchmark.pace` took, before every worker."""
    found = [row["pace"] for row in rows if row.get("pace") is not None]
    least = min(found, default=0.0)
    return [pace / least for pace in found]


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
