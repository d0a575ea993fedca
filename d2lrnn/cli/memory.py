"""Whether this machine's memory can hold a training, before anything is allocated."""

from __future__ import annotations

import os

from d2lrnn.cli.output import describe_bytes
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.errors import SpecError
from d2lrnn.training.model_size import bytes_of_training, num_parameters


def check_memory(model: ModelSpec, training: TrainingSpec, batch_size: int, num_steps: int) -> None:
    """Refuses a training that this machine's memory cannot hold.

    What is counted is `d2lrnn.training.model_size.bytes_of_training`.

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
    rows = -(-batch_size // training.accumulate) * num_steps
    needed = bytes_of_training(model, training, batch_size, num_steps)
    needs = [
        (needed.parameters,
         f"{num_parameters(model):,} parameters, with their gradients and the optimiser's state,",
         "--hidden, --layers or --embedding"),
        (needed.states, f"the gates and states of {rows:,} tokens of a batch",
         "--batch-size, --steps, --hidden or --layers, or give --accumulate"),
        (needed.logits,
         f"the logits of {rows:,} tokens of a batch over {model.vocab_size:,} symbols, with their gradient,",
         "--batch-size or --steps, or give --accumulate"),
    ]  # fmt: skip
    largest, what, lower = max(needs)
    if needed.total > available:
        raise SpecError(
            f"this takes at least {describe_bytes(needed.total)} of memory, and the machine has "
            f"{describe_bytes(available)}: {what} take {describe_bytes(largest)}. Lower {lower}"
        )


def _physical_memory() -> int | None:
    """Bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
