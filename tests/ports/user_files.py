"""What a framework's own users do with its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from d2lrnn.ports.description import StackSpec


class Files(NamedTuple):
    """How a user writes a file of a module, and calls what is in one; and which stacks it can say."""

    save: Callable[[Any, Path], None]
    called: Callable[[Path, Any, Any], Any]
    holds: Callable[[StackSpec], bool]
