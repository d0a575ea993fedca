"""Saved runs on disk: never torn, never lost.

A run is a folder::

    run/
      latest -> step-00001000
      best   -> step-00000900        the lowest validation perplexity of the checkpoints
      model.safetensors, run.json    those of the newest checkpoint, for other programs to find
      history.jsonl                  its epochs, a line each (`d2lrnn.saving.history_file`)
      config.toml                    what describes it, if ``d2lrnn train`` wrote it (`d2lrnn.cli.config`)
      step-00000900/ …               checkpoints (`d2lrnn.saving.checkpoint`)
      step-00001000/

A checkpoint is written beside, synced, and renamed; ``latest`` names it only when it is whole, and only then
do older ones go. Whatever happens in between, a kill or a full disk, the folder holds a whole checkpoint.
One process at a time writes (`d2lrnn.saving.locks`); who reads follows ``latest`` or ``best`` once, and finds
the checkpoint by itself where the name is gone. Where a file system has no symbolic links, ``latest`` and
``best`` are files with the name.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from d2lrnn.atomic_files import sync_folder, write_atomically
from d2lrnn.checks import whole_number
from d2lrnn.errors import (
    KindError,
    LeftoverWarning,
    MissingCellError,
    OccupiedError,
    RunError,
    reason_of,
)
from d2lrnn.saving.checkpoint import (
    DESCRIPTION,
    MODEL,
    check_savable,
    is_checkpoint,
    read_checkpoint,
    read_description,
    write_checkpoint,
)
from d2lrnn.saving.history_file import HISTORY, is_history, write_history
from d2lrnn.saving.locks import LOCK, locked
from d2lrnn.saving.run import Run
from d2lrnn.training.history import EpochRecord

LATEST, BEST = "latest", "best"
CONFIG = "config.toml"
#: The first line of a run's `CONFIG`.
CONFIG_MARK = "# The specification of a saved run: d2lrnn train --config FILE trains it anew."

_CHECKPOINT = re.compile(r"step-(\d{8,19})(?:-(\d{1,9}))?")
_TEMPORARY = ".writing-"
_MAX_POINTER_BYTES = 1 << 12
#: How often a reader looks again when the checkpoint that it was reading went away.
_ATTEMPTS = 100


def save_run(run: Run, folder: str | os.PathLike[str], *, keep: int = 1, overwrite: bool = False) -> Path:
    """Writes a checkpoint into a run's folder, which is made where it is missing, and then the history.

    What the library did not write is left as it is. A checkpoint that was written counts as written: what is
    to go and cannot be removed is left, with a `LeftoverWarning`; so is a history that cannot be replaced.

    Args:
        run: what to write.
        folder: the run's folder.
        keep: how many of the run's newest checkpoints stay, this one among them; the best one by validation
            stays in any case.
        overwrite: whether the checkpoints in this folder that did not lead to this one go when it is whole:
            those of another run, and those of the same run after the one that it was resumed from.

    Returns:
        The checkpoint's own folder.

    Raises:
        SpecError: `keep` is no whole number above 0.
        KindError: this is no `Run`, but a model or a learner, say.
        OccupiedError: the newest checkpoint in the folder did not lead to this one, and `overwrite` is false.
        BusyError: another process is training in this folder.
        RunError: it cannot be written; what was there before is untouched.
    """
    if not isinstance(run, Run):
        raise KindError(
            f"save_run takes a d2lrnn.saving.run.Run, and this is a {type(run).__name__}: a model alone is "
            "saved by d2lrnn.save(model, folder)"
        )
    keep = whole_number("the number of checkpoints to keep", keep)
    with hold_folder(folder) as root:
        _check_own(root, run, overwrite=overwrite)
        _sweep(root.glob(_TEMPORARY + "*"))
        temporary: Path | None = None
        try:
            temporary = _new_folder(root)
            write_checkpoint(run, temporary)
            checkpoint = _free_name(root, run.step)
            os.rename(temporary, checkpoint)
            _point(root, LATEST, checkpoint.name)
        except BaseException as error:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            raise RunError(f"the run cannot be written to {root}: {reason_of(error)}. Nothing was lost: "
                           "what the folder held before is still there") from error  # fmt: skip
        _keep_history(root, run)
        _drop_others(root, run, checkpoint, keep, overwrite=overwrite)
    return checkpoint


def mend_history(folder: str | os.PathLike[str]) -> None:
    """Makes ``history.jsonl`` that of the newest checkpoint: a kill may have come between the two.

    Where the folder holds no run that can be read, or is a checkpoint that lies alone, nothing is done.

    Args:
        folder: the run's folder, which this process holds and has checked (`hold_folder`, `check_folder`).
    """
    root = Path(folder)
    if not os.path.lexists(root / LATEST):
        return
    try:
        newest = read_description(find_checkpoint(root))
    except RunError:
        return
    _keep_history(root, newest)


def _keep_history(root: Path, run: Run) -> None:
    try:
        write_history(root / HISTORY, run.position.epochs, root / f"{_TEMPORARY}{uuid.uuid4().hex}")
    except OSError as error:
        _say_left(root / HISTORY, error, "replaced")


def check_config(folder: str | os.PathLike[str]) -> None:
    """Checks before a training that `save_config` replaces nothing of somebody else's.

    Raises:
        RunError: it would.
    """
    path = Path(folder) / CONFIG
    try:
        is_own = stat.S_ISREG(os.lstat(path).st_mode) and path.read_bytes().startswith(CONFIG_MARK.encode())
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}") from error
    if not is_own:
        raise RunError(f"{path} is no file of a saved run: give it another name, or choose another folder")


def save_config(folder: str | os.PathLike[str], text: str) -> None:
    """Makes ``config.toml`` say this, which begins with `CONFIG_MARK`; nothing in a saved run reads it back.

    Args:
        folder: the run's folder, which this process holds and has checked (`hold_folder`, `check_config`).
        text: what describes the run.
    """
    path, content = Path(folder) / CONFIG, text.encode()
    try:
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content, path.parent / f"{_TEMPORARY}{uuid.uuid4().hex}")
    except OSError as error:
        _say_left(path, error, "replaced")


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds a run or a checkpoint, whole or not, or a training that saves here has begun.

    Example:
        >>> is_run_folder(Path("no such folder"))
        False
    """
    names = (LATEST, DESCRIPTION, LOCK)
    return any(os.path.lexists(folder / name) for name in names) or any(_newest_first(folder))


