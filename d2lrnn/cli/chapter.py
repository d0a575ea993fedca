"""``d2lrnn chapter``: a chapter of the book, cell by cell."""

from __future__ import annotations

import os
import sys

from d2lrnn.chapters.notebook import check_notebooks_can_be_made, notebook_of
from d2lrnn.chapters.report import ChapterReport
from d2lrnn.chapters.runner import load_tab, run_chapter
from d2lrnn.chapters.source import TAB_NAMES, Chapter
from d2lrnn.cli.output import describe_versions
from d2lrnn.cli.output_files import check_writable, write_json, write_output
from d2lrnn.cli.requests import ChapterRequest
from d2lrnn.errors import INTERRUPTED, WRONG_INPUT, SpecError
from d2lrnn.registry import ENVIRONMENT_VARIABLE, backend, find_backend


def chapter(request: ChapterRequest) -> int:
    """Runs the cells; returns the exit code."""
    tab = _tab(request.tab)
    source = Chapter(request.file)
    num_cells = len(source.cells(tab))
    check_writable("--json", request.json)
    check_writable("--save-notebook", request.save_notebook)
    if request.save_notebook:
        check_notebooks_can_be_made()
    library, restored = load_tab(tab)
    print(f"chapter  {source.path}, tab {tab}")
    chosen = backend(tab)
    print(f"backend  {chosen.name} ({describe_versions(chosen)})")
    report = ChapterReport(num_cells)
    run = run_chapter(source, tab, library, restored=restored, epochs=request.epochs, watcher=report)
    seconds = sum(result.seconds for result in run.results)
    num_ok = len(run.results) - len(run.failed)
    print(f"\n{num_ok} of {num_cells} cells ran, in {seconds:.1f} s")
    write_json(request.json, [result.to_json() for result in run.results])
    if request.save_notebook:
        write_output("--save-notebook", request.save_notebook, notebook_of(run))
        print(f"saved    {request.save_notebook}")
    if run.interrupted:
        print(f"d2lrnn: interrupted in cell {len(run.results)}", file=sys.stderr)
        return INTERRUPTED
    for result in run.failed:
        print(f"d2lrnn: {result.error}", file=sys.stderr)
    return WRONG_INPUT if run.failed else 0


def _tab(name: str | None) -> str:
    """The book's name of a backend's tab; where the book has none, the backend's own."""
    name = name or os.environ.get(ENVIRONMENT_VARIABLE)
    if not name:
        raise SpecError(f"no tab was chosen: give --tab and one of {', '.join(TAB_NAMES)}")
    entry = find_backend(name)
    return next((tab for tab in TAB_NAMES if find_backend(tab) == entry), entry.name.lower())
