"""Was a change paid for in speed? Training steps and writing of an earlier checkout and of this one, in turn.

    python benchmarks/before.py CHECKOUT --env torch=python --env numpy=python --settings C --models gru-2

For every backend, setting and model two processes stand ready, one with the library of CHECKOUT and one with
that of this checkout, and each was compared with the reference first. Then they take turns of a fraction of a
second: a machine that is slower for a while is so for both. The figure is the median over the turns of the
ratio before / now; above 1 this checkout is faster. ``--env NAME=PYTHON`` says which interpreter has a
backend's framework; it needs Python 3.11. Results go to ``benchmarks/results/before.json`` after every cell,
and to ``before.md`` at the end. About 15 seconds a cell; nothing else should run on the machine.
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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.benchmark.markdown import grid, milliseconds
from d2lrnn.benchmark.settings import batches, combinations, find_model, find_setting, spec_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

#: Turns of each side in a cell, how long one lasts at least, and how long both rest before the next one: the
#: threads of some libraries wait busily for so long after their work.
TURNS, SECONDS, REST = 15, 0.15, 0.1

#: What is timed. Writing is, where a model is small; the products alone, so that a step is their multiple.
STEP, WRITE, FLOOR = "step", "write", "floor"


class Side:
    """A process that holds a model of one checkout, and runs it when it is told to."""

    def __init__(self, checkout: Path, python: str, words: Sequence[str], threads: int) -> None:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        # Else Python would look beside this file first, or into the working directory.
        path = {"PYTHONPATH": f"{checkout}{os.pathsep}{checkout / 'backends'}", "PYTHONSAFEPATH": "1"}
        self._process = subprocess.Popen(
            [python, __file__, "side", str(checkout), *words],
            env={**os.environ, **counts, **path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
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
            RuntimeError: it ended instead, or printed what is wrong.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else "the process ended"
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def seconds(self, what: str) -> float:
        """What one step, one character, or the products of one step take in a turn; the first is warm-up."""
        if what not in self._counts:
            self._timed(what, 3)
            self._counts[what] = max(1, round(SECONDS / self._timed(what, 3)))
        return self._timed(what, self._counts[what])

    def _timed(self, what: str, number: int) -> float:
        assert self._process.stdin is not None
        print(what, number, file=self._process.stdin, flush=True)
        return float(self.answer())


def compare(cell: Sequence[str], python: str, checkouts: Sequence[Path], threads: int) -> dict[str, Any]:
    """Both sides in one cell ``(backend, setting, model)``.

    Returns:
        By what is timed, the seconds of every turn, of both sides; or ``"reason"`` where a side failed.
    """
    row: dict[str, Any] = dict(zip(("backend", "setting", "model"), cell, strict=True))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        reference = str(Path(folder, "reference.npz"))
        words = ["-m", "d2lrnn.benchmark.reference", *cell[1:], reference]
        path = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE.parent / 'backends'}"}
        subprocess.run([sys.executable, *words], check=True, env=path)
        sides = [
            stack.enter_context(Side(checkout, python, [*cell, reference], threads)) for checkout in checkouts
        ]
        try:
            ready = [side.answer() for side in sides]
            timed = {name: [[], []] for name in (STEP, WRITE) if all(name in names for names in ready)}
            for name, seconds in timed.items():
                for turn in range(TURNS + 1):
                    for number in (0, 1) if turn % 2 else (1, 0):
                        seconds[number].append(sides[number].seconds(name))
                        time.sleep(REST)
                seconds[:] = [of_side[1:] for of_side in seconds]
            floor = [sides[1].seconds(FLOOR) for _ in range(TURNS)] if FLOOR in ready[1] else []
        except RuntimeError as error:
            return {**row, "reason": str(error)}
    return {**row, **timed, FLOOR: floor}


def table(document: dict[str, Any]) -> str:
    """The ratios as Markdown."""
    lines = []
    for row in document["rows"]:
        cell = [row["backend"], row["setting"], row["model"]]
        if "reason" in row:
            lines.append([*cell, f"✗ {row['reason']}", "", "", "", ""])
            continue
        before, now = (statistics.median(of_side) for of_side in row[STEP])
        floor = f"×{now / statistics.median(row[FLOOR]):.2f}" if row[FLOOR] else ""
        writing = _ratio(*row[WRITE]) if WRITE in row else ""
        lines.append([*cell, milliseconds(before), milliseconds(now), floor, _ratio(*row[STEP]), writing])
    header = ["backend", "setting", "model", "before, ms", "now, ms", "× the products", "before / now",
              "a character, before / now"]  # fmt: skip
    about = (
        f"Training steps, and writing with 32 hidden units, of the commit {document['before']} and of this "
        f"version, in {TURNS} turns of each; the median ratio of the turns with its quartiles. "
        f"{document['threads']} threads. The command: `python benchmarks/before.py CHECKOUT`, with an "
        "interpreter for every backend."
    )
    return f"# Before and now\n\n{about}\n\n{grid(header, lines)}\n"


def _ratio(before: Sequence[float], now: Sequence[float]) -> str:
    low, middle, high = np.percentile(np.array(before) / np.array(now), [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def side(checkout: str, backend: str, setting_name: str, model_name: str, reference: str) -> None:
    """The process of `Side`: says what it can run, then runs it and says how long it took."""
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


def main() -> None:
    """Measures, and writes the files."""
    parser = argparse.ArgumentParser(description="This version against an earlier one, in turn.")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--env", action="append", required=True, metavar="NAME=PYTHON")
    parser.add_argument("--settings", default="C,M")
    parser.add_argument(
        "--models", default="rnn-scratch,stacked-scratch,gru-scratch,lstm-scratch,rnn,gru-2,lstm-2"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS / "before.json")
    given = parser.parse_args()
    before = given.checkout.resolve()
    commit = subprocess.run(
        ["git", "-C", before, "rev-parse", "--short", "HEAD"], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()
    cells = combinations(
        [find_setting(name) for name in given.settings.split(",")],
        [find_model(name) for name in given.models.split(",")],
    )
    pythons = dict(pair.split("=", 1) for pair in given.env)
    document = {"before": commit, "threads": given.threads, "rows": []}
    for setting, model in cells:
        for backend, python in pythons.items():
            cell = (backend, setting.name, model.name)
            row = compare(cell, python, (before, HERE.parent), given.threads)
            document["rows"].append(row)
            print(*cell, row.get("reason") or _ratio(*row[STEP]), file=sys.stderr, flush=True)
            given.out.write_text(json.dumps(document) + "\n")
    given.out.with_suffix(".md").write_text(table(document))


if __name__ == "__main__":
    side(*sys.argv[2:]) if sys.argv[1:2] == ["side"] else main()
