"""``d2lrnn plot``: the perplexity of saved runs by epoch, as a picture."""

from __future__ import annotations

from d2lrnn.cli.commands.plot import PlotRequest
from d2lrnn.cli.comparison import notes, read_runs
from d2lrnn.cli.curves import picture
from d2lrnn.cli.output_files import check_writable, write_output
from d2lrnn.errors import RunError
from d2lrnn.training.pictures import check_matplotlib


def plot(request: PlotRequest) -> int:
    """Writes the picture; returns the exit code.

    Raises:
        RunError: no run has a whole epoch, or the picture cannot be written.
    """
    check_matplotlib()
    check_writable("--out", request.out)
    compared = read_runs(request.runs)
    if not any(each.epochs for each in compared):
        raise RunError("no epoch has ended yet: there is nothing to draw")
    write_output("--out", request.out, picture(compared, request.kind))
    for remark in notes([each.run for each in compared]):
        print(f"note     {remark}")
    print(f"saved    {request.out}")
    return 0
