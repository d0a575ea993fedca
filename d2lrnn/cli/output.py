"""What the commands tell: lines for a person, JSON for a program."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from d2lrnn.atomic_files import write_atomically
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import Device
from d2lrnn.data.corpus import Unit
from d2lrnn.errors import RunError, reason_of
from d2lrnn.registry import ENVIRONMENT_VARIABLE


def describe_backend(chosen: Backend, device: Device) -> str:
    """The backend in one line: its name, versions, device, and how it was chosen."""
    asked = os.environ.get(ENVIRONMENT_VARIABLE)
    how = "" if asked else f", the first installed ({ENVIRONMENT_VARIABLE} is not set)"
    return f"backend  {chosen.name} ({describe_versions(chosen)}) on {device.name}{how}"


def describe_versions(chosen: Backend) -> str:
    """What a backend computes with: ``numpy 2.1.0, …``."""
    return ", ".join(f"{package} {version}" for package, version in chosen.versions().items())


def describe_model(spec: ModelSpec) -> str:
    """A model in one line: ``scratch RNN, 1 layer of 32 hidden units, 28 symbols``."""
    layers = f"{spec.num_layers} layer{'s' if spec.num_layers > 1 else ''} of {spec.num_hiddens} hidden units"
    reset = "" if spec.reset_after is None else f" (reset {'after' if spec.reset_after else 'before'})"
    dropout = f", dropout {spec.dropout}" if spec.dropout else ""
    return f"{spec.implementation} {spec.cell.upper()}{reset}, {layers}{dropout}, {spec.vocab_size:,} symbols"


def describe_score(what: str, unit: Unit, perplexity: float, bits: float) -> str:
    """Perplexity and bits per token of one part of the text, in one line."""
    per = "character" if unit == "char" else "word"
    return f"{what:<11} perplexity {perplexity:.3f}, {bits:.3f} bits per {per}"


def check_writable(option: str, path: str | None) -> None:
    """Finds out before the work whether the file of an option can be written after it.

    Raises:
        RunError: it cannot.
    """
    if path is None:
        return
    parent = Path(path).absolute().parent
    if Path(path).is_dir():
        raise RunError(f"{option} {path} is a folder: give the name of a file")
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunError(
            f"{option} {path} cannot be written: there is no folder {parent} that can be written to"
        )


def write_json(path: str | None, result: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Writes what ``--json`` asks for; nothing where it was not given.

    Raises:
        RunError: it cannot be written.
    """
    if path is not None:
        write_output("--json", path, (json.dumps(result, indent=1) + "\n").encode())


def write_output(option: str, path: str, content: bytes) -> None:
    """Writes the file of an option, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    try:
        write_atomically(Path(path).absolute(), content)
    except OSError as error:
        raise RunError(f"{option} {path} cannot be written: {reason_of(error)}") from error
