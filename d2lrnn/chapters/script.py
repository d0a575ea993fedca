"""Runs a script of the book's, a notebook or a chapter in this process, as Python runs a script.

    python -m d2lrnn.chapters.script FILE TAB [ARGUMENT …]

TAB is empty for a Python file, whose imports say which it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType

from d2lrnn.chapters.isolation import list_lines
from d2lrnn.chapters.runner import Restored
from d2lrnn.chapters.source import Chapter, Tab, is_of_first_edition, read_source
from d2lrnn.chapters.stand_in import replace_d2l


def main(arguments: Sequence[str]) -> None:
    """Runs the file that the arguments name; what it raises, and its exit code, are this process' own."""
    file, tab, *rest = arguments
    path = Path(file)
    sys.excepthook = partial(_show, file)
    module = ModuleType("__main__")
    module.__file__ = file
    if path.suffix == ".py":
        code = read_source(path)
        first_edition = is_of_first_edition(code)
        steps = [compile(code, file, "exec", dont_inherit=True)]
    else:
        chapter = Chapter(path)
        first_edition = chapter.of_first_edition
        module.__dict__["tab"] = Tab(tab)
        cells = chapter.cells(tab)
        code = "\n".join(cell.code for cell in cells)
        steps = []
        for cell in cells:
            if chapter.is_notebook:
                list_lines(file, cell)
            lines = "\n" * (cell.line - 1) + cell.code
            steps.append(compile(lines, file, "exec", dont_inherit=True))
    replace_d2l(first_edition=first_edition, code=code, told=_tell)
    sys.argv = [file, *rest]
    # As for a script: its own folder comes first, not the one that the module was started in.
    sys.path[0] = str(path.resolve().parent)
    sys.modules["__main__"] = module
    for step in steps:
        exec(step, module.__dict__)


def _show(file: str, kind: type[BaseException], raised: BaseException, trace: TracebackType | None) -> None:
    """The traceback from the script's own first frame on, as Python shows it; none where it did not begin."""
    while trace is not None and trace.tb_frame.f_code.co_filename != file:
        trace = trace.tb_next
    sys.__excepthook__(kind, raised.with_traceback(trace), trace)


def _tell(restored: Restored) -> None:
    print(f"restored {restored.name}: {restored.why}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
