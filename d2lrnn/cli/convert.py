"""``d2lrnn convert``: recurrent layers from a file of one framework to a file of another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from d2lrnn.cli.commands.convert import ConvertRequest
from d2lrnn.cli.output_files import STANDARD_OUTPUT, check_writable, write_json
from d2lrnn.cli.port_output import described_stack, print_proof, proof_to_json
from d2lrnn.errors import OccupiedError, RunError
from d2lrnn.ports.description import Activation
from d2lrnn.ports.formats.conversion import plan, read, write
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.saving.exporting import check_free


def convert(request: ConvertRequest) -> int:
    """Prints what was converted and how it was proved; returns the exit code."""
    check_writable("--json", request.json)
    check_writable("--proof", request.proof)
    if request.out in ("", STANDARD_OUTPUT):
        raise RunError("--out needs the name of a file")
    out = None if request.out is None else Path(request.out)
    planned = plan(Path(request.file), request.to, out, request.format)
    _check_free(planned.out, "--out", overwrite=request.overwrite)
    if request.proof is not None:
        _check_free(Path(request.proof), "--proof", overwrite=request.overwrite)
        if os.path.realpath(request.proof) == os.path.realpath(planned.out):
            raise RunError(f"--proof {request.proof} is the file to write: give it another name")
    activation = cast(Activation | None, request.activation)  # one of the choices
    hints = Hints(request.cell, activation, request.reset_after, request.batch_first, request.prefix)
    ported = read(planned.path, planned.format, hints)
    print(f"file     {request.file}, {planned.format.name}: {described_stack(ported.spec)}")
    written = write(ported, planned.out, planned.to, overwrite=request.overwrite)
    print_proof(written)
    if request.proof is not None:
        ported.save(request.proof)
        print(f"proof    {request.proof}: d2lrnn check proves it in another environment")
    write_json(request.json, {
        "file": request.file,
        "format": planned.format.name,
        "to": planned.to.name,
        "out": str(planned.out),
        **proof_to_json(written),
    })  # fmt: skip
    print(f"saved    {planned.out}, {planned.to.name}")
    return 0


def _check_free(path: Path, option: str, *, overwrite: bool) -> None:
    try:
        check_free(path, overwrite=overwrite)
    except OccupiedError:
        raise OccupiedError(
            f"{path} is there already: --overwrite replaces it, {option} takes another name"
        ) from None
