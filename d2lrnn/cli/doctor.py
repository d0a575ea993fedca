"""``d2lrnn doctor``: what differs between two files with recurrent layers that should be one."""

from __future__ import annotations

from pathlib import Path

from d2lrnn.cli.commands.doctor import DoctorRequest
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.doctor.explain import explain_difference
from d2lrnn.errors import PortError
from d2lrnn.ports.formats.conversion import read
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.table import format_of
from d2lrnn.ports.ported import Ported

#: As `diff` and `cmp` say that two files differ.
DIFFERENT = 1


def doctor(request: DoctorRequest) -> int:
    """Prints what differs; returns the exit code."""
    check_writable("--json", request.json)
    explanation = explain_difference(_read(request.a), _read(request.b))
    print(f"a  {request.a}")
    print(f"b  {request.b}")
    print(explanation)
    write_json(request.json, {"a": request.a, "b": request.b, **explanation.to_json()})
    return 0 if explanation.agreed else DIFFERENT


def _read(file: str) -> Ported:
    path = Path(file)
    try:
        return read(path, format_of(path), Hints())
    except PortError as error:
        if " --" not in str(error):
            raise
        raise PortError(
            f"{error}. d2lrnn convert {file} --to ported takes that option: give its file here"
        ) from error
