"""``d2lrnn lr-find``: the learning-rate range test of a new model, as a table and a picture."""

from __future__ import annotations

import shutil
from importlib import import_module
from typing import Any

from d2lrnn.cli.commands.lr_find import LrFindRequest
from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.new_run import new_run
from d2lrnn.cli.output import describe_backend, describe_model, describe_value, specified
from d2lrnn.cli.output_files import check_writable, write_json, write_output
from d2lrnn.cli.text_table import text_table
from d2lrnn.contract.devices import choose_device
from d2lrnn.data.texts import describe_source
from d2lrnn.errors import INTERRUPTED
from d2lrnn.registry import backend
from d2lrnn.training.interrupts import interrupt_flag
from d2lrnn.training.pictures import check_matplotlib, picture_of
from d2lrnn.training.rate_range import RateRange, rate_range

#: The table has about so many lines.
_NUM_ROWS = 12
_WIDTH, _HEIGHT = 6.4, 3.6  # inches


def lr_find(request: LrFindRequest) -> int:
    """Tests, prints the table and the suggestion; returns the exit code."""
    check_writable("--json", request.json)
    if request.out is not None:
        check_matplotlib()
        check_writable("--out", request.out)
    chosen = backend(request.backend)
    device = choose_device(request.device, chosen.devices())
    asked = TrainRequest(
        text=request.text, model=request.model, data=request.data, training=request.training,
        optimizer=request.optimizer, seed=request.seed,
    )  # fmt: skip
    run, _, data = new_run(asked, chosen)
    assert run.data is not None
    assert run.training is not None
    learner = chosen.learner(run.build(chosen), run.training, device=device.name)
    clip = f"clipping norm {run.training.clip}" if run.training.clip is not None else "no clipping"
    print(describe_backend(chosen, device, asked=request.backend))
    print(f"text     {describe_source(run.data.source)}: {data.describe()}")
    print(f"model    {describe_model(run.model)}")
    print(f"training {describe_value(run.training.optimizer)}, {clip}")
    print(f"rates    {request.min_lr:g} to {request.max_lr:g} in {request.trials} training steps", flush=True)
    with interrupt_flag() as interrupted:
        found = rate_range(
            learner, data, lowest=request.min_lr, highest=request.max_lr, num_steps=request.trials,
            interrupted=interrupted.is_set,
        )  # fmt: skip
    if found.losses:
        print(text_table(_rows(found), shutil.get_terminal_size().columns))
    _print_end(found)
    write_json(request.json, {
        **specified(run, chosen, device),
        "ended": found.ended,
        "rates": found.rates,
        "losses": found.losses,
        "smoothed": found.smoothed,
        "suggestion": found.suggestion,
    })  # fmt: skip
    if request.out is not None and found.losses:
        write_output("--out", request.out, picture_of(lambda: draw(found), request.kind))
        print(f"saved    {request.out}")
    return INTERRUPTED if found.ended == "interrupted" else 0


def _rows(found: RateRange) -> list[list[str]]:
    rows = [["rate", "loss", "smoothed"]]
    every = max(1, -(-len(found.rates) // _NUM_ROWS))
    steps = list(zip(found.rates, found.losses, found.smoothed, strict=True))
    # From the end: what came last is what the test ended with.
    for rate, loss, smoothed in reversed(steps[::-1][::every]):
        rows.append([f"{rate:.2g}", f"{loss:.3f}", f"{smoothed:.3f}"])
    return rows


def _print_end(found: RateRange) -> None:
    number = len(found.rates)
    if found.ended == "diverged":
        print(f"diverged after {number} step{'' if number == 1 else 's'}: no higher rate was tried")
    elif found.ended == "interrupted":
        print(f"interrupted after {number} step{'' if number == 1 else 's'}")
    if found.suggestion is not None:
        print(f"suggestion  --lr {found.suggestion:.2g}, where the smoothed loss falls fastest")
    elif found.ended != "interrupted":
        print("no suggestion: the loss has not fallen; try other rates, or more --trials")


def draw(found: RateRange) -> Any:
    """The figure: the loss by the rate, smoothed and as it was, the suggestion marked."""
    figure = import_module("matplotlib.figure").Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color="0.7", linewidth=1, label="loss")
    axes.plot(found.rates, found.smoothed, color="C0", linewidth=1.6, label="smoothed")
    if found.suggestion is not None:
        smoothed = found.smoothed[found.rates.index(found.suggestion)]
        axes.plot([found.suggestion], [smoothed], "o", color="C3", label=f"--lr {found.suggestion:.2g}")
    first, lowest = found.smoothed[0], min(found.smoothed)
    if lowest < first:
        # A loss that diverges would leave no room for the part that matters.
        axes.set_ylim(lowest - 0.2 * (first - lowest), first + (first - lowest))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, nats per token")
    axes.grid(color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
