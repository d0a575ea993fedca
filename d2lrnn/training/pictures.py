"""Pictures by matplotlib, which is imported where one is drawn."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from d2lrnn.errors import SpecError

_FONT_SIZE = 9


def check_matplotlib() -> None:
    """Checks that matplotlib is installed.

    Raises:
        SpecError: it is not; the message has the command that installs it.
    """
    if find_spec("matplotlib") is None:
        raise SpecError("a picture needs matplotlib, which is not installed here: pip install matplotlib")


def picture_of(draw: Callable[[], Any], kind: str, *, dots_per_inch: int = 150) -> bytes:
    """A figure as a file; the same figure gives the same bytes.

    Args:
        draw: makes the figure.
        kind: ``"png"`` or ``"svg"``.
        dots_per_inch: of a PNG.
    """
    matplotlib = import_module("matplotlib")
    with matplotlib.rc_context():
        # A user's own settings may need what is not here, such as TeX.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.size": _FONT_SIZE, "svg.hashsalt": "d2lrnn"})
        figure = draw()
        content = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(content, format=kind, dpi=dots_per_inch, metadata=metadata)
    return content.getvalue()
