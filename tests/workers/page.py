"""The lines of docs/workers.md that are there to be copied: each stands below a comment that names it."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "workers.md"
_BLOCK = re.compile(r"<!-- run: ([\w-]+) ([\w-]+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> dict[tuple[str, str], str]:
    """The blocks by what they show and where they run."""
    found = {(what, where): text for what, where, text in _BLOCK.findall(PAGE.read_text(encoding="utf-8"))}
    assert len(found) == PAGE.read_text(encoding="utf-8").count("<!-- run: ")
    return found


def shortened(text: str, options: str) -> str:
    """Such lines with further options for every ``d2lrnn train``."""
    assert "train book.txt" in text
    return text.replace("train book.txt", f"train book.txt {options}")