def load_run(folder: str | os.PathLike[str], *, best: bool = False) -> Run:
    """Reads a run, and checks all of it.

    Args:
        folder: a run's folder, for its newest checkpoint; its ``best``; or one checkpoint in it.
        best: whether a run's folder stands for its best checkpoint by validation, once an epoch has ended.

    Raises:
        RunError: there is none, or it is damaged: the message says in which file, and what is wrong.
        MissingCellError: its cell comes from a package that is not installed here.
    """
    return _read(Path(folder), read_checkpoint, best=best)


def load_description(folder: str | os.PathLike[str]) -> Run:
    """Reads a run without its arrays: its specifications and its epochs.

    Args:
        folder: as for `load_run`.

    Raises:
        RunError: as `load_run`; the arrays are not looked at.
        MissingCellError: its cell comes from a package that is not installed here.
    """
    return _read(Path(folder), read_description)


def _read(asked: Path, read: Callable[[Path], Run], *, best: bool = False) -> Run:
    for attempt in range(_ATTEMPTS):
        checkpoint = find_checkpoint(asked, best=best)
        before = _state_of(checkpoint)
        try:
            return read(checkpoint)
        except MissingCellError:
            raise
        except RunError as error:
            # A training run may have put a newer one in its place while this one was read.
            if attempt == _ATTEMPTS - 1 or (checkpoint, before) == (
                find_checkpoint(asked, best=best),
                _state_of(checkpoint),
            ):
                raise RunError(f"{error}{_hint(checkpoint)}") from error
    raise AssertionError("the last attempt returns or raises")


def find_checkpoint(folder: Path, *, best: bool = False) -> Path:
    """The checkpoint that a folder is or names, with every link resolved once.

    Args:
        folder: as for `load_run`.
        best: as for `load_run`.

    Raises:
        RunError: there is none.
    """
    if folder.name in (LATEST, BEST):
        name = _target(folder)
        if _CHECKPOINT.fullmatch(name) if name else any(_newest_first(folder.parent)):
            return _named(folder.parent, folder.name)
    if os.path.lexists(folder / LATEST) or any(_newest_first(folder)):
        return _named(folder, BEST if best else LATEST)
    if os.path.lexists(folder / DESCRIPTION):
        return Path(os.path.realpath(folder)) if folder.is_symlink() else folder
    if os.path.lexists(folder):
        raise RunError(f"{folder} holds no saved run: give the folder that d2lrnn train --out wrote")
    raise RunError(f"{folder} does not exist: make a run with d2lrnn train --out {folder}")


