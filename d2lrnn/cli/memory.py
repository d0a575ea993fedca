"""Whether this machine's memory can hold a training, before anything is allocated."""

from __future__ import annotations

import os

import numpy as np

from d2lrnn.contract.cells import find_cell
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.errors import SpecError
from d2lrnn.training.model_size import num_parameters, parameter_bytes


def check_memory(model: ModelSpec, training: TrainingSpec, batch_size: int, num_steps: int) -> None:
    """Refuses a training that this machine's memory cannot hold.

    What is counted is the least that every backend needs: the parameters, their gradients and what the
    optimiser remembers; for a part of a batch, gates and states of all steps, the logits and their gradient.

    Args:
        model: the model.
        training: how it is trained; a batch is cut into `TrainingSpec.accumulate` parts.
        batch_size: B.
        num_steps: T.

    Raises:
        SpecError: it needs more than there is; the message says of what, and what to lower.
    """
    available = _physical_memory()
    if available is None:
        return
    itemsize = np.dtype(model.dtype).itemsize
    rows = -(-batch_size // training.accumulate) * num_steps
    cell, copies = find_cell(model.cell), 2 + len(training.optimizer.slots)
    units = (len(cell.gates) + len(cell.states)) * model.num_hiddens * model.num_layers
    needs = [
        (copies * parameter_bytes(model),
         f"{num_parameters(model):,} parameters, with their gradients and the optimiser's state,",
         "--hidden, --layers or --embedding"),
        (rows * units * itemsize, f"the gates and states of {rows:,} tokens of a batch",
         "--batch-size, --steps, --hidden or --layers, or give --accumulate"),
        (2 * rows * model.vocab_size * itemsize,
         f"the logits of {rows:,} tokens of a batch over {model.vocab_size:,} symbols, with their gradient,",
         "--batch-size or --steps, or give --accumulate"),
    ]  # fmt: skip
    total, (largest, what, lower) = sum(size for size, _, _ in needs), max(needs)
    if total > available:
        raise SpecError(
            f"this takes at least {_shown(total)} of memory, and the machine has {_shown(available)}: {what} "
            f"take {_shown(largest)}. Lower {lower}"
        )


def _physical_memory() -> int | None:
    """Bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _shown(size: float) -> str:
    """A number of bytes for people.

    Example:
        >>> _shown(25_000_000_000)
        '25.0 GB'
    """
    for unit in ("MB", "GB", "TB"):
        size /= 1000 if unit != "MB" else 1_000_000
        if size < 1000:
            break
    return f"{size:,.1f} {unit}"
