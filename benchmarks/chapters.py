"""Chapters, whole, on one backend: every cell, every epoch.

    python benchmarks/chapters.py run      # the book's, of $D2LRNN_CHAPTERS, and ours, of benchmarks/chapters
    python benchmarks/chapters.py peer     # ours with the book's packages, of $D2LRNN_BOOK_PACKAGES
    python benchmarks/chapters.py table    # all backends: results/chapters.md

Each is run on the backend of D2LRNN_BACKEND. File names after the first word run those chapters alone; the
results of the others stay as they are. With ``--epochs N`` they train for N epochs at most: for chapters that
would take over ten minutes, and the table says so.

The result of a training in the book's chapters is taken from the trainer's own record (current edition) or
from the cell's output (first edition), in our own chapters from what their cells print.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import d2lrnn
from d2lrnn.book import current_edition as book
from d2lrnn.book.data_sets import DATA_HUB
from d2lrnn.chapters.report import ChapterReport
from d2lrnn.chapters.results import CellResult, ChapterRun
from d2lrnn.chapters.runner import load_tab, run_chapter
from d2lrnn.chapters.source import TAB_NAMES, Chapter, Text
from d2lrnn.errors import ChapterError
from d2lrnn.registry import find_backend

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LEFT_OUT = HERE / "left-out.md"
OWN = HERE / "chapters"
BACKENDS = ("torch", "mxnet", "tensorflow", "jax")

_INTRODUCTION = """\
# Chapters, whole

Every cell as it stands in the source, with all the epochs that it asks for, unless a row names fewer:
`python benchmarks/chapters.py` with `run` and `peer` on each backend, then with `table`.

## The book's own text

Five sources of the book, unmodified, on the novel. Perplexities are exact, over the tokens of the last epoch;
first-edition cells print theirs with one digit. `left-out.md` is ours: what the book does not run. Seconds
are those of the run that gave the figures, on one thread: they say how long to wait, and compare nothing.

The book's own package on its torch tab (training / validation, seeds 0 and 1): RNN scratch 6.17 / 7.24 and
6.31 / 7.47; RNN 5.81 / 7.09 and 5.88 / 7.31; stacked RNN 5.18 / 7.00; GRU × 2 4.11 / 6.41 and 4.09 / 6.32;
first edition, training only: concise 256 1.28, scratch 512 1.18. Its TensorFlow and JAX tabs do not train on
today's frameworks."""

_OWN_INTRODUCTION = """\
## Our chapters on the book's other subjects

The book's sources for these subjects are not here, and its archives of sentences (fra-eng), reviews (IMDb)
and vectors (GloVe) cannot be had. So the chapters in `benchmarks/chapters` are ours: written for this project
in the interface of the book's, one for each subject and edition, with the sizes, rates and epochs of the
book's chapters where the data allows it. The data of the translations and the reviews is generated
(`tests/small_data.py`): 780 pairs of sentences of a few words, which are easy, 464 reviews of 18 words, and
vectors drawn by chance for their 15 words. A loss or BLEU on it says that a chapter learns what there is to
learn, and compares with the figure beside it; it says nothing about French or films. Language models are
trained on the novel.

Beside each figure stands what the book's own package gives for the same cells: d2l 1.0.3 for the current
edition, 0.17.6 for the first, on the same frameworks, unchanged but for where its data comes from, with
nothing put back that a framework has dropped. Both print the same, mostly by code of the cell itself;
perplexities are those of the last point of its board, the mean over batches. Starts and the order of batches
are drawn by each package in its own way, so figures agree as two seeds do. Where a cell of the book's package
fails, its first error stands in the place of the figure; a chapter that was not run says so. Its JAX tab
takes its batches from TensorFlow, which the environment of JAX does not have here: nothing was measured of
it."""

#: What a first-edition cell prints at the end of a training, in any language.
_PERPLEXITY = re.compile(r"([\d.]+), ([\d.]+) \D*/")

#: A printed line with a figure of our own chapters, and what is left out of it.
_FIGURE = re.compile(r"\b(?:perplexity|loss|error|bleu|acc|pairs) -?(?:\d|nan|inf)")
_PACE = re.compile(r", [\d.]+ (?:tokens|examples)/sec.*")