def run_folder_of(folder: Path) -> Path:
    """Where a run is saved that is read from `folder`: for a checkpoint that lies alone, the checkpoint.

    Raises:
        RunError: there is no run.
    """
    checkpoint = find_checkpoint(folder)
    parent = checkpoint.parent
    # A copy of one checkpoint can lie in any folder, which is no run for that.
    is_run = os.path.lexists(parent / LATEST) or os.path.samefile(folder, parent)
    is_named = _CHECKPOINT.fullmatch(checkpoint.name) or checkpoint.name in (LATEST, BEST)
    return parent if is_run and is_named else checkpoint


def kept_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints beside the one that a folder is or names, the oldest first; of one that lies alone, it.

    They need not be whole, nor of the same run.

    Raises:
        RunError: there is no run.
    """
    root = run_folder_of(folder)
    return list(_newest_first(root))[::-1] or [root]


@contextmanager
def hold_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Makes a run's folder, and holds it: meanwhile no other process trains there.

    Raises:
        BusyError: another process does.
        RunError: it cannot be made or written to.
    """
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {root} cannot be made: {reason_of(error)}") from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise RunError(f"the folder {root} cannot be written to: choose another")
    with locked(root):
        yield root


def check_folder(folder: str | os.PathLike[str], run: Run, *, overwrite: bool = False) -> None:
    """Checks before a training that it can be saved, so that it does not end at its first checkpoint.

    Args:
        folder: the run's folder, see `hold_folder`.
        run: what is to be saved.
        overwrite: as for `save_run`.

    Raises:
        OccupiedError: as `save_run`.
        RunError: such a run could not be read again, or a file of somebody else has the name of one of a
            run's.
    """
    _check_own(Path(folder), run, overwrite=overwrite)
    check_savable(run)


def _check_own(root: Path, run: Run, *, overwrite: bool) -> None:
    for name in (LATEST, BEST):
        if os.path.lexists(root / name) and not _is_own_pointer(root / name):
            raise RunError(f"{root / name} is no file of a saved run: choose another folder")
    if os.path.lexists(root / HISTORY) and not is_history(root / HISTORY):
        raise RunError(
            f"{root / HISTORY} is no file of a saved run: give it another name, or choose another folder"
        )
    newest = None if overwrite else next(_newest_first(root), None)
    if newest is None:
        return
    with suppress(RunError):
        newest = find_checkpoint(root)
    try:
        leads_here = _leads_to(read_description(newest), run)
    except RunError:
        leads_here = False
    if not leads_here:
        raise OccupiedError(
            f"{root} holds another run, or a later part of this one: choose another folder, or pass "
            "overwrite=True"
        )


def _leads_to(earlier: Run, run: Run) -> bool:
    """Whether a checkpoint is of the same run, at this step or on the way to it."""
    count = len(earlier.position.epochs)
    return (
        earlier.identity == run.identity
        and earlier.step <= run.step
        and _numbers(earlier.position.epochs) == _numbers(run.position.epochs[:count])
    )


def _numbers(epochs: Sequence[EpochRecord]) -> str:
    """What is the same in an epoch that is trained again, as after a kill, at another speed.

    As text: a number may be a NaN, which equals nothing.
    """
    return repr([replace(record, tokens_per_second=0.0) for record in epochs])


def _is_own_pointer(path: Path) -> bool:
    """Whether a ``latest`` or ``best`` is one that `save_run` made, or a checkpoint copied in its place."""
    if path.is_dir() and not path.is_symlink():
        return is_checkpoint(path)
    name = _target(path)
    return name is not None and (not name or _CHECKPOINT.fullmatch(name) is not None)


def _hint(damaged: Path) -> str:
    """Where an older checkpoint lies, for someone whose newest one cannot be read."""
    with suppress(OSError):
        for other in _newest_first(damaged.parent):
            if not os.path.samefile(other, damaged):
                return f". There is another checkpoint: {other}"
    return ""


