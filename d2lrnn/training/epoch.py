"""One epoch: training, then validation, then a record of both.

There is one loop for everything that trains: the trainer of this library, the book's `Trainer` and its first
edition. What they differ in, what a batch is and what a step does with it, they pass in. Nothing waits for
the device inside an epoch: a loss stays a native scalar and is read some steps later, when it is long there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, SupportsFloat, TypeAlias, TypeVar

from d2lrnn.contract.values import State
from d2lrnn.errors import DivergedError, SpecError
from d2lrnn.training.gradient_norms import NormSum
from d2lrnn.training.history import EpochPart, EpochRecord
from d2lrnn.training.losses import LossSum, NotFiniteError
from d2lrnn.training.metrics import bits_per_token, perplexity

_Batch = TypeVar("_Batch")


class Scored(NamedTuple):
    """What a step gives back for a batch.

    Attributes:
        loss: the mean cross-entropy in nats per token, a native scalar.
        num_tokens: how many tokens it is the mean of; 0 where there is no loss to count.
        state: the state after the batch; None where there is none.
        grad_norm: of a training step, the norm of the gradient before clipping, a native scalar, or None.
    """

    loss: SupportsFloat
    num_tokens: int
    state: State = None
    grad_norm: SupportsFloat | None = None


#: What is done with a batch and the state before it; None stands for the initial state.
Step: TypeAlias = Callable[[_Batch, State], Scored]


class RunningEpoch:
    """An epoch under way: its losses, its clock, and the state that is carried from batch to batch.

    The clock runs from the beginning.

    Args:
        number: counted from 1.
        step: the training steps taken before.
        done: the part of the epoch that is done already; its state is the backend's own.
        clip: the norm that gradients are clipped to, where steps give their norms.

    Attributes:
        num_batches: how many batches were trained on.
        whole: whether there is no batch left.
    """

    def __init__(
        self, number: int, step: int, done: EpochPart | None = None, *, clip: float | None = None
    ) -> None:
        self.number, self.resumed = number, done is not None
        done = done or EpochPart(num_batches=0, nats=0.0, num_tokens=0, seconds=0.0)
        self.num_batches, self.state = done.num_batches, done.state
        self.losses = LossSum(done.nats, done.num_tokens, step)
        self.norms = NormSum(done.norms, clip)
        self.whole = False
        self._first = step - done.num_batches
        self._started = time.perf_counter() - done.seconds
        self._stopped: float | None = None

    @property
    def step(self) -> int:
        """Training steps taken in the whole run."""
        return self._first + self.num_batches

    @property
    def seconds(self) -> float:
        """How long the epoch has been trained, up to now or to `stop_clock`."""
        now = time.perf_counter() if self._stopped is None else self._stopped
        return now - self._started

    def stop_clock(self) -> None:
        """Ends the time of the training."""
        self._stopped = time.perf_counter()

    def part(self) -> EpochPart:
        """What is done, with all losses read; the state is the backend's own."""
        nats, num_tokens = self.losses.read()
        return EpochPart(self.num_batches, nats, num_tokens, self.seconds, self.state, self.norms.read())


def run_epoch(
    epoch: RunningEpoch,
    batches: Iterable[_Batch],
    train_step: Step[_Batch],
    *,
    carries_state: bool = False,
    validate: Callable[[], tuple[float, int]] = lambda: (0.0, 0),
    synchronize: Callable[[], None] = lambda: None,
    rollback: Callable[[], None],
    interrupted: Callable[[], bool],
    after_step: Callable[[Scored], None] = lambda scored: None,
) -> EpochRecord | None:
    """Trains on `batches`, validates, and makes a record of both.

    Args:
        epoch: where the epoch stands; it is kept up to date.
        batches: the batches that are left of it.
        train_step: learns from a batch.
        carries_state: whether a batch continues the one before, with the state after that.
        validate: the total cross-entropy of the validation data in nats, and its tokens; see `total_loss`.
        synchronize: waits until all that was dispatched is done.
        rollback: puts back the parameters that the epoch began with.
        interrupted: asked before every batch; True ends the epoch there, and validation and the record
            still follow.
        after_step: called after every step with what it came to.

    Returns:
        The record; None where the epoch was interrupted before its first batch.

    Raises:
        DivergedError: a loss was NaN or infinite; `rollback` was called.
        SpecError: there was no batch.

    Example:
        >>> record = run_epoch(
        ...     RunningEpoch(1, step=0), ["a", "b"], lambda batch, state: Scored(2.0, num_tokens=5),
        ...     rollback=lambda: None, interrupted=lambda: False,
        ... )
        >>> record.num_steps, round(record.train_perplexity, 3)
        (2, 7.389)
    """
    try:
        for batch in batches:
            if interrupted():
                break
            scored = train_step(batch, epoch.state)
            epoch.state = scored.state if carries_state else None
            epoch.num_batches += 1
            epoch.losses.add(scored.loss, scored.num_tokens)
            if scored.grad_norm is not None:
                epoch.norms.add(scored.grad_norm)
            after_step(scored)
        else:
            epoch.whole = True
        nats, num_tokens = epoch.losses.read()
        synchronize()  # the last update may still be on its way
        epoch.stop_clock()
        norms = epoch.norms.read()
        if not epoch.num_batches:
            if epoch.whole:
                raise SpecError("the training data gave no batch: take more data or a smaller batch size")
            return None
        val_nats, val_tokens = validate()
    except NotFiniteError as error:
        rollback()
        step = epoch.step if error.step is None else error.step
        since = "where training was resumed" if epoch.resumed else "the beginning of the epoch"
        raise DivergedError(
            f"the loss became {error.loss} at step {step} (epoch {epoch.number}): training stopped, and the "
            f"parameters are those of {since}. Try a smaller learning rate or clipping norm",
            step,
        ) from None
    all_known = norms.num_steps == epoch.num_batches
    return EpochRecord(
        epoch=epoch.number,
        train_perplexity=perplexity(nats, num_tokens),
        val_perplexity=perplexity(val_nats, val_tokens),
        train_bits_per_token=bits_per_token(nats, num_tokens),
        val_bits_per_token=bits_per_token(val_nats, val_tokens),
        tokens_per_second=num_tokens / epoch.seconds,
        num_steps=epoch.num_batches,
        num_tokens=num_tokens,
        grad_norm=norms.total / norms.num_steps if all_known else None,
        grad_norm_max=norms.largest if all_known else None,
        clipped=norms.num_clipped / norms.num_steps if all_known else None,
    )


def total_loss(
    batches: Iterable[_Batch], eval_step: Step[_Batch], *, carries_state: bool = False
) -> tuple[float, int]:
    """The total cross-entropy of `batches` in nats, and the number of their tokens.

    Raises:
        NotFiniteError: a loss was NaN or infinite.

    Example:
        >>> total_loss(["a", "b"], lambda batch, state: Scored(2.0, num_tokens=5))
        (20.0, 10)
    """
    losses, state = LossSum(), None
    for batch in batches:
        scored = eval_step(batch, state)
        losses.add(scored.loss, scored.num_tokens)
        state = scored.state if carries_state else None
    return losses.read()
