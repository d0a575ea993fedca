"""The book's chapters, whole, on one backend: every cell, every epoch.

    python benchmarks/chapters.py run      # the chapters of $D2LRNN_CHAPTERS on the backend of D2LRNN_BACKEND
    python benchmarks/chapters.py table    # all backends: results/chapters.md

The result of a training is taken from the trainer's own record (current edition) or from the cell's output
(first edition); the book's figures in the table are those of its torch tab, each over the seeds 0 and 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

import d2lrnn
from d2lrnn.book import current_edition as book
from d2lrnn.chapters.report import ChapterReport
from d2lrnn.chapters.results import CellResult
from d2lrnn.chapters.runner import load_tab, run_chapter
from d2lrnn.chapters.source import TAB_NAMES, Chapter
from d2lrnn.errors import ChapterError
from d2lrnn.registry import find_backend

RESULTS = Path(__file__).parent / "results"
LEFT_OUT = Path(__file__).parent / "left-out.md"

_INTRODUCTION = """\
# The book's chapters, whole

Every cell as it stands in the source, with all the epochs that it asks for: `python
benchmarks/chapters.py run` on each backend, then `python benchmarks/chapters.py table`. Perplexities are
exact, over the tokens of the last epoch; first-edition cells print theirs with one digit. `left-out.md`
is ours: what the book does not run.

The book's own torch tab (training / validation, seeds 0 and 1): RNN scratch 6.17 / 7.24 and 6.31 / 7.47;
RNN 5.81 / 7.09 and 5.88 / 7.31; stacked RNN 5.18 / 7.00; GRU × 2 4.11 / 6.41 and 4.09 / 6.32; first
edition, training only: concise 256 1.28, scratch 512 1.18. Its TensorFlow and JAX tabs do not train on
today's frameworks."""

#: What a first-edition cell prints at the end of a training, in any language.
_PERPLEXITY = re.compile(r"([\d.]+), ([\d.]+) \D*/")


def run() -> None:
    """Runs every chapter that has cells for this backend, and writes the results."""
    folder = os.environ.get("D2LRNN_CHAPTERS")
    if not folder:
        raise SystemExit("D2LRNN_CHAPTERS must name the folder with the chapters")
    backend = d2lrnn.backend()
    tab = next(name for name in TAB_NAMES if find_backend(name) == find_backend(backend.name))
    fitted = _notice_trainings()
    chapters: list[dict[str, Any]] = []
    for path in [*sorted(Path(folder).glob("*.md")), LEFT_OUT]:
        try:
            source = Chapter(path)
            cells = source.cells(tab)
        except ChapterError:
            continue  # no cell of this tab
        print(f"{path.name}, {len(cells)} cells", flush=True)
        library, restored = load_tab(tab)
        done = run_chapter(source, tab, library, restored=restored, watcher=ChapterReport(len(cells)))
        chapters.append({
            "chapter": path.name,
            "cells": len(cells),
            "ran": sum(result.ok for result in done.results),
            "errors": [result.error for result in done.failed],
            "seconds": sum(result.seconds for result in done.results),
            "trainings": [*fitted, *_printed(done.results)],
        })  # fmt: skip
        fitted.clear()
        # After every chapter: the whole takes a quarter of an hour, and more on a busy machine.
        document = {"backend": backend.name, "versions": backend.versions(), "chapters": chapters}
        (RESULTS / f"chapters-{backend.name}.json").write_text(json.dumps(document, indent=1) + "\n")


def _notice_trainings() -> list[dict[str, Any]]:
    """A list to which every training of the current edition adds its result."""
    noticed: list[dict[str, Any]] = []
    fit = book.Trainer.fit

    def fit_and_notice(self: book.Trainer, model: Any, data: Any) -> None:
        fit(self, model, data)
        layers = getattr(model, "rnn", model)
        what = f"{type(layers).__name__}, rate {getattr(model, 'lr', None):g}, {self.max_epochs} epochs"
        last = self.history[-1]
        noticed.append({"model": what, "train": last.train_perplexity, "validation": last.val_perplexity})

    book.Trainer.fit = fit_and_notice  # type: ignore[method-assign]
    return noticed


def _printed(results: tuple[CellResult, ...]) -> list[dict[str, Any]]:
    found = []
    for result in results:
        for match in _PERPLEXITY.finditer(result.printed):
            what = f"cell {result.cell.number}: {result.cell.title}"
            found.append({"model": what, "train": float(match[1]), "validation": None})
    return found


def table() -> None:
    """Writes the results of all chapters on all backends."""
    lines = [
        *_INTRODUCTION.splitlines(),
        "",
        "| chapter | tab | cells | trainings: perplexity (validation) | seconds |",
        "|---|---|---|---|---|",
    ]
    versions = []
    for path in sorted(RESULTS.glob("chapters-*.json")):
        document = json.loads(path.read_text())
        versions.append(", ".join(f"{k} {v}" for k, v in document["versions"].items()))
        for chapter in document["chapters"]:
            trained = "; ".join(_shown(training) for training in chapter["trainings"]) or "–"
            cells = f"{chapter['ran']}/{chapter['cells']}"
            first = f"| {chapter['chapter']} | {document['backend']} | {cells}"
            lines.append(f"{first} | {trained} | {chapter['seconds']:.0f} |")
            lines += [f"| | | | failed: {error} | |" for error in chapter["errors"]]
    lines += ["", "Versions: " + "; ".join(versions) + ".", ""]
    (RESULTS / "chapters.md").write_text("\n".join(lines))
    print("\n".join(lines))


def _shown(training: dict[str, Any]) -> str:
    validation = "" if training["validation"] is None else f" ({training['validation']:.2f})"
    return f"{training['model']}: {training['train']:.2f}{validation}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The book's chapters, whole.")
    parser.add_argument("what", choices=["run", "table"])
    {"run": run, "table": table}[parser.parse_args().what]()
