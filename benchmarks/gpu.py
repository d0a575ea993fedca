"""Everything that a GPU is asked, in one command of ten minutes at most: tests, parity, benchmark.

    python benchmarks/gpu.py                                   # every backend that is installed here
    python benchmarks/gpu.py --env torch=PYTHON --env jax=PYTHON
    nox -s gpu                                                 # the environments of the parity sessions

It needs no package index: frameworks, pytest and hypothesis are those of the environments. For each backend
come first the tests marked ``gpu`` and the parity tests on the device, in float32 (without TF32) and float64;
then the benchmark of the device, one round of short turns, with each framework's own layers beside it. What
the time does not suffice for is left out, and said. Results: ``results/gpu-NAME.md`` and ``.json``, NAME that
of the hardware. ``--device cpu`` tries the command where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from run import CHECKOUT, RESULTS, entrants
from run import HERE as BENCHMARKS

from d2lrnn.atomic_files import write_atomically
from d2lrnn.benchmark.driver import Entrant, Schedule, new_document, processor, run
from d2lrnn.benchmark.markdown import grid, machine, tables, versions
from d2lrnn.benchmark.settings import find_model, find_setting
from d2lrnn.benchmark.table import gather
from d2lrnn.cli.bench import report_worker
from d2lrnn.cli.commands.bench import BenchRequest
from d2lrnn.errors import WRONG_INPUT, D2LError

#: What is tested, by what the table calls it.
_PARITY = ("gradients", "words", "training", "optimizers", "prediction")
TESTS = {
    "tests marked gpu": ["tests/parity", "tests/backends", "-m", "gpu"],
    "parity on the device": [f"tests/parity/test_{name}.py" for name in _PARITY],
}

#: What is timed, what is asked first before the rest, as the time may not suffice for all.
CELLS = (
    ("M", ("gru-scratch", "lstm-2")),
    ("C", ("lstm-scratch", "lstm-2")),
    ("W", ("lstm-2",)),
    ("L", ("lstm-2",)),
)

#: The part of the time that tests get, the seconds below which no further cell is begun, and those that a
#: worker may take.
_OF_TESTS, _LEAST, _OF_WORKER = 0.4, 45.0, 90.0

#: TensorFlow multiplies float32 in TF32 unless it is told not to; the others are told by their backends.
_EXACT = {"tensorflow": {"NVIDIA_TF32_OVERRIDE": "0"}}

#: What pytest says at its end: ``3 passed, 1 skipped in 2.10s``.
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|error)")


class Tested(NamedTuple):
    """What came of some tests of a backend; `reason` is the first failure, or why there are no counts."""

    backend: str
    what: str
    counts: Mapping[str, int]
    seconds: float
    reason: str


def main(argv: Sequence[str] | None = None) -> int:
    """Asks everything, and writes the files; the exit code is 1 where a test or a cell failed."""
    given = _parser().parse_args(argv)
    hardware = processor() if given.device == "cpu" else _gpu()
    if hardware is None:
        print("benchmarks/gpu.py: nvidia-smi finds no GPU: --device cpu tries the command", file=sys.stderr)
        return WRONG_INPUT
    try:
        asked = BenchRequest(backends=given.backends, device=given.device)
        found = entrants(asked, given.env, None, peers=True)
    except D2LError as error:
        print(f"benchmarks/gpu.py: {error}", file=sys.stderr)
        return WRONG_INPUT
    chosen = [_exact(each) for each in found if each.framework != "numpy"]
    begun, seconds = time.monotonic(), 60 * given.minutes
    tested = [
        result
        for each in chosen
        if each.kind == "backend"
        for result in _tests(each, given.device, begun + _OF_TESTS * seconds)
    ]
    document, left_out = _benchmark(chosen, given.device, begun + seconds)
    document |= {"hardware": hardware, "tests": [result._asdict() for result in tested], "left_out": left_out}
    path = RESULTS / f"gpu-{re.sub('[^a-z0-9]+', '-', hardware.lower()).strip('-')}"
    write_atomically(path.with_suffix(".json"), (json.dumps(document) + "\n").encode())
    write_atomically(path.with_suffix(".md"), page(document).encode())
    print(path.with_suffix(".md"))
    wrong = any(result.reason for result in tested) or any(
        row["status"] == "failed" for row in document["rows"]
    )
    return 1 if wrong else 0


def page(document: Mapping[str, Any]) -> str:
    """The report."""
    table = gather(document)
    outcomes = ("passed", "failed", "skipped")
    tests = []
    for each in document["tests"]:
        counts = (str(each["counts"].get(outcome, 0)) for outcome in outcomes)
        tests.append(
            [each["backend"], each["what"], *counts, f"{each['seconds']:.0f}", each["reason"] or "–"]
        )
    left_out = ", ".join(document["left_out"])
    return "\n\n".join([
        f"# On {document['hardware']}",
        "`python benchmarks/gpu.py`: correctness first, then speed, within ten minutes.",
        "\n".join([*machine(table), *versions(table)]),
        "## Tests on the device",
        grid(["backend", "what", *outcomes, "seconds", "the first that failed"], tests),
        *([f"Left out, as the time did not suffice: {left_out}."] if left_out else []),
        *tables(table),
    ]) + "\n"  # fmt: skip


def _tests(entrant: Entrant, device: str, end: float) -> Iterator[Tested]:
    environment = os.environ | dict(entrant.environment)
    environment |= {"D2LRNN_BACKEND": entrant.framework, "D2LRNN_TEST_DEVICE": device, "PYTHONPATH": CHECKOUT}
    for what, words in TESTS.items():
        print(f"{entrant.name}: {what}", file=sys.stderr, flush=True)
        command = [entrant.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
        begun = time.monotonic()
        try:
            done = subprocess.run(
                command, cwd=BENCHMARKS.parent, env=environment, capture_output=True, text=True,
                timeout=max(1.0, end - begun),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            yield Tested(
                entrant.framework, what, {}, time.monotonic() - begun, "not done when the time was over"
            )
            continue
        last = (done.stdout.strip() or done.stderr.strip()).rpartition("\n")[2]
        counts = {word: int(number) for number, word in _COUNTS.findall(last)}
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        # 5: no test has this mark.
        reason = "" if done.returncode in (0, 5) else (failed or [last])[0][:200]
        yield Tested(entrant.framework, what, counts, time.monotonic() - begun, reason)


def _benchmark(chosen: Sequence[Entrant], device: str, end: float) -> tuple[dict[str, Any], list[str]]:
    """The document of `d2lrnn.benchmark.driver.run`, and the cells that there was no time for."""
    schedule = Schedule(
        settings=tuple(find_setting(name) for name, _ in CELLS),
        models=tuple(map(find_model, dict.fromkeys(name for _, names in CELLS for name in names))),
        rounds=1, seconds=1.0, min_steps=5, threads=os.cpu_count() or 1, device=device, target_seconds=5.0,
    )  # fmt: skip
    document, left_out = new_document(schedule), []
    for setting in schedule.settings:
        for model in dict(CELLS)[setting.name]:
            left = end - time.monotonic()
            if left < _LEAST:
                left_out.append(f"{setting.name} {model}")
                continue
            own = replace(
                schedule, settings=(setting,), models=(find_model(model),), timeout=min(_OF_WORKER, left)
            )
            document = run(own, chosen, document, on_worker=report_worker)
    return document, left_out


def _exact(entrant: Entrant) -> Entrant:
    return replace(entrant, environment={**entrant.environment, **_EXACT.get(entrant.framework, {})})


def _gpu() -> str | None:
    """The name of the first GPU; None where there is none."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("\n")[0] or None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Tests, parity and benchmark on a GPU, in ten minutes.")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--backends", default=None, metavar="B,...", help="default: all that are installed")
    parser.add_argument("--device", default="gpu", choices=["gpu", "cpu"], help="cpu tries the command")
    parser.add_argument("--minutes", type=float, default=10.0, help="all that it may take (default: 10)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
