"""Measures one subject in one cell, a setting and a model, in this process: checked first, then timed.

    python -m d2lrnn.benchmark.worker PLAN.json RESULT.json

The driver (`d2lrnn.benchmark.driver`) starts workers, one at a time. A worker reads its plan, measures in the
order of this file, and writes what came of it; it writes a reason, not a time, where something failed.
"""

from __future__ import annotations

import gc
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.allocator import keep_freed_memory, release_freed_memory
from d2lrnn.benchmark import memory
from d2lrnn.benchmark.reference import LOSS_TOLERANCE, check_parameters_of, fault, relative_difference
from d2lrnn.benchmark.settings import Setting, batches, find_model, find_setting, spec_of
from d2lrnn.benchmark.subject import (
    Contestant,
    Subject,
    UnsupportedError,
    Writer,
    load_subject,
)
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import Batch
from d2lrnn.data.corpus import Corpus, load_corpus
from d2lrnn.errors import D2LError
from d2lrnn.generation import generate
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.metrics import perplexity

#: Different batches that training goes round: enough to learn from, and made before any clock runs.
_NUM_BATCHES = 64

#: Losses of the first steps that are kept, to be laid on one another.
NUM_CURVE = 50

#: Steps after the first one that are not counted: memory is being laid out.
_WARM_UP = 2

_PREFIX = "it has"

#: How many characters a text has after the prefix, where that is not too slow; and how many texts of a single
#: character say how long the first one takes.
_NUM_CHARACTERS, _NUM_FIRST = 100, 5

#: Perplexity of the last `_WINDOW` batches at which a model has learned something: better than the
#: frequencies of the letters alone, which give 17.
TARGET_PERPLEXITY, _WINDOW = 10.0, 10

#: Batch size and steps of the run towards it.
_TARGET_SETTING = Setting("target", 64, 32, 32)


@dataclass(frozen=True)
class Plan:
    """What a worker is to do.

    Attributes:
        subject: see `d2lrnn.benchmark.subject.load_subject`.
        setting: a setting's name.
        model: a model's name.
        reference: the file that `d2lrnn.benchmark.reference` wrote.
        seconds: how long training steps are repeated; forward passes and the floor half of that.
        min_steps: how many are timed at least.
        threads: how many processors it may use.
        device: as for `d2lrnn.contract.protocols.Backend.learner`.
        extras: whether the losses of the first `NUM_CURVE` steps and the run to `TARGET_PERPLEXITY` belong to
            it: both are the same in every round.
        target_seconds: how long the run to the target may take.
    """

    subject: str
    setting: str
    model: str
    reference: str
    seconds: float
    min_steps: int
    threads: int
    device: str = "cpu"
    extras: bool = True
    target_seconds: float = 30.0

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``Plan(**data)`` is the inverse."""
        return asdict(self)


class _WrongError(Exception):
    """The numbers are not the reference's: such a cell has no time."""