def run(names: list[str], epochs: int | None) -> None:
    """Runs the chapters that have cells for this backend, and writes the results."""
    folder = os.environ.get("D2LRNN_CHAPTERS")
    if not folder and not names:
        raise SystemExit(
            "D2LRNN_CHAPTERS must name the folder with the book's chapters, or name those to run"
        )
    books = [*sorted(Path(folder).glob("*.md")), LEFT_OUT] if folder else [LEFT_OUT]
    fitted = _notice_trainings()
    tab = _tab()
    with generated_data():
        for source in _chapters([*books, *sorted(OWN.glob("*.md"))], names, tab):
            library, restored = load_tab(tab)
            cells = source.cells(tab)
            fitted.clear()
            report = ChapterReport(len(cells))
            done = _whole(run_chapter(source, tab, library, restored=restored, epochs=epochs, watcher=report))
            entry = {**_cells(source, done.results, len(cells)), **_fewer(done)}
            if source.path.parent == OWN:
                _write("own", {**entry, "figures": figures_of(source, tab, done.results)})
            else:
                seconds = sum(result.seconds for result in done.results)
                trainings = [*fitted, *_printed(done.results)]
                _write("chapters", {**entry, "seconds": seconds, "trainings": trainings})


def run_peer(names: list[str], epochs: int | None) -> None:
    """Runs the same chapters with the book's packages in the place of d2lrnn."""
    from chapter_peer import load_package

    tab = _tab()
    ours, _ = load_tab(tab)
    with generated_data():
        for source in _chapters(sorted(OWN.glob("*.md")), names, tab):
            cells = source.cells(tab)
            edition = "first" if source.of_first_edition else "current"
            try:
                library = load_package(edition, find_backend(tab).name, ours)
            except ChapterError as error:
                _write("peer", {**_cells(source, (), len(cells)), "errors": [str(error)], "figures": []})
                continue
            report = ChapterReport(len(cells))
            done = _whole(run_chapter(source, tab, library, epochs=epochs, watcher=report))
            figures = figures_of(source, tab, done.results)
            _write("peer", {**_cells(source, done.results, len(cells)), **_fewer(done), "figures": figures})


def _tab() -> str:
    backend = d2lrnn.backend()
    return next(name for name in TAB_NAMES if find_backend(name) == find_backend(backend.name))


def _chapters(paths: list[Path], names: list[str], tab: str) -> Iterator[Chapter]:
    """Those with these file names, or all, that have cells of this tab."""
    if unknown := set(names) - {path.name for path in paths}:
        raise SystemExit(f"no such chapter: {', '.join(sorted(unknown))}")
    for path in paths:
        if names and path.name not in names:
            continue
        source = Chapter(path)
        if tab in source.tabs or not source.names_tabs:
            print(f"{path.name}, {len(source.cells(tab))} cells", flush=True)
            yield source


def _whole(done: ChapterRun) -> ChapterRun:
    """Ends this process after Ctrl-C: half a chapter is no result."""
    if done.interrupted:
        raise SystemExit(130)
    return done


def _cells(source: Chapter, results: tuple[CellResult, ...], number: int) -> dict[str, Any]:
    return {
        "chapter": source.path.name,
        "cells": number,
        "ran": sum(result.ok for result in results),
        "errors": [result.error for result in results if not result.ok],
    }


def _fewer(done: ChapterRun) -> dict[str, int]:
    """To how many epochs at most its trainings were cut, if they were."""
    cut = done.epochs is not None and any(result.capped for result in done.results)
    return {"epochs": done.epochs} if cut and done.epochs is not None else {}


def _write(part: str, entry: dict[str, Any]) -> None:
    """Puts a chapter's results into this backend's file, in place of what it had of this chapter.

    After every chapter: the whole takes an hour, and more on a busy machine.
    """
    backend = d2lrnn.backend()
    file = RESULTS / f"chapters-{backend.name}.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    entries = {each["chapter"]: each for each in kept.get(part, [])} | {entry["chapter"]: entry}
    document = {"backend": backend.name, "versions": backend.versions()}
    document |= {name: kept.get(name, []) for name in ("chapters", "own", "peer")}
    document[part] = list(entries.values())
    file.write_text(json.dumps(document, indent=1) + "\n")


@contextmanager
def generated_data() -> Iterator[None]:
    """Data in the place of the archives of sentences, reviews and vectors."""
    sys.path.append(str(HERE.parent / "tests"))
    from small_data import write_data_sets

    with tempfile.TemporaryDirectory() as cache:
        (folder := Path(cache, "d2lrnn")).mkdir()
        with patch.dict(os.environ, XDG_CACHE_HOME=cache), patch.dict(DATA_HUB, write_data_sets(folder)):
            yield


