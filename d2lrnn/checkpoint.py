"""Saved runs: a model with all that is needed to use it again, whatever framework trained it.

A run is a folder::

    run/
      latest               the name of the newest whole checkpoint
      step-00001000/
        model.safetensors  the parameters, canonical names and layout (`d2lrnn.parameters`)
        run.json           the specifications, the vocabulary, the history, versions, a digest of the model

A checkpoint is written beside, synced, and renamed; ``latest`` names it only when it is whole, and only then
does the one before it go. Whatever happens in between, the folder holds a whole checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from d2lrnn.adapter import Backend, FloatArray, Model, ModelSpec, TrainingSpec
from d2lrnn.atomic import sync_folder, write_atomically
from d2lrnn.data_spec import DataSpec
from d2lrnn.errors import RunError, reason_of
from d2lrnn.parameters import check_parameters
from d2lrnn.vocab import Vocab

#: The version of the layout above, written into every run.json.
FORMAT_VERSION = 1

_LATEST = "latest"
_MODEL = "model.safetensors"
_RUN = "run.json"
_CHECKPOINT = re.compile(r"step-\d{8}(-\d+)?")
_TEMPORARY = ".writing-"


@dataclass(frozen=True)
class Run:
    """A trained model and where it came from.

    Attributes:
        model: which function it computes.
        parameters: canonical names to arrays.
        vocab: what its tokens are.
        data: the text and the iterator that it was trained on.
        training: rate, clipping, seed.
        step: training steps taken.
        history: one object an epoch, as `History.to_json` gives them.
        backend: the name of the backend that trained it.
        versions: of what computed, by package.
    """

    model: ModelSpec
    parameters: dict[str, FloatArray] = field(repr=False)
    vocab: Vocab
    data: DataSpec
    training: TrainingSpec
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    backend: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def build(self, backend: Backend) -> Model:
        """The model on a backend, which need not be the one that trained it."""
        return backend.build(self.model, self.parameters)


def save_run(run: Run, folder: str | os.PathLike[str]) -> Path:
    """Writes a checkpoint into a run's folder, which is made where it is missing.

    Args:
        run: what to write.
        folder: the run's folder. A checkpoint in it goes when this one is whole, and not before.

    Returns:
        The checkpoint's own folder.

    Raises:
        RunError: it cannot be written; what was there before is untouched.
    """
    root = prepare_folder(folder)
    temporary: Path | None = None
    try:
        for orphan in root.glob(_TEMPORARY + "*"):
            shutil.rmtree(orphan)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=root))
        # safetensors writes wrong bytes, without a word, for arrays that are not C-contiguous.
        arrays = {name: np.ascontiguousarray(value) for name, value in run.parameters.items()}
        model = safetensors.numpy.save(arrays)
        _write_synced(temporary / _MODEL, model)
        _write_synced(temporary / _RUN, _describe(run, hashlib.sha256(model).hexdigest()))
        sync_folder(temporary)
        checkpoint = _free_name(root, run.step)
        os.rename(temporary, checkpoint)
        write_atomically(root / _LATEST, checkpoint.name.encode())
        for other in root.iterdir():
            if _CHECKPOINT.fullmatch(other.name) and other != checkpoint and (other / _RUN).is_file():
                shutil.rmtree(other)
    except OSError as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(f"the run cannot be written to {root}: {reason_of(error)}. Nothing was lost: "
                       "what the folder held before is still there") from error  # fmt: skip
    return checkpoint


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Reads a run.

    Args:
        folder: a run's folder, or one checkpoint in it.

    Raises:
        RunError: there is none, or it is damaged: the message says in which file, and what is wrong.
    """
    checkpoint = _newest(Path(folder))
    document = _read_document(checkpoint / _RUN)
    try:
        stored = (checkpoint / _MODEL).read_bytes()
    except OSError as error:
        raise RunError(f"{checkpoint / _MODEL} cannot be read: {reason_of(error)}") from error
    try:
        if hashlib.sha256(stored).hexdigest() != document["digests"][_MODEL]:
            raise RunError(f"{checkpoint / _MODEL} is damaged: its digest is not the one in {_RUN}")
        spec = ModelSpec(**document["model"])
        parameters = check_parameters(spec, safetensors.numpy.load(stored))
        return Run(
            model=spec,
            parameters=parameters,
            vocab=Vocab.from_json(document["vocabulary"]),
            data=DataSpec(**document["data"]),
            training=TrainingSpec(**document["training"]),
            step=int(document["step"]),
            history=list(document["history"]),
            backend=str(document["backend"]),
            versions=dict(document["versions"]),
        )
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        if isinstance(error, RunError):
            raise
        why = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(f"the run in {checkpoint} is damaged: {why}") from error


def prepare_folder(folder: str | os.PathLike[str]) -> Path:
    """Makes a run's folder, so that a long training does not end at a folder that cannot be written.

    Raises:
        RunError: it cannot be made or written to.
    """
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {root} cannot be made: {reason_of(error)}") from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise RunError(f"the folder {root} cannot be written to: choose another")
    return root


def _describe(run: Run, digest: str) -> bytes:
    document = {
        "format": FORMAT_VERSION,
        "model": run.model.to_json(),
        "training": run.training.to_json(),
        "data": run.data.to_json(),
        "vocabulary": run.vocab.to_json(),
        "step": run.step,
        "history": run.history,
        "backend": run.backend,
        "versions": run.versions,
        "digests": {_MODEL: digest},
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT_VERSION:
        raise RunError(f"{path} is not a run of format {FORMAT_VERSION}, which is what this version reads")
    return document


def _newest(folder: Path) -> Path:
    """The checkpoint that a folder is or names."""
    if (folder / _RUN).is_file():
        return folder
    try:
        name = (folder / _LATEST).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        there = "is no saved run" if folder.exists() else "does not exist"
        raise RunError(f"{folder} {there}: make one with d2lrnn train --out {folder}") from None
    if not _CHECKPOINT.fullmatch(name):
        raise RunError(f"{folder / _LATEST} names {name!r}, which is no checkpoint")
    return folder / name


def _free_name(root: Path, step: int) -> Path:
    """A folder name for this step that is not taken: by an earlier run in the same place, say."""
    path, count = root / f"step-{step:08d}", 1
    while path.exists():
        count += 1
        path = root / f"step-{step:08d}-{count}"
    return path


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
