"""Saved runs on disk: never torn, never lost, and nothing believed that was not checked.

A run is a folder::

    run/
      latest -> step-00001000
      best   -> step-00000900        the lowest validation perplexity of the checkpoints
      model.safetensors, run.json    those of the newest checkpoint, for other programs to find
      step-00000900/ …
      step-00001000/
        model.safetensors            the parameters, canonical names and layout (`d2lrnn.contract.parameters`)
        state.safetensors            the carried state ``h`` (and ``c``), each (L, B, h), inside an epoch that
                                     carries it
        optimizer.safetensors        what the optimiser remembers, where it remembers anything
        run.json                     everything else (`d2lrnn.saving.run_document`)
        SHA256SUMS                   a digest of every file, as ``sha256sum -c SHA256SUMS`` checks it

A checkpoint is written beside, synced, and renamed; ``latest`` names it only when it is whole, and only then
do older ones go. Whatever happens in between, a kill or a full disk, the folder holds a whole checkpoint.
Where a file system has no symbolic links, ``latest`` and ``best`` are files with the name.

This is format 3. Format 2 had no optimiser's state; in format 1 the digest stood in run.json. Both are read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from d2lrnn.atomic_files import sync_folder, write_atomically
from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.optimizers import slot_shapes
from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.errors import MissingCellError, OccupiedError, RunError, SpecError, reason_of
from d2lrnn.saving.json_reader import LONGEST_VALUE
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_document import describe, digest_in, has_optimizer_state, has_state, parse, read_run
from d2lrnn.saving.tensor_files import read_safetensors, to_safetensors

LATEST, BEST = "latest", "best"
_MODEL, _STATE, _OPTIMIZER = "model.safetensors", "state.safetensors", "optimizer.safetensors"
_RUN, _SUMS = "run.json", "SHA256SUMS"
_FILES = {_MODEL, _STATE, _OPTIMIZER, _RUN, _SUMS}

_CHECKPOINT = re.compile(r"step-(\d{8,19})(?:-(\d{1,9}))?")
_TEMPORARY = ".writing-"
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")
#: More than anyone's vocabulary and history take; a longer run.json is not read.
_MAX_RUN_BYTES = 1 << 26
#: In JSON a character takes up to six bytes.
_LONGEST_TOKEN = LONGEST_VALUE // 8
_MAX_SUMS_BYTES = 1 << 12
#: How often a reader looks again when the checkpoint that it was reading went away.
_ATTEMPTS = 5


def save_run(run: Run, folder: str | os.PathLike[str], *, keep: int = 1, overwrite: bool = False) -> Path:
    """Writes a checkpoint into a run's folder, which is made where it is missing.

    What the library did not write is left as it is.

    Args:
        run: what to write.
        folder: the run's folder.
        keep: how many of the run's newest checkpoints stay, this one among them; the best one by validation
            stays in any case.
        overwrite: whether the checkpoints of another run in this folder go when this one is whole.

    Returns:
        The checkpoint's own folder.

    Raises:
        SpecError: `keep` is below 1.
        OccupiedError: the folder holds another run, and `overwrite` is false.
        RunError: it cannot be written; what was there before is untouched.
    """
    if keep < 1:
        raise SpecError(f"the number of checkpoints to keep is {keep}: it must be at least 1")
    root, others = _prepared(folder, run, overwrite=overwrite)
    temporary: Path | None = None
    try:
        for orphan in root.glob(_TEMPORARY + "*"):
            _remove(orphan)
        temporary = _new_folder(root)
        sums = ""
        for name, content in _files(run):
            _write_synced(temporary / name, content)
            sums += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        _write_synced(temporary / _SUMS, sums.encode())
        sync_folder(temporary)
        checkpoint = _free_name(root, run.step)
        os.rename(temporary, checkpoint)
        _point(root, LATEST, checkpoint.name)
        _drop_others(root, others | {checkpoint: run}, checkpoint, keep)
    except BaseException as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise RunError(f"the run cannot be written to {root}: {reason_of(error)}. Nothing was lost: "
                       "what the folder held before is still there") from error  # fmt: skip
    return checkpoint


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Reads a run, and checks all of it.

    Args:
        folder: a run's folder, for its newest checkpoint; its ``best``; or one checkpoint in it.

    Raises:
        RunError: there is none, or it is damaged: the message says in which file, and what is wrong.
        MissingCellError: its cell comes from a package that is not installed here.
    """
    root = Path(folder)
    for attempt in range(_ATTEMPTS):
        checkpoint = None
        try:
            checkpoint = _checkpoint_of(root)
            return _load(checkpoint)
        except MissingCellError:
            raise
        except RunError as error:
            # A training run may have put a newer one in its place while this one was read.
            if attempt == _ATTEMPTS - 1 or checkpoint is None or checkpoint == _checkpoint_of(root):
                raise RunError(f"{error}{_hint(root, checkpoint)}") from error
    raise AssertionError("the last attempt returns or raises")