def _newest_first(root: Path) -> Iterator[Path]:
    """The checkpoints in a folder, whole or not, by their names."""
    found = []
    with suppress(OSError):
        for path in root.iterdir():
            match = _CHECKPOINT.fullmatch(path.name)
            if match and os.path.lexists(path / DESCRIPTION):
                found.append((int(match[1]), int(match[2] or 1), path))
    for _, _, path in sorted(found, reverse=True):
        yield path


def _named(root: Path, pointer: str) -> Path:
    """The checkpoint that ``latest`` or ``best`` names, or should."""
    for _ in range(_ATTEMPTS):
        name = _target(root / pointer)
        if name == pointer or (name and _CHECKPOINT.fullmatch(name) and (root / name).is_dir()):
            return root / name
        # What it named may have gone since: then it names another one now.
        if name == _target(root / pointer):
            break
    whole = [path for path in _newest_first(root) if _is_whole(path)]
    best = _best({path: read_description(path) for path in whole}) if pointer == BEST else None
    if whole:
        return best or whole[0]
    if name and not _CHECKPOINT.fullmatch(name):
        raise RunError(f"{root / pointer} names {name[:60]!r}, which is no checkpoint")
    return next(_newest_first(root), root / (name or pointer))


def _is_whole(checkpoint: Path) -> bool:
    try:
        read_checkpoint(checkpoint)
    except MissingCellError:
        return True
    except RunError:
        return False
    return True


def _best(checkpoints: Mapping[Path, Run]) -> Path | None:
    """The one with the lowest validation perplexity, of those that end with an epoch."""
    # Of equals the older: it took less training.
    scored = [
        (run.position.epochs[-1].val_perplexity, run.step, path)
        for path, run in checkpoints.items()
        if run.position.part is None and run.position.epochs
    ]
    return min(scored)[-1] if scored else None


def _state_of(folder: Path) -> tuple[int, ...]:
    """What changes when another folder takes the place of one, or when it goes."""
    try:
        status = folder.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


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
    for file in (MODEL, DESCRIPTION) if name == LATEST else ():
        if not os.path.lexists(root / file):
            os.symlink(os.path.join(LATEST, file), root / file)
    sync_folder(root)


def _drop_others(root: Path, run: Run, newest: Path, keep: int, *, overwrite: bool) -> None:
    """Removes what is not to be kept, and lets ``best`` name the best of what stays."""
    mine, others = {newest: run}, []
    for path in _newest_first(root):
        # What cannot be read may be of use to someone who can mend it.
        with suppress(RunError):
            if path != newest and is_checkpoint(path):
                earlier = read_description(path)
                if _leads_to(earlier, run):
                    mine[path] = earlier
                else:
                    others.append(path)
    kept = set([*mine][:keep])
    try:
        best = _best(mine)
        if best is not None:
            kept.add(best)
            if _target(root / BEST) != best.name:
                _point(root, BEST, best.name)
        else:
            _remove(root / BEST)
    except OSError as error:
        _say_left(root / BEST, error, "replaced")
    for path in [*(others if overwrite else ()), *(path for path in mine if path not in kept)]:
        _drop(root, path)


def _drop(root: Path, path: Path) -> None:
    """Removes a checkpoint, under a name that the next save sweeps away: a kill leaves no half of one."""
    aside = root / f"{_TEMPORARY}{path.name}"
    try:
        if path.is_symlink():
            raise OSError("it is a link")
        os.rename(path, aside)
        shutil.rmtree(aside)
    except OSError as error:
        if is_checkpoint(aside):
            with suppress(OSError):
                os.rename(aside, path)
        _say_left(path, error)


def _sweep(leftovers: Iterable[Path]) -> None:
    for path in leftovers:
        try:
            _remove(path)
        except OSError as error:
            _say_left(path, error)


def _say_left(path: Path, error: OSError, what: str = "removed") -> None:
    warnings.warn(f"{path} cannot be {what}: {reason_of(error)}. It is left", LeftoverWarning, stacklevel=4)


def _target(pointer: Path) -> str | None:
    """What ``latest`` or ``best`` names; None where there is none."""
    with suppress(OSError, ValueError):
        if pointer.is_symlink():
            return os.readlink(pointer)
        if pointer.is_dir():
            return pointer.name
        status = pointer.stat()
        if status.st_size <= _MAX_POINTER_BYTES and stat.S_ISREG(status.st_mode):
            return pointer.read_text(encoding="utf-8").strip()
    return None


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
