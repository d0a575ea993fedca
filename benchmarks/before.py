"""Speed regressions: training steps and generation of an earlier checkout and of this one, in turn.

    nox -s before -- CHECKOUT       # all of it, in the environments of the parity sessions
    python benchmarks/before.py CHECKOUT --env torch=python --env numpy=python --settings C --models gru-2

For every backend, setting and model there are two processes, one with the library of CHECKOUT and one with
that of this checkout. Each is first compared with the reference. Then they take turns of a fraction of a
second, so that a machine that is slow for a while slows down both. After a third of the turns both start
anew, as where its memory lies makes a process some percent faster or slower for all its life. The figure is
the median over the turns of the ratio before / now; above 1 this checkout is faster. ``--env NAME=PYTHON``
says which interpreter has a backend's framework. Results go to ``benchmarks/results/before.json`` after
every cell, where other cells that were measured against the same commit are kept, and to ``before.md`` at
the end. About half a minute a cell; nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.benchmark.markdown import grid, milliseconds
from d2lrnn.benchmark.settings import batches, combinations, find_model, find_setting, spec_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

#: Turns of each side in a cell (`--turns`), the least seconds of one, and the pause before the next one, as
#: the threads of some libraries spin for a while after their work.
TURNS, SECONDS, REST = 15, 0.15, 0.1

#: How often the two processes of a cell start.
STARTS = 3

#: What is timed: a step; generation, where the model is small; the products alone, as the unit of a step.
STEP, WRITE, FLOOR = "step", "write", "floor"

#: Not imported from the driver: an earlier checkout, with which this file runs too, may lack the name.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Side:
    """A process with a model of one checkout, which runs it on request."""

    def __init__(self, checkout: Path, python: str, words: Sequence[str], errors: Path) -> None:
        self._errors = errors
        with errors.open("w") as file:
            self._process = subprocess.Popen(
                [python, __file__, "side", str(checkout), *words],
                env=_environment(checkout),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self) -> Any:
        """The next line that it prints.

        Raises:
            RuntimeError: it ended instead, or printed an error.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(["the process ended", *self._errors.read_text().splitlines()][-1])
        answer = json.loads(line)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def seconds(self, what: str) -> float:
        """The time of one step, one character, or the products of one step in a turn; the first warms up."""
        if what not in self._counts:
            self._timed(what, 3)
            self._counts[what] = max(1, round(SECONDS / self._timed(what, 3)))
        return self._timed(what, self._counts[what])

    def _timed(self, what: str, number: int) -> float:
        assert self._process.stdin is not None
        print(what, number, file=self._process.stdin, flush=True)
        return float(self.answer())


def compare(
    cell: Sequence[str], python: str, checkouts: Sequence[Path], turns: int = TURNS
) -> dict[str, Any]:
    """Both sides in one cell ``(backend, setting, model)``.

    Returns:
        By what is timed, the seconds of every turn, of both sides; or ``"reason"`` where a side failed.
    """
    row: dict[str, Any] = dict(zip(("backend", "setting", "model"), cell, strict=True))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        words = [*cell, str(folder / "reference.npz")]
        command = [sys.executable, "-m", "d2lrnn.benchmark.reference", *words[1:]]
        subprocess.run(command, check=True, env=_environment(HERE.parent))
        timed: dict[str, list[list[float]]] = {}
        try:
            for start in range(STARTS):
                share = turns // STARTS + (start < turns % STARTS)
                for name, seconds in _turns(checkouts, python, words, folder, share).items():
                    of_sides = timed.setdefault(name, [[], []])
                    for number in (0, 1):
                        of_sides[number] += seconds[number][1:]
        except RuntimeError as error:
            return {**row, "reason": str(error)}
    return row | timed


def _turns(
    checkouts: Sequence[Path], python: str, words: Sequence[str], folder: Path, turns: int
) -> dict[str, list[list[float]]]:
    """The seconds of two new processes in turn, by what is timed; the first turn is for warm-up."""
    with ExitStack() as stack:
        sides = [
            stack.enter_context(Side(checkout, python, words, folder / f"{number}.txt"))
            for number, checkout in enumerate(checkouts)
        ]
        ready = [side.answer() for side in sides]
        # The products alone do not depend on the checkout: one side times them.
        timed: dict[str, list[list[float]]] = {
            name: [[], []] for name in ready[1] if name == FLOOR or name in ready[0]
        }
        for turn in range(turns + 1):
            for name, seconds in timed.items():
                numbers = (1,) if name == FLOOR else (0, 1)
                for number in numbers if turn % 2 else reversed(numbers):
                    seconds[number].append(sides[number].seconds(name))
                    time.sleep(REST)
    return timed


