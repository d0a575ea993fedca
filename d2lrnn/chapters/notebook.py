"""A chapter that ran, as a notebook: its text, its cells, and their outputs."""

from __future__ import annotations

import re
from base64 import b64encode
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from d2lrnn.chapters.markup import to_markdown
from d2lrnn.chapters.results import CellResult, ChapterRun
from d2lrnn.chapters.source import Cell
from d2lrnn.errors import ChapterError
from d2lrnn.version import __version__


def check_notebooks_can_be_made() -> None:
    """Checks that nbformat is installed.

    Raises:
        ChapterError: it is not; the message has the command that installs it.
    """
    if find_spec("nbformat") is None:
        raise ChapterError("a notebook needs nbformat, which is not installed here: pip install nbformat")


def notebook_of(run: ChapterRun) -> bytes:
    """The chapter's tab as a notebook file, which can be run in Jupyter: its first cell puts d2lrnn in place.

    Cells that were not begun have no output. The metadata ``d2lrnn`` says which cells were given fewer epochs
    than they ask for, and how many. The same run gives the same bytes, but for printed times.

    Raises:
        ChapterError: nbformat is not installed.
    """
    check_notebooks_can_be_made()
    nbformat = import_module("nbformat")
    results = {result.cell.number: result for result in run.results}
    cells = [] if _begins_by_itself(run) else [_first_cell(nbformat, run)]
    for position, part in enumerate(run.chapter.parts(run.tab), start=1):
        identity = f"part-{position}"
        if isinstance(part, Cell):
            cells.append(_code_cell(nbformat, part, results.get(part.number), identity))
        else:
            cells.append(nbformat.v4.new_markdown_cell(to_markdown(part.source), id=identity))
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "d2lrnn": {
            "version": __version__, "chapter": run.chapter.path.name, "tab": run.tab, "epochs": run.epochs,
            "capped": [result.cell.number for result in run.results if result.capped],
        },
    }  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    text: str = nbformat.writes(notebook)
    return (text + "\n").encode("utf-8", "backslashreplace")


def _begins_by_itself(run: ChapterRun) -> bool:
    """Whether the chapter is a notebook that was saved here."""
    return any("replace_d2l" in cell.code for cell in run.chapter.cells(run.tab))


def _first_cell(nbformat: Any, run: ChapterRun) -> Any:
    lines = ["# In place of the book's package d2l:", "import d2lrnn"]
    lines.append(f"d2lrnn.replace_d2l({'first_edition=True' * run.chapter.of_first_edition})")
    if any(re.search(r"\btab\.(?!interact_select)", cell.code) for cell in run.chapter.cells(run.tab)):
        lines += ["from d2lrnn.chapters.source import Tab", f"tab = Tab({run.tab!r})"]
    return nbformat.v4.new_code_cell("\n".join(lines), id="begin")


def _code_cell(nbformat: Any, cell: Cell, result: CellResult | None, identity: str) -> Any:
    if result is None:
        return nbformat.v4.new_code_cell(cell.listing, id=identity)
    return nbformat.v4.new_code_cell(
        cell.listing,
        id=identity,
        execution_count=cell.number,
        outputs=_outputs(nbformat.v4.new_output, result),
    )


def _outputs(new_output: Any, result: CellResult) -> list[Any]:
    outputs = [new_output("stream", name=name, text=text) for name, text in result.output]
    for picture in result.figures:
        data = {"image/png": b64encode(picture).decode()}
        outputs.append(new_output("display_data", data=data))
    if result.value is not None:
        data = {"text/plain": result.value}
        outputs.append(new_output("execute_result", data=data, execution_count=result.cell.number))
    if result.error is not None:
        lines = (result.traceback or result.error).splitlines()
        outputs.append(new_output("error", ename=result.error_kind, evalue=result.error, traceback=lines))
    return outputs
