"""One checkpoint of a run on disk: nothing is believed that was not checked.

A checkpoint is a folder::

    step-00001000/
      model.safetensors      the parameters, canonical names and layout (`d2lrnn.contract.parameters`)
      state.safetensors      the carried state ``h`` (and ``c``), each (L, B, h), inside an epoch with one
      optimizer.safetensors  what the optimiser remembers, where it remembers anything
      run.json               everything else (`d2lrnn.saving.run_document`)
      SHA256SUMS             a digest of every file, as ``sha256sum -c SHA256SUMS`` checks it

This is format 3. Format 2 had no optimiser's state; in format 1 the digest stood in run.json. Both are read.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from d2lrnn.atomic_files import sync_folder
from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.optimizers import slot_shapes
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import MissingCellError, RunError, reason_of
from d2lrnn.saving.json_reader import LONGEST_VALUE
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_document import describe, digest_in, has_optimizer_state, has_state, parse, read_run
from d2lrnn.saving.tensor_files import read_safetensors, to_safetensors
from d2lrnn.training.model_size import parameter_bytes

MODEL, DESCRIPTION = "model.safetensors", "run.json"
_STATE, _OPTIMIZER, _SUMS = "state.safetensors", "optimizer.safetensors", "SHA256SUMS"
_FILES = {MODEL, _STATE, _OPTIMIZER, DESCRIPTION, _SUMS}

_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")
#: More than anyone's vocabulary and history take; a longer run.json is not read.
_MAX_DESCRIPTION = 1 << 26
#: In JSON a character takes up to six bytes.
_LONGEST_TOKEN = LONGEST_VALUE // 8
_MAX_SUMS = 1 << 12


def write_checkpoint(run: Run, folder: Path) -> None:
    """Writes the files of a checkpoint into an empty folder, and waits until they are on the disk.

    Raises:
        RunError: it could not be read again.
        OSError: it cannot be written.
    """
    description = _checked_description(run)
    for name, values in (run.parameters | run.optimizer_state).items():
        if not np.isfinite(values).all():
            raise RunError(f"{name} is not finite: training has diverged, and such a run is not saved")
    sums = ""
    for name, content in _files(run, description):
        write_synced(folder / name, content)
        sums += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    write_synced(folder / _SUMS, sums.encode())
    sync_folder(folder)


def check_savable(run: Run) -> None:
    """Checks before a training that what it saves can be read again.

    Raises:
        RunError: it could not.
    """
    content = _checked_description(run)
    try:
        read_run(parse(content, parameter_bytes(run.model)))
    except RunError as error:
        raise RunError(f"such a run could not be read again, and is not saved: {error}") from error


def read_checkpoint(folder: Path) -> Run:
    """Reads a checkpoint, and checks all of it. Every file is opened once.

    Raises:
        RunError: it cannot be read or is damaged.
        MissingCellError: its cell comes from a package that is not installed here.
    """
    content = read_file(folder / DESCRIPTION, _MAX_DESCRIPTION)
    sums = read_sums(folder / _SUMS)
    if sums and sums.get(DESCRIPTION) != hashlib.sha256(content).hexdigest():
        raise RunError(f"{folder / DESCRIPTION} is damaged: its digest is not the one in {_SUMS}")
    with opened(folder / MODEL) as file:
        parsed = _parsed(folder / DESCRIPTION, content, _size(file))
        del content  # the arrays may take its place
        run = parsed.run
        if parsed.digest is None and set(sums) != parsed.files:
            raise RunError(f"{folder / _SUMS} is damaged: it must list {', '.join(sorted(parsed.files))}")
        digest = sums.get(MODEL) if parsed.digest is None else parsed.digest
        shapes, dtype = parameter_shapes(run.model), run.model.dtype
        run = replace(run, parameters=read_safetensors(file, folder / MODEL, shapes, dtype, digest))
    if _OPTIMIZER in parsed.files and run.training is not None:
        slots, path = slot_shapes(run.training.optimizer, shapes), folder / _OPTIMIZER
        with opened(path) as file:
            slot_arrays = read_safetensors(file, path, slots, dtype, sums[_OPTIMIZER])
        run = replace(run, optimizer_state=slot_arrays)
    part, data = run.position.part, run.data
    if _STATE in parsed.files and part is not None and data is not None:
        state_shapes, path = _state_shapes(run.model, data.batch_size), folder / _STATE
        with opened(path) as file:
            state = tuple(read_safetensors(file, path, state_shapes, dtype, sums[_STATE]).values())
        run = replace(run, position=replace(run.position, part=replace(part, state=state)))
    return run


def read_description(folder: Path) -> Run:
    """The run of a checkpoint without its arrays.

    Raises:
        RunError: it cannot be read or is damaged.
        MissingCellError: its cell comes from a package that is not installed here.
    """
    content = read_file(folder / DESCRIPTION, _MAX_DESCRIPTION)
    with opened(folder / MODEL) as file:
        return _parsed(folder / DESCRIPTION, content, _size(file)).run


def is_checkpoint(path: Path) -> bool:
    """Whether a folder has the files of a checkpoint, and nothing else."""
    try:
        names = set(os.listdir(path))
    except OSError:
        return False
    return names >= {MODEL, DESCRIPTION} and names <= _FILES


def _checked_description(run: Run) -> bytes:
    try:
        content = describe(run)
    except UnicodeEncodeError as error:
        # All other text was decoded from UTF-8.
        raise RunError(f"the path {run.data.source if run.data else ''!a} is not UTF-8, and cannot be kept "
                       "in a saved run: rename the file of the text") from error  # fmt: skip
    if len(content) > _MAX_DESCRIPTION:
        raise RunError(f"the vocabulary and history of the run take {len(content):,} bytes: at most "
                       f"{_MAX_DESCRIPTION:,} can be saved")  # fmt: skip
    tokens = run.vocab.to_json() if run.vocab else []
    if longest := next((token for token in tokens if len(token) > _LONGEST_TOKEN), None):
        raise RunError(f"the token {longest[:20]!r}... has {len(longest):,} characters: at most "
                       f"{_LONGEST_TOKEN:,} can be saved")  # fmt: skip
    return content


def _files(run: Run, description: bytes) -> Iterator[tuple[str, bytes]]:
    """The names and contents of a checkpoint's files."""
    yield MODEL, to_safetensors(run.parameters)
    part = run.position.part
    if part is not None and part.state is not None:
        yield _STATE, to_safetensors(dict(zip(_state_shapes(run.model, 1), part.state, strict=True)))
    if run.optimizer_state:
        yield _OPTIMIZER, to_safetensors(run.optimizer_state)
    yield DESCRIPTION, description


