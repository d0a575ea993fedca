"""``d2lrnn export``: a saved model in a format that runs without this library."""

from __future__ import annotations

from d2lrnn.cli.commands.export import ExportRequest
from d2lrnn.cli.output import describe_best, describe_model
from d2lrnn.cli.output_files import STANDARD_OUTPUT
from d2lrnn.contract.cells import find_cell
from d2lrnn.errors import OccupiedError, RunError
from d2lrnn.registry import backend
from d2lrnn.saving import exporting
from d2lrnn.saving.run_folder import load_run


def export(request: ExportRequest) -> int:
    """Writes the file; returns the exit code.

    Raises:
        SpecError: the backend has no such format, or a package is missing that it needs.
        OccupiedError: there is something where it is to be written.
        RunError: there is no run, it is unreadable, or the file cannot be written.
    """
    chosen = backend(request.backend)
    exporting.export_format(chosen, request.to)
    if request.out in ("", STANDARD_OUTPUT):
        raise RunError("--out needs the name of a file")
    try:
        exporting.check_free(request.out, overwrite=request.overwrite)
    except OccupiedError:
        raise OccupiedError(f"--out {request.out} is there already: --overwrite replaces it") from None
    except RunError as error:
        raise RunError(f"--out {error}") from None
    run = load_run(request.run, best=True)
    spec = run.model
    print(f"model    {describe_model(spec)}, {run.step:,} steps")
    if which := describe_best(run, request.run):
        print(f"from     {which}")
    to = exporting.export(run.build(chosen), request.out, to=request.to, overwrite=request.overwrite)
    states = find_cell(spec.cell).states
    shape = f"{spec.dtype} ({spec.num_layers}, batch, {spec.num_hiddens})"
    print(f"takes    tokens int32 (batch, time); {', '.join(states)} {shape}")
    following = ", ".join(f"next_{name}" for name in states)
    print(f"gives    logits {spec.dtype} (batch, time, {spec.vocab_size}); {following} {shape}")
    print(f"saved    {request.out}, {to}")
    return 0
