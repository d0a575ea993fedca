"""How long a reader waits for the first character of a text that is shown as it is made.

    D2LRNN_BACKEND=jax python benchmarks/first_character.py   # its rows of results/first-character.md

As `d2lrnn generate --stream` and `d2lrnn chat` do it: a model that was opened writes one token, for which
frameworks compile, and then continues beginnings.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import d2lrnn
from d2lrnn.atomic_files import write_atomically
from d2lrnn.cli.opened_model import OpenedModel
from d2lrnn.contract.protocols import Learner
from d2lrnn.generation import stream

KEPT = Path(__file__).parent / "results" / "first-character.md"
PREFIX, TEXTS = "it has", 50
SPECS = {"GRU, 32 units": ("gru", 32, 1), "LSTM, two layers of 256": ("lstm", 256, 2)}

INTRODUCTION = f"""# The first character

Milliseconds from a beginning of {len(PREFIX)} characters to the first character that continues it, of {TEXTS}
texts: median and longest; and from the opened model until it can write. One thread of one core:
`OMP_NUM_THREADS=1 D2LRNN_BACKEND=… python benchmarks/first_character.py`.

| backend | model | median | longest | until it can write |
|---|---|---:|---:|---:|
"""


def rows(name: str) -> list[str]:
    """A backend's rows."""
    chosen, vocab, found = d2lrnn.backend(name), d2lrnn.load_corpus("sample").vocab, []
    for title, (cell, num_hiddens, num_layers) in SPECS.items():
        spec = d2lrnn.ModelSpec(len(vocab), cell, num_hiddens=num_hiddens, num_layers=num_layers)
        model = chosen.build(spec, d2lrnn.initial_parameters(spec))
        learner = chosen.learner(model, d2lrnn.TrainingSpec(), device="cpu")
        start = time.perf_counter()
        OpenedModel(learner, spec, vocab, PREFIX, None).warm_up()
        until = time.perf_counter() - start
        waits = [_wait(learner, vocab, seed) for seed in range(TEXTS)]
        times = (1000 * each for each in (statistics.median(waits), max(waits), until))
        found.append(f"| {name} | {title} | {' | '.join(f'{each:.1f}' for each in times)} |")
    return found


def _wait(learner: Learner, vocab: d2lrnn.Vocab, seed: int) -> float:
    start = time.perf_counter()
    pieces = stream(learner, vocab, PREFIX, 20, seed=seed)
    next(pieces)  # the beginning itself
    next(pieces)
    return time.perf_counter() - start


if __name__ == "__main__":
    name = d2lrnn.backend().name
    kept = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    others = [line for line in kept if line.startswith("| ") and not line.startswith(f"| {name} |")][1:]
    write_atomically(KEPT, (INTRODUCTION + "\n".join(sorted([*others, *rows(name)])) + "\n").encode())