def _hint(root: Path, damaged: Path | None) -> str:
    """Where an older checkpoint lies, for someone whose newest one cannot be read."""
    with suppress(OSError):
        names = sorted(path.name for path in root.iterdir() if _CHECKPOINT.fullmatch(path.name))
        this = damaged and os.path.realpath(damaged)
        others = [name for name in names if os.path.realpath(root / name) != this]
        if others:
            return f". There is another checkpoint: {root / others[-1]}"
    return ""


def prepare_folder(folder: str | os.PathLike[str], run: Run, *, overwrite: bool = False) -> Path:
    """Makes a run's folder, so that a long training does not end at a folder that cannot be written.

    Args:
        folder: where the run is to be saved.
        run: what is to be saved.
        overwrite: as for `save_run`.

    Raises:
        OccupiedError: it holds another run, and `overwrite` is false.
        RunError: it cannot be made or written to, or a file of somebody else has the name of one of a run's.
    """
    return _prepared(folder, run, overwrite=overwrite)[0]


def _prepared(folder: str | os.PathLike[str], run: Run, *, overwrite: bool) -> tuple[Path, dict[Path, Run]]:
    """The folder of `prepare_folder`, and the checkpoints in it."""
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {root} cannot be made: {reason_of(error)}") from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise RunError(f"the folder {root} cannot be written to: choose another")
    for name in (LATEST, BEST):
        if os.path.lexists(root / name) and not _is_own_pointer(root / name):
            raise RunError(f"{root / name} is no file of a saved run: choose another folder")
    found = _checkpoints(root)
    if not overwrite and any(other.identity != run.identity for other in found.values()):
        raise OccupiedError(f"{root} holds another run: choose another folder, or pass overwrite=True")
    return root, found


def _is_own_pointer(path: Path) -> bool:
    """Whether a ``latest`` or ``best`` is one that `save_run` made, or a checkpoint copied in its place."""
    if path.is_dir() and not path.is_symlink():
        return _is_own_checkpoint(path)
    name = _target(path)
    return name is not None and _CHECKPOINT.fullmatch(name) is not None


def _is_own_checkpoint(path: Path) -> bool:
    """Whether a folder has the files of a checkpoint, and nothing else."""
    try:
        names = set(os.listdir(path))
    except OSError:
        return False
    return names >= {_MODEL, _RUN} and names <= _FILES


def _checkpoints(root: Path) -> dict[Path, Run]:
    """The checkpoints in a folder that can be read, with their runs without arrays."""
    found = {}
    for path in root.iterdir():
        if _CHECKPOINT.fullmatch(path.name) and _is_own_checkpoint(path):
            # What cannot be read may be of use to someone who can mend it.
            with suppress(RunError):
                found[path] = _describe_only(path)
    return found


def _files(run: Run) -> Iterator[tuple[str, bytes]]:
    """The names and contents of a checkpoint's files."""
    described = describe(run)
    if len(described) > _MAX_RUN_BYTES:
        raise RunError(f"the vocabulary and history of the run take {len(described):,} bytes: at most "
                       f"{_MAX_RUN_BYTES:,} can be saved")  # fmt: skip
    tokens = run.vocab.to_json() if run.vocab else []
    if longest := next((token for token in tokens if len(token) > _LONGEST_TOKEN), None):
        raise RunError(f"the token {longest[:20]!r}... has {len(longest):,} characters: at most "
                       f"{_LONGEST_TOKEN:,} can be saved")  # fmt: skip
    for name, values in (run.parameters | run.optimizer_state).items():
        if not np.isfinite(values).all():
            raise RunError(f"{name} is not finite: training has diverged, and such a run is not saved")
    yield _MODEL, to_safetensors(run.parameters)
    part = run.position.part
    if part is not None and part.state is not None:
        yield _STATE, to_safetensors(dict(zip(_state_shapes(run.model, 1), part.state, strict=True)))
    if run.optimizer_state:
        yield _OPTIMIZER, to_safetensors(run.optimizer_state)
    yield _RUN, described


