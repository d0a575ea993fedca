"""A translator on disk: its newest checkpoint, checked like a language model's (`d2lrnn.saving.checkpoint`).

The folder of a run has one checkpoint, ``epoch-00000012``, with ``translator.json``, ``model.safetensors``,
where needed ``optimizer.safetensors``, and ``SHA256SUMS``. A newer one is written beside it and takes its
place when it is whole; what the library did not write stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.atomic_files import sync_folder
from d2lrnn.contract.optimizers import slot_shapes
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import FloatArray
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import OccupiedError, RunError, reason_of
from d2lrnn.saving.checkpoint import opened, read_file, read_sums, write_synced
from d2lrnn.saving.json_fields import check_names, check_type, decode
from d2lrnn.saving.run import new_identity
from d2lrnn.saving.run_document import read_record, read_training
from d2lrnn.saving.run_folder import hold_folder
from d2lrnn.saving.tensor_files import read_safetensors, to_safetensors
from d2lrnn.training.history import EpochRecord, record_to_json
from d2lrnn.translation.pairs import MARKS, PairSpec
from d2lrnn.translation.spec import TranslatorSpec, translator_shapes

_FORMAT = 1
_DESCRIPTION, _MODEL, _OPTIMIZER, _SUMS = (
    "translator.json", "model.safetensors", "optimizer.safetensors", "SHA256SUMS",
)  # fmt: skip
_FILES = {_DESCRIPTION, _MODEL, _OPTIMIZER, _SUMS}
_CHECKPOINT = re.compile(r"epoch-(\d{8})")
_TEMPORARY = ".translator-"
_MAX_DESCRIPTION = 1 << 26
#: How often is looked again where a newer checkpoint took the place of the one that was being read.
_ATTEMPTS = 5


@dataclass(frozen=True)
class TranslatorRun:
    """A translator and its training so far.

    Attributes:
        spec: what it computes.
        pairs: what it is trained on.
        training: how.
        parameters: by canonical name.
        optimizer_state: by canonical name.
        vocabs: of source and target.
        digest: that of the pairs, `PairCorpus.digest`.
        num_epochs: how many epochs it is to have.
        step: training steps taken.
        epochs: a record of every epoch.
        backend: the name of the backend that trained it last.
        identity: tells this run from others.
    """

    spec: TranslatorSpec
    pairs: PairSpec
    training: TrainingSpec
    parameters: dict[str, FloatArray] = field(repr=False)
    optimizer_state: dict[str, FloatArray] = field(repr=False)
    vocabs: tuple[Vocab, Vocab]
    digest: str
    num_epochs: int
    step: int = 0
    epochs: tuple[EpochRecord, ...] = ()
    backend: str = ""
    identity: str = field(default_factory=new_identity)


def save_translator(run: TranslatorRun, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes a checkpoint into a run's folder, which is made where it is missing; the older one goes.

    Args:
        run: what to write.
        folder: the run's folder.
        overwrite: whether another run in this folder goes when this one is whole.

    Raises:
        OccupiedError: the folder holds another run, and `overwrite` is false.
        BusyError: another process is training in this folder.
        RunError: it cannot be written, or a parameter is not finite; what was there before is untouched.
    """
    for name, values in (run.parameters | run.optimizer_state).items():
        if not np.isfinite(values).all():
            raise RunError(f"{name} is not finite: training has diverged, and such a run is not saved")
    with hold_folder(folder) as root:
        check_translator_folder(root, run, overwrite=overwrite)
        for left in root.glob(_TEMPORARY + "*"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = root / f"{_TEMPORARY}{uuid.uuid4().hex}"
        older = list(_newest_first(root))
        try:
            temporary.mkdir()
            sums = ""
            for name, content in _contents(run):
                write_synced(temporary / name, content)
                sums += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
            write_synced(temporary / _SUMS, sums.encode())
            sync_folder(temporary)
            target = root / f"epoch-{len(run.epochs):08d}"
            if target in older:
                # Of the same epoch: out of the way, and gone with the others.
                aside = root / f"{_TEMPORARY}{uuid.uuid4().hex}"
                os.rename(target, aside)
                older = [aside if path == target else path for path in older]
            os.rename(temporary, target)
            sync_folder(root)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise RunError(f"the run cannot be written to {root}: {reason_of(error)}") from error
        for path in older:
            shutil.rmtree(path, ignore_errors=True)


def check_translator_folder(folder: Path, run: TranslatorRun, *, overwrite: bool = False) -> None:
    """Checks before a training that it can be saved here.

    Raises:
        OccupiedError: the folder holds another run, and `overwrite` is false; or it holds a language model's,
            which a translator's never replaces.
    """
    others = [name for name in ("latest", "best", "run.json") if os.path.lexists(folder / name)]
    newest = next(_newest_first(folder), None)
    if newest is not None and not overwrite and _identity_of(newest) != run.identity:
        others.append(newest.name)
    if others:
        raise OccupiedError(f"{folder} holds another run ({others[0]}): choose another folder")


def _identity_of(checkpoint: Path) -> object:
    """None where it cannot be read."""
    try:
        return _read_description(checkpoint).get("identity")
    except RunError:
        return None


def load_translator(folder: str | os.PathLike[str]) -> TranslatorRun:
    """Reads a run, and checks all of it.

    Raises:
        RunError: there is none, or it is damaged.
    """
    root = Path(folder)
    for attempt in range(_ATTEMPTS):
        checkpoint = next(_newest_first(root), None)
        if checkpoint is None:
            raise RunError(
                f"{root} holds no translator: give the folder that d2lrnn translate train --out wrote"
            )
        try:
            return _read(checkpoint)
        except RunError:
            # A newer one may have taken its place meanwhile.
            if attempt == _ATTEMPTS - 1 or next(_newest_first(root), None) == checkpoint:
                raise
    raise AssertionError("the last attempt returns or raises")


def _newest_first(root: Path) -> Iterator[Path]:
    """The checkpoints of a folder; a folder of somebody else's with such a name is none."""
    try:
        names = sorted((name for name in os.listdir(root) if _CHECKPOINT.fullmatch(name)), reverse=True)
    except OSError:
        return
    for name in names:
        path = root / name
        if path.is_dir() and not path.is_symlink() and set(os.listdir(path)) <= _FILES:
            yield path


def _contents(run: TranslatorRun) -> Iterator[tuple[str, bytes]]:
    yield _MODEL, to_safetensors(run.parameters)
    if run.optimizer_state:
        yield _OPTIMIZER, to_safetensors(run.optimizer_state)
    document = {
        "format": _FORMAT,
        "identity": run.identity,
        "spec": run.spec.to_json(),
        "pairs": run.pairs.to_json(),
        "training": run.training.to_json(),
        "source_tokens": run.vocabs[0].to_json(),
        "target_tokens": run.vocabs[1].to_json(),
        "digest": run.digest,
        "num_epochs": run.num_epochs,
        "step": run.step,
        "epochs": [record_to_json(record) for record in run.epochs],
        "backend": run.backend,
    }
    yield _DESCRIPTION, json.dumps(document, indent=1, allow_nan=False).encode()


def _read_description(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / _DESCRIPTION
    content = read_file(path, _MAX_DESCRIPTION)
    if read_sums(checkpoint / _SUMS).get(_DESCRIPTION) != hashlib.sha256(content).hexdigest():
        raise RunError(f"{path} is damaged: its digest is not the one in {_SUMS}")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise RunError(f"{path} is not of a format that this version of d2lrnn reads")
    return document


_NAMES = [
    "format", "identity", "spec", "pairs", "training", "source_tokens", "target_tokens", "digest",
    "num_epochs", "step", "epochs", "backend",
]  # fmt: skip


def _read(checkpoint: Path) -> TranslatorRun:
    document = _read_description(checkpoint)
    path, sums = checkpoint / _DESCRIPTION, read_sums(checkpoint / _SUMS)
    try:
        check_names(document, _NAMES, "the document")
        spec = decode(TranslatorSpec, document["spec"], "the translator")
        pairs = decode(PairSpec, document["pairs"], "the pairs")
        training = read_training(document["training"], "the training")
        vocabs = Vocab.from_json(document["source_tokens"]), Vocab.from_json(document["target_tokens"])
        records = check_type(list, document["epochs"], "the epochs")
        epochs = tuple(read_record(record, number) for number, record in enumerate(records, start=1))
        num_epochs, step = (check_type(int, document[name], name) for name in ("num_epochs", "step"))
        identity, backend, digest = (
            check_type(str, document[name], name) for name in ("identity", "backend", "digest")
        )
        if (len(vocabs[0]), len(vocabs[1])) != (spec.source_size, spec.target_size):
            raise RunError("its vocabularies are not of the sizes that the translator has")
        if any(mark not in vocab for vocab in vocabs for mark in MARKS):
            raise RunError(f"a vocabulary lacks one of {', '.join(MARKS)}")
    except (RunError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
    shapes = translator_shapes(spec)
    slots = slot_shapes(training.optimizer, shapes)
    parameters = _arrays(checkpoint / _MODEL, shapes, spec, sums)
    state = _arrays(checkpoint / _OPTIMIZER, slots, spec, sums) if slots else {}
    return TranslatorRun(
        spec, pairs, training, parameters, state, vocabs, digest, num_epochs, step, epochs, backend, identity
    )


def _arrays(
    path: Path, shapes: dict[str, tuple[int, ...]], spec: TranslatorSpec, sums: dict[str, str]
) -> dict[str, FloatArray]:
    with opened(path) as file:
        return read_safetensors(file, path, shapes, spec.dtype, sums.get(path.name))
