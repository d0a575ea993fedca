"""The text and the cells of a notebook file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from d2lrnn.errors import ChapterError


class Part(NamedTuple):
    """A cell of a notebook.

    Attributes:
        source: what it holds.
        is_code: whether it is code; else it is text.
    """

    source: str
    is_code: bool


def read_notebook(content: str, path: Path) -> list[Part]:
    """The cells of a notebook in the format that Jupyter has written since 2015, 4.

    Raises:
        ChapterError: it is no notebook, or one of another format.

    Example:
        >>> cell = {"cell_type": "code", "source": ["1 +", " 1"]}
        >>> read_notebook(json.dumps({"nbformat": 4, "cells": [cell]}), Path("sum.ipynb"))
        [Part(source='1 + 1', is_code=True)]
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ChapterError(f"{path} is no notebook: {error}") from error
    version = document.get("nbformat") if isinstance(document, dict) else None
    if version != 4:
        raise ChapterError(
            f"{path} is no notebook of format 4"
            + (f" but of format {version}: open and save it with Jupyter" if isinstance(version, int) else "")
        )
    return list(_parts(document.get("cells"), path))


def _parts(cells: Any, path: Path) -> Iterator[Part]:
    if not isinstance(cells, list):
        raise ChapterError(f"{path} is no notebook: it has no list of cells")
    for number, cell in enumerate(cells, start=1):
        source = cell.get("source") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise ChapterError(f"{path} is no notebook: cell {number} has no source")
        yield Part(source.replace("\r\n", "\n"), cell.get("cell_type") == "code")