def _state_shapes(spec: ModelSpec, batch_size: int) -> dict[str, tuple[int, ...]]:
    shape = (spec.num_layers, batch_size, spec.num_hiddens)
    return dict.fromkeys(find_cell(spec.cell).states, shape)


def _point(root: Path, name: str, target: str) -> None:
    """Lets ``root/name`` name the checkpoint `target`, from one moment to the next."""
    path, beside = root / name, root / f"{_TEMPORARY}{name}"
    _remove(beside)
    try:
        os.symlink(target, beside, target_is_directory=True)
    except (OSError, NotImplementedError):
        write_atomically(path, target.encode())
        return
    if path.is_dir() and not path.is_symlink():
        # A copy of a run can have a folder in place of the link.
        os.rename(path, _new_folder(root) / name)
    os.replace(beside, path)
    for file in (_MODEL, _RUN) if name == LATEST else ():
        if not os.path.lexists(root / file):
            os.symlink(os.path.join(LATEST, file), root / file)
    sync_folder(root)


def _drop_others(root: Path, found: dict[Path, Run], newest: Path, keep: int) -> None:
    """Removes what is not to be kept of `found`, and lets ``best`` name the best of what stays."""
    mine = {path: run for path, run in found.items() if run.identity == found[newest].identity}
    foreign = [path for path in found if path not in mine]
    by_age = sorted(mine, key=lambda path: (path == newest, mine[path].step, path.name))
    scored = [path for path in by_age if mine[path].position.part is None and mine[path].position.epochs]
    kept = set(by_age[-keep:])
    if scored:
        # Of equals the older: it took less training.
        best = min(scored, key=lambda path: mine[path].position.epochs[-1].val_perplexity)
        kept.add(best)
        if _target(root / BEST) != best.name:
            _point(root, BEST, best.name)
    elif os.path.lexists(root / BEST):
        _remove(root / BEST)
    for path in [*foreign, *(path for path in by_age if path not in kept)]:
        # Under a name that the next save sweeps away: a kill in the middle leaves no half of a checkpoint.
        aside = root / f"{_TEMPORARY}{path.name}"
        os.rename(path, aside)
        shutil.rmtree(aside)


def _checkpoint_of(folder: Path) -> Path:
    """The checkpoint that a folder is or names."""
    name = _target(folder / LATEST)
    if name is None:
        if folder.name in (LATEST, BEST) and not (folder / _RUN).is_file():
            name, folder = _target(folder), folder.parent
        if name is None:
            if (folder / _RUN).is_file():
                return folder
            if os.path.lexists(folder):
                raise RunError(f"{folder} holds no saved run: give the folder that d2lrnn train --out wrote")
            raise RunError(f"{folder} does not exist: make a run with d2lrnn train --out {folder}")
    if name != LATEST and not _CHECKPOINT.fullmatch(name):
        raise RunError(f"{folder / LATEST} names {name[:60]!r}, which is no checkpoint")
    return folder / name


def _target(pointer: Path) -> str | None:
    """What ``latest`` or ``best`` names; None where there is none."""
    with suppress(OSError, ValueError):
        if pointer.is_symlink():
            return os.readlink(pointer)
        if pointer.is_dir():
            return pointer.name
        if pointer.stat().st_size <= _MAX_SUMS_BYTES and stat.S_ISREG(pointer.stat().st_mode):
            return pointer.read_text(encoding="utf-8").strip()
    return None


def _describe_only(checkpoint: Path) -> Run:
    """The run of a checkpoint without its arrays."""
    return _parsed(checkpoint / _RUN, _read_file(checkpoint / _RUN, _MAX_RUN_BYTES)).run


