"""``d2lrnn chapter``: a chapter of the book, cell by cell."""

from __future__ import annotations

import os
import sys

from d2lrnn.chapters.notebook import check_notebooks_can_be_made, notebook_of
from d2lrnn.chapters.report import ChapterReport
from d2lrnn.chapters.results import ChapterRun
from d2lrnn.chapters.source import Chapter, chosen_tab
from d2lrnn.cli.chapter_process import ChapterProcess
from d2lrnn.cli.commands.chapter import ChapterRequest
from d2lrnn.cli.output_files import STANDARD_OUTPUT, check_writable, write_json, write_output
from d2lrnn.errors import INTERRUPTED, WRONG_INPUT
from d2lrnn.registry import find_backend


def chapter(request: ChapterRequest) -> int:
    """Runs the cells; returns the exit code."""
    source = Chapter(request.file)
    tab = chosen_tab(request.tab, source)
    num_cells = len(source.cells(tab))
    json, notebook = (_absolute(path) for path in (request.json, request.save_notebook))
    check_writable("--json", json)
    check_writable("--save-notebook", notebook)
    if notebook:
        check_notebooks_can_be_made()
    find_backend(tab).require()
    with ChapterProcess(source, tab, request.epochs) as process:
        print(f"chapter  {source.path}, tab {tab}")
        print(f"backend  {process.backend}")
        run = process.run(ChapterReport(num_cells))
        _print_result(run, num_cells)
        try:
            write_json(json, [result.to_json() for result in run.results])
        finally:
            if notebook:
                write_output("--save-notebook", notebook, notebook_of(run))
                print(f"saved    {request.save_notebook}")
        if run.interrupted:
            print(f"d2lrnn: interrupted in cell {len(run.results)}", file=sys.stderr)
            return INTERRUPTED
        for result in run.failed:
            print(f"d2lrnn: {result.error}", file=sys.stderr)
        return WRONG_INPUT if run.failed else 0


def _print_result(run: ChapterRun, num_cells: int) -> None:
    seconds = sum(result.seconds for result in run.results)
    num_ok = len(run.results) - len(run.failed)
    print(f"\n{num_ok} of {num_cells} cells ran, in {seconds:.1f} s")
    if len(run.results) < num_cells:
        first, last = len(run.results) + 1, num_cells
        print("not run  " + (f"cells {first} to {last}" if first < last else f"cell {last}"))


def _absolute(path: str | None) -> str | None:
    """The path of a result: a cell can remove the folder that one is in."""
    return os.path.abspath(path) if path and path != STANDARD_OUTPUT else path