def _cell(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["backend"], row["setting"], row["model"]


def _environment(checkout: Path) -> dict[str, str]:
    """An environment in which a process imports the library of a checkout."""
    return {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{checkout / 'backends'}"}


def table(document: dict[str, Any]) -> str:
    """The ratios as Markdown."""
    lines = []
    for row in sorted(document["rows"], key=lambda row: (row["setting"], row["model"])):
        cell = _cell(row)
        if "reason" in row:
            lines.append([*cell, f"✗ {row['reason']}", "", "", "", "", ""])
            continue
        before, now = (statistics.median(of_side) for of_side in row[STEP])
        floor = f"×{_middle(row[STEP][1], row[FLOOR][1]):.2f}" if FLOOR in row else ""
        writing = _ratio(*row[WRITE]) if WRITE in row else ""
        turns = str(len(row[STEP][0]))
        steps = milliseconds(before), milliseconds(now), floor, _ratio(*row[STEP])
        lines.append([*cell, turns, *steps, writing])
    header = ["backend", "setting", "model", "turns", "before, ms", "now, ms", "× the products",
              "before / now", "a character, before / now"]  # fmt: skip
    about = (
        f"Training steps, and writing with 32 hidden units, of the commit {document['before']} and of this "
        "version, each in turns; the median ratio of the turns with its quartiles. "
        f"{document['threads']} threads. The command: `nox -s before -- CHECKOUT`."
    )
    return f"# Before and now\n\n{about}\n\n{grid(header, lines)}\n"


def _middle(seconds: Sequence[float], others: Sequence[float]) -> float:
    return float(np.median(np.array(seconds) / np.array(others)))


def _ratio(before: Sequence[float], now: Sequence[float]) -> str:
    low, middle, high = np.percentile(np.array(before) / np.array(now), [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def side(checkout: str, backend: str, setting_name: str, model_name: str, reference: str) -> None:
    """The process of `Side`: prints what it can run, then runs what it reads and prints the seconds."""
    import d2lrnn
    from d2lrnn.allocator import keep_freed_memory
    from d2lrnn.benchmark.reference import check_parameters_of, fault
    from d2lrnn.benchmark.subject import load_subject

    assert Path(d2lrnn.__file__).is_relative_to(checkout), f"{d2lrnn.__file__} is not of {checkout}"
    keep_freed_memory()
    setting, model = find_setting(setting_name), find_model(model_name)
    spec, subject = spec_of(setting, model), load_subject(backend)
    learner = subject.contestant(spec, check_parameters_of(spec), setting.training, device="cpu")
    wrong, _ = fault(learner, setting_name, dict(np.load(reference)))
    if wrong:
        print(json.dumps(wrong), flush=True)
        return
    batch, state = next(batches(setting)), learner.initial_state(setting.batch_size)
    tokens, states = np.zeros(1, np.int32), [learner.initial_state(1)]

    def write() -> None:
        logits, states[0] = learner.predict_step(tokens, states[0])
        tokens[0] = logits[0].argmax()

    runs: dict[str, Callable[[], object]] = {STEP: lambda: learner.train_step(batch, state)}
    if setting.small:
        runs[WRITE] = write
    floor = subject.floor(spec, setting.batch_size, setting.num_steps, device="cpu")
    if floor is not None:
        runs[FLOOR] = floor
    print(json.dumps(list(runs)), flush=True)
    for line in sys.stdin:
        what, number = line.split()
        started = time.perf_counter()
        for _ in range(int(number)):
            runs[what]()
        learner.synchronize()
        print(json.dumps((time.perf_counter() - started) / int(number)), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, and writes the files."""
    parser = argparse.ArgumentParser(description="This version against an earlier one, in turn.")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--env", action="append", required=True, metavar="NAME=PYTHON")
    parser.add_argument("--settings", default="C,M")
    parser.add_argument("--models", default=None)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS / "before.json")
    given = parser.parse_args(argv)
    before = given.checkout.resolve()
    if not (before / "backends").is_dir():
        parser.error(f"{before} is no checkout of this project")
    commit = subprocess.run(
        ["git", "-C", before, "rev-parse", "--short", "HEAD"], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()
    cells = combinations(
        [find_setting(name) for name in given.settings.split(",")],
        [find_model(name) for name in given.models.split(",")] if given.models else None,
    )
    pythons = dict(pair.split("=", 1) for pair in given.env)
    # Every child process inherits it.
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(given.threads))
    document: dict[str, Any] = {"before": commit, "threads": given.threads, "rows": []}
    if given.out.exists():
        kept = json.loads(given.out.read_text())
        if {**kept, "rows": []} == document:
            document = kept
    for setting, model in cells:
        for backend, python in pythons.items():
            cell = (backend, setting.name, model.name)
            row = compare(cell, python, (before, HERE.parent), given.turns)
            document["rows"] = [kept for kept in document["rows"] if _cell(kept) != cell] + [row]
            print(*cell, row.get("reason") or _ratio(*row[STEP]), file=sys.stderr, flush=True)
            given.out.write_text(json.dumps(document) + "\n")
    given.out.with_suffix(".md").write_text(table(document))


if __name__ == "__main__":
    side(*sys.argv[2:]) if sys.argv[1:2] == ["side"] else main()
