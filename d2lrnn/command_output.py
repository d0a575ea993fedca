"""What the commands tell: lines for a person, JSON for a program."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from d2lrnn.adapter import Backend, Device, ModelSpec
from d2lrnn.atomic import write_atomically
from d2lrnn.errors import RunError, reason_of
from d2lrnn.registry import ENVIRONMENT_VARIABLE
from d2lrnn.text import Unit


def describe_backend(chosen: Backend, device: Device) -> str:
    """The backend in one line: its name, versions, device, and how it was chosen."""
    versions = ", ".join(f"{package} {version}" for package, version in chosen.versions().items())
    asked = os.environ.get(ENVIRONMENT_VARIABLE)
    how = "" if asked else f", the first installed ({ENVIRONMENT_VARIABLE} is not set)"
    return f"backend  {chosen.name} ({versions}) on {device.name}{how}"


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


def check_json(path: str | None) -> None:
    """Finds out before the work whether ``--json`` can be written after it.

    Raises:
        RunError: it cannot.
    """
    if path is None:
        return
    parent = Path(path).absolute().parent
    if Path(path).is_dir():
        raise RunError(f"--json {path} is a folder: give the name of a file")
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunError(f"--json {path} cannot be written: there is no folder {parent} that can be written to")


def write_json(path: str | None, result: dict[str, Any]) -> None:
    """Writes what ``--json`` asks for; nothing where it was not given.

    Raises:
        RunError: it cannot be written.
    """
    if path is None:
        return
    try:
        write_atomically(Path(path).absolute(), (json.dumps(result, indent=1) + "\n").encode())
    except OSError as error:
        raise RunError(f"--json {path} cannot be written: {reason_of(error)}") from error
