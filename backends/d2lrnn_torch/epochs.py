"""The epochs of the first edition's trainings that are not of language models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple, SupportsFloat, TypeVar

from torch import nn

from d2lrnn.errors import SpecError
from d2lrnn.training.epoch import RunningEpoch, Scored, run_epoch
from d2lrnn.training.interrupts import interrupt_flag

_Batch = TypeVar("_Batch")


class Epoch(NamedTuple):
    """What came of an epoch.

    Attributes:
        number: counted from 1.
        loss: the mean loss of what was counted: tokens, or examples.
        per_second: how many of them were trained on in a second.
    """

    number: int
    loss: float
    per_second: float


def run_epochs(
    net: nn.Module,
    batches: Iterable[_Batch],
    num_epochs: int,
    train_step: Callable[[_Batch], tuple[SupportsFloat, int]],
) -> Iterator[Epoch]:
    """Trains for some epochs, by the core's loop; each is handed out when it is done.

    Args:
        net: what is trained.
        batches: walked once an epoch.
        num_epochs: how many epochs.
        train_step: learns from a batch; the mean loss, and what number of tokens or examples it is of.

    Raises:
        SpecError: `num_epochs` is below 1.
        DivergedError: a loss was NaN or infinite; the parameters are those from before the epoch.
    """
    if num_epochs < 1:
        raise SpecError(f"the number of epochs is {num_epochs}: it must be at least 1")
    step = 0
    for number in range(1, num_epochs + 1):
        epoch = RunningEpoch(number, step)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        net.train()
        with interrupt_flag(reraise=True) as interrupted:
            run_epoch(
                epoch,
                batches,
                lambda batch, _: Scored(*train_step(batch)),
                rollback=partial(net.load_state_dict, before),
                interrupted=interrupted,
            )
        step = epoch.step
        total, count = epoch.losses.read()
        yield Epoch(number, total / count, count / epoch.seconds)
