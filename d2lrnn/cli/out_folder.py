"""Where ``d2lrnn train --out`` saves: the folder itself, or a numbered one in a folder of runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import STANDARD_INPUT, Source, names_in
from d2lrnn.errors import SpecError
from d2lrnn.saving.numbered_folders import is_folder_of_runs, make_numbered_folder
from d2lrnn.saving.run_folder import load_description

#: A title is cut here, and the name of a text in it.
_LONGEST, _LONGEST_OF_TEXT = 60, 40


@contextmanager
def own_folder(request: TrainRequest, *, launched: bool) -> Iterator[TrainRequest]:
    """The request with the folder of the run as its `out`, made where `out` is a folder of runs.

    The runs of several seeds get one folder together, and only where `out` ends with a slash. Where nothing
    is saved, what was made is removed in the end.

    Args:
        request: what was asked for.
        launched: whether other processes, which this one has not started, are to save in the same folder.

    Raises:
        SpecError: they could not know its number.
        RunError: the folder cannot be made, or the run to resume cannot be read.
    """
    if request.out is None or not _is_numbered(request.out, request.seeds):
        yield request
        return
    if launched:
        raise SpecError(
            f"--out {request.out} is a folder of runs, and the workers of a launcher cannot agree on a "
            "number in it: give the folder of the run itself"
        )
    was_there, title = os.path.isdir(request.out), title_of(request)
    folder = make_numbered_folder(request.out, title)
    try:
        print(f"folder   {folder}", flush=True)
        yield replace(request, out=folder)
    finally:
        with suppress(OSError):  # it is not empty
            os.rmdir(folder)
            if not was_there:
                os.rmdir(request.out)


def _is_numbered(out: str, seeds: tuple[int, ...]) -> bool:
    # Without the slash the runs of seeds are found in `out` itself, where more seeds may join them.
    return is_folder_of_runs(out) and (not seeds or out.endswith(("/", os.sep)))


def title_of(request: TrainRequest) -> str:
    """What a run is called: its cell, its implementation and its text.

    Example:
        >>> title_of(TrainRequest(text=["texts/My Book.txt"], model={"cell": "gru"}))
        'gru-scratch-my-book'
    """
    if request.resume is not None:
        run = load_description(request.resume)
        cell, implementation = run.model.cell, run.model.implementation
        source = run.data.source if run.data else DataSpec.source
    else:
        cell = request.model.get("cell", ModelSpec.cell)
        implementation = request.model.get("implementation", ModelSpec.implementation)
        source = DataSpec.source
    return _slug(f"{cell}-{implementation}-{_title_of_text(tuple(request.text) or source)}")


def _title_of_text(source: Source) -> str:
    first, *others = names_in(source)
    stem = (
        "standard-input" if first == STANDARD_INPUT else Path(os.path.abspath(first)).stem[:_LONGEST_OF_TEXT]
    )
    return f"{stem}-and-{len(others)}-more" if others else stem


def _slug(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.lower())[:_LONGEST].strip("-") or "run"
