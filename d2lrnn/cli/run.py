"""``d2lrnn run``: a script, a notebook or a chapter, as Python runs a script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from d2lrnn.chapters.source import Chapter, chosen_tab, read_source
from d2lrnn.cli.commands.run import RunRequest
from d2lrnn.errors import ChapterError
from d2lrnn.registry import find_backend


def run(request: RunRequest) -> int:
    """Runs the file in place of this process; returns its exit code where that cannot be."""
    path, tab = Path(request.file), ""
    if path.suffix == ".py":
        read_source(path)
        if request.tab is not None:
            raise ChapterError(f"{path} is a script, whose imports say which tab it takes: leave --tab out")
    elif path.suffix in (".ipynb", ".md"):
        chapter = Chapter(path)
        tab = chosen_tab(request.tab, chapter)
        chapter.cells(tab)
        find_backend(tab).require()
    else:
        raise ChapterError(f"{path} is no file that can be run: its name must end in .py, .ipynb or .md")
    words = [sys.executable, "-m", "d2lrnn.chapters.script", str(path), tab, *request.arguments]
    sys.stdout.flush()
    if os.name == "posix":
        # With the standard streams and signals that a script expects.
        os.execv(sys.executable, words)
    return subprocess.call(words)
