"""Tables of what is no training step: text, and start-up times (`benchmarks/text.py` measures them)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from d2lrnn.benchmark.markdown import grid


def further_tables(measured: Mapping[str, Any]) -> list[str]:
    """Headings and tables for `d2lrnn.benchmark.markdown.markdown`.

    Args:
        measured: what ``benchmarks/text.py`` wrote.
    """
    texts = [
        [
            f"{row['megabytes']:.0f} MB by {row['unit']}",
            f"{row['seconds']:.2f}",
            f"{row['peak_megabytes'] - row['base_megabytes']:.0f}",
            f"{(row['peak_megabytes'] - row['base_megabytes']) / row['megabytes']:.1f}",
            f"{row['windows_megabytes']:.1f}",
        ]
        for row in measured["texts"]
    ]
    starts = [
        [row["command"], f"{row['median']:.3f}", str(len(row["seconds"]))] for row in measured["starts"]
    ]
    return [
        "## Text to token indices",
        "Read, cleaned, encoded; memory beyond that of Python, NumPy and the library.",
        grid(["text", "s", "peak, MB", "× the text", "all windows of 32 steps, MB"], texts),
        "## Start",
        grid(["command", "median, s", "runs"], starts),
    ]