def figures_of(source: Chapter, tab: str, results: tuple[CellResult, ...]) -> list[dict[str, str]]:
    """The lines with figures that cells printed, each with the sentence that stands before its cell.

    What cells print after one that failed is left out: it may be of a model that was not trained.
    """
    said, before = {}, ""
    for part in source.parts(tab):
        if isinstance(part, Text):
            lines = [line for line in part.source.splitlines() if line.strip()]
            before = lines[-1].strip("# .") if lines else before
        else:
            said[part.number] = before
    return [
        {"of": said[result.cell.number], "figures": _PACE.sub("", line).strip()}
        for result in takewhile(lambda result: result.ok, results)
        for line in result.printed.splitlines()
        if _FIGURE.search(line)
    ]


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


def table(names: list[str], epochs: int | None) -> None:
    """Writes the results of all chapters on all backends."""
    if names or epochs is not None:
        raise SystemExit("the table has all chapters as they were run: give no names and no --epochs")
    documents = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("chapters-*.json"))]
    text = "\n".join([*_book_lines(documents), "", *own_lines(documents), "", _versions(documents), ""])
    (RESULTS / "chapters.md").write_text(text)
    print(text)


def _versions(documents: list[dict[str, Any]]) -> str:
    versions = (", ".join(f"{k} {v}" for k, v in each["versions"].items()) for each in documents)
    return "Versions: " + "; ".join(versions) + "."


def _book_lines(documents: list[dict[str, Any]]) -> Iterator[str]:
    yield from _INTRODUCTION.splitlines()
    yield from (
        "",
        "| chapter | tab | cells | trainings: perplexity (validation) | seconds |",
        "|---|---|---|---|---|",
    )
    for document in documents:
        for chapter in document["chapters"]:
            trained = "; ".join(_shown(training) for training in chapter["trainings"]) or "–"
            cells = f"{chapter['ran']}/{chapter['cells']}{_cut(chapter)}"
            first = f"| {chapter['chapter']} | {document['backend']} | {cells}"
            yield f"{first} | {trained} | {chapter['seconds']:.0f} |"
            yield from (f"| | | | failed: {error} | |" for error in chapter["errors"])


def own_lines(documents: list[dict[str, Any]]) -> Iterator[str]:
    """The part on our own chapters: chapter by chapter, each figure beside the one of the book's package."""
    yield from _OWN_INTRODUCTION.splitlines()
    yield ""
    yield from ("| chapter | tab | cells | what | here | the book's package |", "|---|---|---|---|---|---|")
    by_backend = {document["backend"]: document for document in documents}
    for name in sorted({each["chapter"] for document in documents for each in document.get("own", [])}):
        for backend in BACKENDS:
            own, peer = (_entry(by_backend.get(backend, {}), part, name) for part in ("own", "peer"))
            if own is not None:
                yield from map(_on_one_line, _own_rows(backend, own, peer))


def _entry(document: dict[str, Any], part: str, name: str) -> dict[str, Any] | None:
    return next((each for each in document.get(part, []) if each["chapter"] == name), None)


def _own_rows(backend: str, own: dict[str, Any], peer: dict[str, Any] | None) -> Iterator[str]:
    theirs: dict[str, list[str]] = {}
    for figure in peer["figures"] if peer else []:
        theirs.setdefault(figure["of"], []).append(figure["figures"])
    missing = "not run" if peer is None else "; ".join(peer["errors"][:1]) or "–"
    start = f"{own['chapter']} | {backend} | {own['ran']}/{own['cells']}{_cut(own)}"
    for figure in own["figures"] or [{"of": "shapes alone", "figures": "–"}]:
        beside = theirs.get(figure["of"])
        if beside and peer:
            shown = f"{beside.pop(0)}{_cut(peer)}"
        else:
            shown, missing = missing, "as above"
        yield f"| {start} | {figure['of']} | {figure['figures']} | {shown} |"
        start = " | | "
    yield from (f"| | | | failed | {error} | |" for error in own["errors"])


def _cut(entry: dict[str, Any]) -> str:
    return f" ({entry['epochs']} epochs at most)" if "epochs" in entry else ""


def _on_one_line(row: str) -> str:
    return " ".join(row.split())


def _shown(training: dict[str, Any]) -> str:
    validation = "" if training["validation"] is None else f" ({training['validation']:.2f})"
    return f"{training['model']}: {training['train']:.2f}{validation}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Chapters, whole.")
    parser.add_argument("what", choices=["run", "peer", "table"])
    parser.add_argument("names", nargs="*", metavar="NAME.md", help="these chapters alone")
    parser.add_argument("--epochs", type=int, metavar="N", help="at most so many, not all that are asked for")
    arguments = parser.parse_args()
    {"run": run, "peer": run_peer, "table": table}[arguments.what](arguments.names, arguments.epochs)
