"""``d2lrnn compare``: what saved runs differ in, and what they came to."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from d2lrnn.cli.commands.compare import CompareRequest
from d2lrnn.cli.comparison import ABSENT, Compared, bits_of, differences, notes, per_token, read_runs
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.progress import thousands
from d2lrnn.cli.text_table import text_table
from d2lrnn.training.history import record_to_json


def compare(request: CompareRequest) -> int:
    """Prints the table; returns the exit code."""
    check_writable("--json", request.json)
    compared = read_runs(request.runs)
    runs = [each.run for each in compared]
    differing, remarks = differences(runs), notes(runs)
    width = shutil.get_terminal_size().columns
    print(text_table(comparison_rows(compared, differing), width))
    for remark in remarks:
        print(textwrap.fill(f"note: {remark}", width, break_on_hyphens=False))
    write_json(request.json, {
        "runs": [_to_json(each) for each in compared],
        "differences": differing,
        "notes": remarks,
    })  # fmt: skip
    return 0


def comparison_rows(compared: Sequence[Compared], differing: dict[str, list[str]]) -> list[list[str]]:
    """The heading, and a row for each run.

    Args:
        compared: the runs.
        differing: of `d2lrnn.cli.comparison.differences`.
    """
    bits = [per_token([each.run for each in compared])]
    # Runs of before have not recorded these.
    bits += [per for per in ("bits/char", "bits/byte")
             if per not in bits and any(bits_of(each).get(per) is not None for each in compared)]  # fmt: skip
    norms = ["clipped"] if any(each.clipped is not None for each in compared) else []
    rows = [["run", *differing, "epochs", "best perplexity", "in epoch", *bits, "tokens/s", *norms]]
    for number, each in enumerate(compared):
        best, speed = each.best, each.tokens_per_second
        epochs = f"{len(each.epochs)}" + ("" if each.is_finished else f" of {each.run.num_epochs}")
        results = [f"{best.val_perplexity:.3f}", f"{best.epoch}"] if best else [ABSENT] * 2
        numbers = [bits_of(each).get(per) for per in bits]
        rows.append([
            each.name,
            *(values[number] for values in differing.values()),
            epochs,
            *results,
            *(ABSENT if number is None else f"{number:.3f}" for number in numbers),
            ABSENT if speed is None else thousands(speed),
            *(ABSENT if each.clipped is None else f"{each.clipped:.0%}" for _ in norms),
        ])  # fmt: skip
    return rows


def _to_json(each: Compared) -> dict[str, Any]:
    run = each.run
    assert run.training is not None
    assert run.data is not None
    return {
        "run": each.path,
        "name": each.name,
        "model": run.model.to_json(),
        "training": run.training.to_json(),
        "data": run.data.to_json(),
        "changes": [{"step": change.step, "before": change.before.to_json()} for change in run.changes],
        "backend": run.backend,
        "versions": run.versions,
        "epochs": len(each.epochs),
        "num_epochs": run.num_epochs,
        "best": record_to_json(each.best) if each.best else None,
        "tokens_per_second": each.tokens_per_second,
        "clipped": each.clipped,
    }