def measure(plan: Plan) -> dict[str, Any]:
    """Everything about one cell, as plain data.

    Returns:
        ``status``: ``"ok"``; ``"unsupported"``, ``"wrong"`` or ``"failed"`` with a ``reason``; and what was
        measured up to there. A row that is wrong has no times.
    """
    row: dict[str, Any] = {"status": "ok"}
    try:
        for part in _measures(plan):
            row |= part
    except UnsupportedError as error:
        row |= {"status": "unsupported", "reason": str(error)}
    except _WrongError as error:
        row = {name: row[name] for name in ("versions", "off") if name in row}
        row |= {"status": "wrong", "reason": str(error)}
    except D2LError as error:
        row |= {"status": "failed", "reason": str(error)}
    except Exception as error:
        row |= {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    return row


def _measures(plan: Plan) -> Iterator[dict[str, Any]]:
    setting = find_setting(plan.setting)
    spec = spec_of(setting, find_model(plan.model))
    on_device = None if plan.device == "cpu" else memory.device_megabytes()

    started = time.perf_counter()
    # The framework through the backend and not before it: some configure their framework.
    subject = load_subject(plan.subject)
    versions = subject.versions()
    yield {"versions": versions, "import": time.perf_counter() - started}

    started = time.perf_counter()
    contestant = subject.contestant(spec, check_parameters_of(spec), setting.training, device=plan.device)
    contestant.synchronize()
    yield {"build": time.perf_counter() - started}

    reference = dict(np.load(plan.reference))
    wrong, off = fault(contestant, plan.setting, reference)
    yield {"off": off}
    if wrong:
        raise _WrongError(wrong)
    expected = [float(loss) for loss in reference["losses"]]
    contestant.import_parameters(initial_parameters(spec))
    # What the check held is no part of what training needs.
    del reference
    gc.collect()
    release_freed_memory()
    memory.reset_peak()

    given = list(islice(batches(setting), _NUM_BATCHES if setting.num_tokens <= 1 << 16 else 4))
    training = _Training(contestant, setting, given)
    yield {"first_step": training.step()}
    for _ in range(_WARM_UP):
        training.step()
    steps = _repeat(training.step, plan.seconds, plan.min_steps)
    if plan.extras:
        while len(training.losses) < NUM_CURVE and setting.num_hiddens <= 512:
            training.step()
    _check_losses(training.losses, expected if subject.same_update else expected[:1])
    yield {
        "steps": steps,
        # JSON has no NaN.
        "losses": [loss if math.isfinite(loss) else None for loss in training.losses[:NUM_CURVE]],
        "peak_memory": memory.peak_megabytes(),
        "device_memory": None if on_device is None else (memory.device_megabytes() or 0.0) - on_device,
    }

    evaluate = _Evaluation(contestant, setting, given[0])
    evaluate.first()
    yield {"forward": _repeat(evaluate.step, plan.seconds / 2, plan.min_steps)}

    floor = subject.floor(spec, setting.batch_size, setting.num_steps, device=plan.device)
    if floor is not None:
        for _ in range(1 + _WARM_UP):
            floor()
        yield {"floor": _repeat(lambda: _timed(floor), plan.seconds / 2, plan.min_steps)}

    corpus = load_corpus("sample")
    if setting.small and subject.generates:
        yield {"generation": _generation(contestant, corpus, plan.seconds / 2)}
    if setting.small and plan.extras:
        yield {"target": _to_target(subject, spec, corpus, plan)}


class _Training:
    """Steps over the batches, round and round, each from the zero state."""

    def __init__(self, contestant: Contestant, setting: Setting, given: list[Batch]) -> None:
        self._contestant, self._given = contestant, given
        self._state = contestant.initial_state(setting.batch_size)
        self.losses: list[float] = []

    def step(self) -> float:
        """One step; returns its seconds, with the wait until it is done."""
        batch = self._given[len(self.losses) % len(self._given)]
        started = time.perf_counter()
        result, _ = self._contestant.train_step(batch, self._state)
        self._contestant.synchronize()
        seconds = time.perf_counter() - started
        self.losses.append(float(result.loss))
        return seconds


class _Evaluation:
    """The loss of one batch, again and again."""

    def __init__(self, contestant: Contestant, setting: Setting, batch: Batch) -> None:
        self._contestant, self._batch = contestant, batch
        self._state = contestant.initial_state(setting.batch_size)

    def first(self) -> None:
        """Compiles and warms up."""
        for _ in range(1 + _WARM_UP):
            self.step()

    def step(self) -> float:
        """One pass; the loss is read, so it is done."""
        started = time.perf_counter()
        loss, _ = self._contestant.eval_step(self._batch, self._state)
        float(loss)
        self._contestant.synchronize()
        return time.perf_counter() - started


def _timed(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _repeat(
    action: Callable[[], float], seconds: float, at_least: int, at_most: float = math.inf
) -> list[float]:
    """What `action` returned, again and again, until the time is over and there are enough."""
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < at_least or (len(samples) < at_most and time.perf_counter() < end):
        samples.append(action())
    return samples


def _check_losses(losses: list[float], expected: list[float]) -> None:
    """Holds the steps that are timed, not only the gradients, to the reference."""
    for number, (loss, right) in enumerate(zip(losses, expected, strict=False), 1):
        difference = relative_difference(loss, right)
        if not difference <= LOSS_TOLERANCE:
            raise _WrongError(
                f"the loss of training step {number} is off by {difference:.1e}; "
                f"{LOSS_TOLERANCE:.0e} is allowed"
            )


def _generation(contestant: Contestant, corpus: Corpus, seconds: float) -> dict[str, Any]:
    """Characters/s, how long the first one takes (cold, and later on), and what memory has grown by.

    Some need a second for a character: of those there are only as many as `seconds` allow.
    """

    def write(number: int) -> float:
        started = time.perf_counter()
        if isinstance(contestant, Writer):
            contestant.write(corpus.vocab, _PREFIX, number)
        else:
            generate(contestant, corpus.vocab, _PREFIX, number)
        return time.perf_counter() - started

    cold = write(1)
    first = statistics.median(_repeat(lambda: write(1), seconds, 1, _NUM_FIRST))
    number = max(1, min(_NUM_CHARACTERS, int(seconds / first * len(_PREFIX))))
    before, texts, spent = memory.current_megabytes(), 0, 0.0
    while spent < seconds:
        spent += write(number)
        texts += 1
    after = memory.current_megabytes()
    return {
        "characters_per_second": _characters_per_second(number, spent / texts),
        "first_character": first,
        "first_character_cold": cold,
        "characters": number * texts,
        "growth": None if before is None or after is None else after - before,
    }


def _characters_per_second(number: int, seconds: float) -> float:
    """As in a text of `_NUM_CHARACTERS`, from one of `number` in `seconds`: both read the prefix first."""
    of_prefix = len(_PREFIX) - 1
    return _NUM_CHARACTERS / seconds * (of_prefix + number) / (of_prefix + _NUM_CHARACTERS)


def _to_target(subject: Subject, spec: ModelSpec, corpus: Corpus, plan: Plan) -> dict[str, Any]:
    """Trains a new model until its perplexity is the target; from the first step, compiling included."""
    contestant = subject.contestant(
        spec, initial_parameters(spec), _TARGET_SETTING.training, device=plan.device
    )
    state = contestant.initial_state(_TARGET_SETTING.batch_size)
    curve: list[tuple[float, float]] = []
    losses: list[float] = []
    reached: float | None = None
    started = time.perf_counter()
    for batch in batches(_TARGET_SETTING):
        result, _ = contestant.train_step(batch, state)
        losses.append(float(result.loss))
        elapsed = time.perf_counter() - started
        if len(losses) % _WINDOW == 0:
            curve.append((elapsed, statistics.fmean(losses[-_WINDOW:])))
            if perplexity(curve[-1][1], 1) <= TARGET_PERPLEXITY:
                reached = elapsed
                break
        if elapsed > plan.target_seconds:
            break
    return {"perplexity": TARGET_PERPLEXITY, "seconds": reached, "steps": len(losses), "curve": curve}


def main(plan_file: str, result_file: str) -> None:
    """Reads a plan, does it, and writes the row."""
    plan = Plan(**json.loads(Path(plan_file).read_text()))
    if hasattr(os, "sched_setaffinity"):
        # Some frameworks ask for no number of threads: what they may run on decides. Before their import.
        with suppress(OSError):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: plan.threads])
    keep_freed_memory()
    row = measure(plan)
    Path(result_file).write_text(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
