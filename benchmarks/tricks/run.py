"""Measures the tricks of one backend against their plain twins, or writes the table of all.

python benchmarks/tricks/run.py            # on the backend that D2LRNN_BACKEND names
python benchmarks/tricks/run.py gates tanh # only those whose name has one of these words
python benchmarks/tricks/run.py table
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from elsewhere import Elsewhere

import d2lrnn

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"

#: Rounds of each trick, and the pairs in one, after two for warm-up. A process that has its own (`Elsewhere`)
#: starts anew for each round: where its memory lies makes it some percent faster or slower for all its life.
ROUNDS, PAIRS = 3, 9
#: Least seconds of one side of a pair: what takes microseconds is called many times.
SECONDS = 0.02
#: How long both rest before each turn: some libraries' threads wait busily for so long after their work, and
#: would slow down those of another library.
REST = 0.05


@dataclass(frozen=True)
class Trick:
    """A trick and its plain twin, at the sizes of one setting.

    Attributes:
        name: what it is, in a few words.
        where: the module and the name of the trick.
        setting: the sizes.
        trick: runs it and returns its results, arrays or numbers.
        plain: computes the same in the plain way.
        tolerance: the largest difference of results, relative to the largest entry.
    """

    name: str
    where: str
    setting: str
    trick: Callable[[], Any]
    plain: Callable[[], Any]
    tolerance: float = 1e-5


@dataclass(frozen=True)
class Gain:
    """The result of a trick: median times in microseconds, and the ratio plain / trick."""

    name: str
    where: str
    setting: str
    trick: float
    plain: float
    ratio: float
    quartiles: tuple[float, float]


def measure(trick: Trick) -> Gain:
    """Checks that both give the same results, then times them in turn."""
    # Once: some change what they compute with, and do not run equally often.
    _check(trick)
    pairs = []
    for _ in range(ROUNDS):
        pairs += _round(trick)
        for run in (trick.trick, trick.plain):
            if isinstance(run, Elsewhere):
                run.stop()
    ratios = [plain / fast for fast, plain in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    fast, plain = (1e6 * statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return Gain(trick.name, trick.where, trick.setting, fast, plain, middle, (low, high))


def _round(trick: Trick) -> list[list[float]]:
    """The times of both sides, in turn."""
    sides = (trick.trick, trick.plain)
    counts = [_repetitions(run) for run in sides]
    pairs = []
    for number in range(PAIRS + 2):
        times = [0.0, 0.0]
        for side in (0, 1) if number % 2 else (1, 0):
            time.sleep(REST)
            times[side] = _time(sides[side], counts[side])
        pairs.append(times)
    return pairs[2:]


def _check(trick: Trick) -> None:
    fast, plain = (_arrays(run()) for run in (trick.trick, trick.plain))
    assert len(fast) == len(plain), trick.name
    for one, other in zip(fast, plain, strict=True):
        scale = max(1e-12, float(np.abs(other).max(initial=0.0)))
        np.testing.assert_allclose(one, other, rtol=0, atol=trick.tolerance * scale, err_msg=trick.name)


def _arrays(result: Any) -> list[Any]:
    """The results of a run as a flat list of NumPy arrays."""
    if isinstance(result, dict):
        return [array for key in sorted(result) for array in _arrays(result[key])]
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in _arrays(part)]
    for convert in ("detach", "numpy", "asnumpy"):
        if hasattr(result, convert):
            result = getattr(result, convert)()
    return [np.array(result, dtype=np.float64)]


def _repetitions(run: Callable[[], Any]) -> int:
    started = time.perf_counter()
    run()
    return max(1, int(SECONDS / max(1e-9, time.perf_counter() - started)))


def _time(run: Callable[[], Any], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - started) / count


def main(words: Sequence[str]) -> None:
    """Measures tricks, and writes ``results/tricks-<backend>.json``, where others stay as they were."""
    backend = d2lrnn.backend()
    sys.path.insert(0, str(HERE))
    tricks: list[Trick] = import_module(f"{backend.name}_tricks").tricks()
    gains = []
    for trick in tricks:
        if words and not any(word in trick.name for word in words):
            continue
        gain = measure(trick)
        gains.append(gain)
        low, high = gain.quartiles
        print(f"{gain.ratio:6.2f} ({low:.2f} to {high:.2f})  {gain.name}, {gain.setting}", flush=True)
    document: dict[str, Any] = {
        "backend": backend.name,
        "versions": backend.versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "gains": [],
    }
    file = RESULTS / f"tricks-{backend.name}.json"
    before = json.loads(file.read_text())["gains"] if words and file.exists() else []
    rows = {(row["name"], row["setting"]): row for row in [*before, *map(asdict, gains)]}
    # In the order of the list, without those that are gone.
    names = [(trick.name, trick.setting) for trick in tricks]
    document["gains"] = [rows[name] for name in names if name in rows]
    file.write_text(json.dumps(document, indent=1) + "\n")


def table() -> None:
    """Writes ``results/tricks.md`` from the JSON files."""
    about = "Times in microseconds; the ratio is the median of pairs, plain / trick, with its quartiles."
    lines = ["# What each trick gains", "", f"The command: `nox -s tricks`. {about}", ""]
    for path in sorted(RESULTS.glob("tricks-*.json")):
        document = json.loads(path.read_text())
        versions = ", ".join(f"{package} {version}" for package, version in document["versions"].items())
        lines += [f"## {document['backend']}", "", f"{versions}; {document['machine']}", "",
                  "| trick | where | at | trick, µs | plain, µs | plain / trick |",
                  "|---|---|---|---:|---:|---:|"]  # fmt: skip
        for gain in document["gains"]:
            low, high = gain["quartiles"]
            lines.append(
                f"| {gain['name']} | `{gain['where']}` | {gain['setting']} | {gain['trick']:.1f} | "
                f"{gain['plain']:.1f} | {gain['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
            )
        lines.append("")
    (RESULTS / "tricks.md").write_text("\n".join(lines))


if __name__ == "__main__":
    # A module that lists tricks imports `Trick` from here by this name.
    sys.modules["run"] = sys.modules["__main__"]
    table() if sys.argv[1:] == ["table"] else main(sys.argv[1:])