def _load(checkpoint: Path) -> Run:
    content = _read_file(checkpoint / _RUN, _MAX_RUN_BYTES)
    sums = _read_sums(checkpoint / _SUMS)
    if sums:
        if sums.get(_RUN) != hashlib.sha256(content).hexdigest():
            raise RunError(f"{checkpoint / _RUN} is damaged: its digest is not the one in {_SUMS}")
        _check_digest(checkpoint / _MODEL, sums.get(_MODEL))
    parsed = _parsed(checkpoint / _RUN, content)
    run = parsed.run
    if parsed.digest is not None:
        _check_digest(checkpoint / _MODEL, parsed.digest)
    elif set(sums) != parsed.files:
        raise RunError(f"{checkpoint / _SUMS} is damaged: it must list {', '.join(sorted(parsed.files))}")
    shapes, dtype = parameter_shapes(run.model), run.model.dtype
    run = replace(run, parameters=read_safetensors(checkpoint / _MODEL, shapes, dtype))
    # Format 1 has no digest of other files, and no other files.
    if _OPTIMIZER in parsed.files and run.training is not None:
        _check_digest(checkpoint / _OPTIMIZER, sums.get(_OPTIMIZER))
        slots = slot_shapes(run.training.optimizer, shapes)
        run = replace(run, optimizer_state=read_safetensors(checkpoint / _OPTIMIZER, slots, dtype))
    part, data = run.position.part, run.data
    if _STATE in parsed.files and part is not None and data is not None:
        _check_digest(checkpoint / _STATE, sums.get(_STATE))
        state_shapes = _state_shapes(run.model, data.batch_size)
        state = tuple(read_safetensors(checkpoint / _STATE, state_shapes, dtype).values())
        run = replace(run, position=replace(run.position, part=replace(part, state=state)))
    return run


class _Parsed(NamedTuple):
    """A run without its arrays, the files that must lie beside it, and in format 1 the model's digest."""

    run: Run
    files: set[str]
    digest: str | None


def _parsed(path: Path, content: bytes) -> _Parsed:
    try:
        document = parse(content, _size(path.with_name(_MODEL)))
        run = read_run(document)
        files = {_MODEL, _RUN}
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


def _read_sums(path: Path) -> dict[str, str]:
    """Names to digests; none where there is no such file, as in format 1."""
    if not os.path.lexists(path):
        return {}
    lines = _read_file(path, _MAX_SUMS_BYTES).decode("ascii", "replace").splitlines()
    matches = [_SUM.fullmatch(line) for line in lines]
    if not lines or not all(matches):
        raise RunError(f"{path} is damaged: its lines must be a digest, two spaces and a name")
    return {match[2]: match[1] for match in matches if match}


def _check_digest(path: Path, digest: str | None) -> None:
    _check_regular(path)
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}") from error
    if found.hexdigest() != digest:
        raise RunError(f"{path} is damaged: its digest is not the one that was saved with it")


def _size(path: Path) -> int:
    _check_regular(path)
    return path.stat().st_size


def _read_file(path: Path, most: int) -> bytes:
    _check_regular(path)
    try:
        if path.stat().st_size > most:
            raise RunError(f"{path} is damaged: it has more than {most:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}") from error


def _check_regular(path: Path) -> None:
    """A checkpoint's files lie in its folder: not a pipe that never ends, not a link to somewhere else."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}") from error
    if not stat.S_ISREG(mode) or path.resolve().parent != path.parent.resolve():
        raise RunError(f"{path} is damaged: it must be a file, and is a link, a folder or a device")


def _free_name(root: Path, step: int) -> Path:
    """A folder name for this step that is not taken: by an earlier run in the same place, say."""
    path, count = root / f"step-{step:08d}", 1
    while os.path.lexists(path):
        count += 1
        path = root / f"step-{step:08d}-{count}"
    return path


def _new_folder(root: Path) -> Path:
    """An empty folder that the next save sweeps away; not mkdtemp's, which only their owner may read."""
    path = root / f"{_TEMPORARY}{uuid.uuid4().hex}"
    path.mkdir()
    return path


def _remove(path: Path) -> None:
    """A file, a link or a folder; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
