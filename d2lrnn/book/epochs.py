"""The epochs of the first edition's trainings: their number, their loop, the points of their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, SupportsFloat, TypeVar

from d2lrnn.book.figures import Animator
from d2lrnn.errors import SpecError
from d2lrnn.training.epoch import RunningEpoch, Scored, run_epoch
from d2lrnn.training.interrupts import interrupt_flag

_Batch = TypeVar("_Batch")

#: How many epochs pass between two points of the figure.
EPOCHS_PER_POINT = 10


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


def check_epochs(num_epochs: int) -> None:
    """Does nothing for a number of epochs that a training can have.

    Raises:
        SpecError: it is below 1.
    """
    if num_epochs < 1:
        raise SpecError(f"the number of epochs is {num_epochs}: it must be at least 1")


def run_epochs(
    batches: Iterable[_Batch],
    num_epochs: int,
    train_step: Callable[[_Batch], tuple[SupportsFloat, int]],
    begin: Callable[[], Callable[[], None]],
) -> Iterator[Epoch]:
    """Trains for some epochs; each is handed out when it is done.

    Args:
        batches: walked once an epoch.
        num_epochs: how many epochs; see `check_epochs`.
        train_step: learns from a batch; the mean loss, and what number of tokens or examples it is of.
        begin: called before every epoch; what it returns puts the parameters of that moment back.

    Raises:
        SpecError: there was no batch.
        DivergedError: a loss was NaN or infinite; the parameters are those from before the epoch.

    Example:
        >>> epochs = run_epochs(["a", "b"], 2, lambda batch: (2.5, 100), begin=lambda: print)
        >>> [(epoch.number, epoch.loss) for epoch in epochs]
        [(1, 2.5), (2, 2.5)]
    """
    step = 0
    for number in range(1, num_epochs + 1):
        epoch = RunningEpoch(number, step)
        put_back = begin()
        with interrupt_flag(reraise=True) as interrupted:
            run_epoch(
                epoch,
                batches,
                lambda batch, _: Scored(*train_step(batch)),
                rollback=put_back,
                interrupted=interrupted.is_set,
            )
        step = epoch.step
        total, count = epoch.losses.read()
        yield Epoch(number, total / count, count / epoch.seconds)


def draw_epochs(epochs: Iterable[Epoch], num_epochs: int, device: object) -> None:
    """Runs a translator's epochs; plots the loss of every tenth and of the last, prints it and the speed.

    Args:
        epochs: from `run_epochs`.
        num_epochs: how many they are, at least 1.
        device: where it is trained, to be printed.
    """
    animator = Animator(xlabel="epoch", ylabel="loss", xlim=[1, num_epochs])
    for epoch in epochs:
        if epoch.number % EPOCHS_PER_POINT == 0 or epoch.number == num_epochs:
            animator.add(epoch.number, [epoch.loss])
    print(f"loss {epoch.loss:.3f}, {epoch.per_second:.1f} tokens/sec on {device}")
