"""Times other than training steps: encoding a large text, and starting the library.

    python benchmarks/text.py [--megabytes 100] [--out benchmarks/results/text.json]

Every measurement runs in a process of its own. `benchmarks/run.py` puts the tables into its report. It takes
about two minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from d2lrnn.benchmark import memory
from d2lrnn.data.batches import SlidingWindows
from d2lrnn.data.corpus import load_corpus, sample_text

RESULTS = Path(__file__).resolve().parent / "results"

#: The empty interpreter is the baseline of the other two.
STARTS = {
    "python -c pass": ["-c", "pass"],
    "import d2lrnn": ["-c", "import d2lrnn"],
    "d2lrnn --help": ["-m", "d2lrnn", "--help"],
}


def encode(path: str, unit: str) -> dict[str, Any]:
    """Reads, cleans and encodes a text, and makes windows of it, in this process."""
    base = memory.current_megabytes()
    memory.reset_peak()
    started = time.perf_counter()
    corpus = load_corpus(path, unit="char" if unit == "char" else "word", normalized=True)
    seconds = time.perf_counter() - started
    peak, before = memory.peak_megabytes(), memory.current_megabytes()
    memory.reset_peak()
    SlidingWindows(corpus, num_steps=32)
    after = memory.peak_megabytes()
    return {
        "unit": unit,
        "megabytes": Path(path).stat().st_size / 1e6,
        "tokens": len(corpus),
        "seconds": seconds,
        "base_megabytes": base,
        "peak_megabytes": peak,
        "windows_megabytes": (after or 0.0) - (before or 0.0),
    }


def measure(megabytes: float, rounds: int) -> dict[str, Any]:
    """Both units, and the three starts, in turn."""
    starts: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name, words in STARTS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
            starts[name].append(time.perf_counter() - started)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        sample = sample_text()
        for _ in range(int(megabytes * 1e6 / len(sample)) + 1):
            file.write(sample)
        file.flush()
        texts = []
        for unit in ("char", "word"):
            words = [sys.executable, __file__, "--encode", file.name, unit]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            texts.append(json.loads(done.stdout))
    return {
        "texts": texts,
        "starts": [
            {"command": name, "median": statistics.median(seconds), "seconds": seconds}
            for name, seconds in starts.items()
        ],
    }


def main() -> None:
    """Measures, and writes the file."""
    parser = argparse.ArgumentParser(description="A large text, and the start of the library.")
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", default=str(RESULTS / "text.json"))
    parser.add_argument("--encode", nargs=2, metavar=("FILE", "UNIT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.encode:
        print(json.dumps(encode(*arguments.encode)))
        return
    measured = measure(arguments.megabytes, arguments.rounds)
    Path(arguments.out).write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
