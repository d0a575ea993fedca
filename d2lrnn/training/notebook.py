"""What a training shows in a notebook while it runs: a figure that is drawn anew after every epoch."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from d2lrnn.data.batches import DataModule
from d2lrnn.generation import generate
from d2lrnn.generation.prompts import prompt_of
from d2lrnn.training.curves import add_legend, draw_epochs, scale_axes
from d2lrnn.training.history import EpochRecord, History
from d2lrnn.training.pictures import picture_of

_WIDTH, _HEIGHT = 4.8, 3.0  # inches
#: Twice as many as are shown: most screens have them.
_DOTS_PER_INCH = 144

_SAMPLE_LENGTH, _TEMPERATURE = 60, 0.8


def current_cell() -> int | None:
    """The number of the cell that a notebook is running; None outside a notebook.

    Example:
        >>> current_cell() is None
        True
    """
    # A notebook's kernel has imported it; a terminal's IPython has no kernel.
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return int(shell.execution_count) if getattr(shell, "kernel", None) is not None else None


class LiveFigure:
    """The perplexity by epoch below the cell of a notebook; nothing elsewhere, or without matplotlib.

    It is an image and no figure of pyplot's: nothing else is drawn into it, and it is not shown twice. It is
    drawn once a second at most, as a small epoch is over in less time than that takes.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._drawn_at = -math.inf
        self._drawn: tuple[list[EpochRecord], int] = ([], 0)

    def update(self, history: History, num_epochs: int, *, last: bool = False) -> None:
        """Draws the epochs so far.

        Args:
            history: their history, which keeps below which cell they were drawn.
            num_epochs: where their axis ends.
            last: whether to draw them now in any case.
        """
        cell, now = current_cell(), time.monotonic()
        if cell is None or not history.epochs or find_spec("matplotlib") is None:
            return
        elsewhere = self._handle is None or history.drawn_in != cell
        changed = (history.epochs, num_epochs) != self._drawn
        if not (elsewhere or (changed and (last or now - self._drawn_at >= 1))):
            return
        display = import_module("IPython.display")
        png = picture_of(lambda: _draw(history.epochs, num_epochs), "png", dots_per_inch=_DOTS_PER_INCH)
        image = display.Image(png, format="png", retina=True, alt=repr(history))
        if elsewhere:
            self._handle, history.drawn_in = display.display(image, display_id=True), cell
        else:
            self._handle.update(image)
        self._drawn_at, self._drawn = now, (list(history.epochs), num_epochs)


def sample_of(learner: Any, data: DataModule) -> str | None:
    """A text that a model writes, sampled as ``d2lrnn generate`` does.

    Args:
        learner: the model's learner.
        data: what it was trained on.

    Returns:
        The text; None where the vocabulary is not known, as `data` was made of tokens alone.
    """
    corpus = getattr(data, "corpus", None)
    if corpus is None:
        return None
    return generate(
        learner, corpus.vocab, prompt_of(corpus), _SAMPLE_LENGTH, unit=corpus.unit, lower=False,
        temperature=_TEMPERATURE,
    )  # fmt: skip


def _draw(epochs: Sequence[EpochRecord], num_epochs: int) -> Any:
    figure = import_module("matplotlib.figure").Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    draw_epochs(axes, epochs, "C0")
    scale_axes(axes, [epochs], num_epochs)
    add_legend(figure)
    return figure
