"""What a backend offers for the files of its framework: it reads them, writes them and loads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

from d2lrnn.checks import check_choice
from d2lrnn.ports.description import CELLS, Activation, StackSpec
from d2lrnn.ports.porter import Described, Module, PortingBackend
from d2lrnn.registry import porting


@dataclass(frozen=True)
class Hints:
    """What is known of a file from elsewhere; None where nothing is.

    Attributes:
        cell: of the layers: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        activation: of the candidate.
        reset_after: for a GRU, whether the reset gate is applied after the matrix product.
        batch_first: whether sequences are (B, T, n) to the layers' caller.
        prefix: what the names of the arrays of the layers begin with: ``"encoder.rnn."``.

    Raises:
        SpecError: there is no such cell or activation.
    """

    cell: str | None = None
    activation: Activation | None = None
    reset_after: bool | None = None
    batch_first: bool | None = None
    prefix: str | None = None

    def __post_init__(self) -> None:
        if self.cell is not None:
            check_choice("cell", self.cell, CELLS)
        if self.activation is not None:
            check_choice("activation", self.activation, get_args(Activation))


def hints_of(spec: StackSpec) -> Hints:
    """All that a file that was just written may not say of its stack."""
    layers = spec.layers
    # Of several, what files leave open: the activation of what has no gates.
    activation = next((each.activation for each in layers if not each.is_gated), layers[0].activation)
    cells = {each.cell for each in layers}
    resets = {each.reset_after for each in layers if each.reset_after is not None}
    return Hints(
        cells.pop() if len(cells) == 1 else None,
        activation,
        resets.pop() if len(resets) == 1 else None,
        spec.batch_first,
        prefix="",
    )


class PortFiles(Protocol):
    """A framework's files with recurrent layers. ``kind`` is the name of a format of the backend's table.

    A file may come from anywhere: nothing in it is run, and memory is that of the arrays in it.
    """

    def read(self, path: Path, kind: str, hints: Hints) -> Described:
        """The recurrent stack in a file. The notes say what else the file has.

        Raises:
            PortError: it is damaged, has no such stack or several, or does not say enough of it: the message
                names the option of ``d2lrnn convert`` that tells it (``--cell``, ``--activation``,
                ``--reset-after``, ``--batch-first``, ``--prefix``).
            OSError: it cannot be read.
        """

    def write(self, path: Path, kind: str, module: Module) -> None:
        """Writes a module that `d2lrnn.ports.porter.Porter.build` made.

        Args:
            path: where nothing is yet, with the format's first suffix.
            kind: the format.
            module: the module.

        Raises:
            PortError: the format cannot hold it.
            OSError: it cannot be written.
        """

    def load(self, path: Path, kind: str, hints: Hints, module: Module) -> Module:
        """A module with the parameters in a file, as the framework itself loads them: the side to prove.

        Where the framework has a function that does it (``load_state_dict``, ``load_parameters``), that is
        called, so that what `read` makes of names and axes is held against the framework's own reading.

        Args:
            path: a file that `read` has read.
            kind: its format.
            hints: what `read` was given.
            module: what `Porter.build` made of the stack that `read` found, with other parameters. It may be
                changed and returned.
        """


class FilesBackend(PortingBackend, Protocol):
    """A backend whose framework has files of its own."""

    def port_files(self) -> PortFiles:
        """What reads, writes and loads them."""


def port_files_of(name: str) -> PortFiles:
    """What reads and writes the files of a backend's framework, whose table has formats.

    Raises:
        UnknownBackendError: no backend has this name.
        BackendNotInstalledError: its framework is missing.
    """
    found: FilesBackend = porting(name)
    return found.port_files()