def _state_shapes(spec: ModelSpec, batch_size: int) -> dict[str, tuple[int, ...]]:
    shape = (spec.num_layers, batch_size, spec.num_hiddens)
    return dict.fromkeys(find_cell(spec.cell).states, shape)


class _Parsed(NamedTuple):
    """A run without its arrays, the files that must lie beside it, and in format 1 the model's digest."""

    run: Run
    files: set[str]
    digest: str | None


def _parsed(path: Path, content: bytes, model_bytes: int) -> _Parsed:
    try:
        document = parse(content, model_bytes)
        run = read_run(document)
        files = {MODEL, DESCRIPTION}
        if has_state(document):
            files.add(_STATE)
        if has_optimizer_state(document):
            files.add(_OPTIMIZER)
        return _Parsed(run, files, digest_in(document))
    except MissingCellError as error:
        raise MissingCellError(
            f"{path} needs {error}, which no package installed here has: install the one that it comes from"
        ) from error
    except (RunError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


def read_sums(path: Path) -> dict[str, str]:
    """Names to digests; none where there is no such file, as in format 1.

    Raises:
        RunError: the file is damaged.
    """
    if not os.path.lexists(path):
        return {}
    lines = read_file(path, _MAX_SUMS).decode("ascii", "replace").splitlines()
    matches = [_SUM.fullmatch(line) for line in lines]
    if not lines or not all(matches):
        raise RunError(f"{path} is damaged: its lines must be a digest, two spaces and a name")
    return {match[2]: match[1] for match in matches if match}


def read_file(path: Path, most: int) -> bytes:
    """The content of a checkpoint's file of at most so many bytes.

    Raises:
        RunError: it is longer, or cannot be read.
    """
    with opened(path) as file:
        size = _size(file)
        if size > most:
            raise RunError(f"{path} is damaged: it has more than {most:,} bytes")
        return file.read(size)


#: A link is not followed, and a pipe is not waited for.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A checkpoint's file, which lies in its folder: no pipe that never ends, no link to somewhere else.

    Raises:
        RunError: it cannot be read.
    """
    try:
        if path.is_symlink():
            raise RunError(f"{path} is damaged: it must be a file, and is a link")
        with open(path, "rb", opener=lambda name, _: os.open(name, _FLAGS)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RunError(f"{path} is damaged: it must be a file, and is a pipe or a device")
            yield file
    except OSError as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}") from error


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file, and waits until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
