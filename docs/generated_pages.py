"""Pages of the site that are made from other files: the options, the changelog, the kept results."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from pathlib import Path
from unittest.mock import patch

from d2lrnn.cli.parser import parser_for
from d2lrnn.contract.cells import CELLS

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs" / "generated"

#: Files outside docs/ that are pages too, and what they are called there.
PAGES = {
    ROOT / "CHANGELOG.md": GENERATED / "changelog.md",
    ROOT / "CONTRIBUTING.md": GENERATED / "contributing.md",
    **{
        path: GENERATED / "benchmarks" / path.name
        for path in sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    },
}


def write() -> None:
    """Writes all of them into docs/generated."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    (GENERATED / "benchmarks").mkdir(parents=True)
    for origin, page in PAGES.items():
        page.write_text(with_links(origin.read_text(encoding="utf-8"), origin, page), encoding="utf-8")
    (GENERATED / "command-line.md").write_text(command_line(), encoding="utf-8")
    (GENERATED / "cells.md").write_text(cells(), encoding="utf-8")


def with_links(text: str, origin: Path, page: Path) -> str:
    """A text whose relative links lead from `page` to where they lead from `origin`.

    A folder has no page, so of a link to one the words remain.
    """

    def relative(link: re.Match[str]) -> str:
        words, target, place = link.groups()
        found = (origin.parent / target).resolve()
        if found.is_dir():
            return words[1:-1]
        return f"{words}({os.path.relpath(PAGES.get(found, found), page.parent)}{place or ''})"

    return re.sub(r"(\[[^\]]*\])\((?!\w+:|/)([^)#\s]+)(#[^)]*)?\)", relative, text)


def command_line() -> str:
    """The help of every command as a page."""
    parts = ["# The command line\n\nWhat `--help` prints, for each command.\n"]
    with patch.dict(os.environ, COLUMNS="92"):
        for words in commands():
            parser: argparse.ArgumentParser = parser_for(words)
            for word in words:
                parser = subparsers(parser)[word]
            parts.append(
                f"## d2lrnn {' '.join(words)}".rstrip() + f"\n\n```text\n{parser.format_help()}```\n"
            )
    return "\n".join(parts)


def cells() -> str:
    """The library's cells as a list: name, gates, formula, source."""
    return "\n".join(
        f"`{cell.name}` ({cell.title}; gates {', '.join(cell.gates)}; {cell.source})\n\n"
        + "".join(f"    {line.strip()}\n" for line in cell.formula.split(";"))
        for cell in CELLS.values()
    )


def commands() -> list[list[str]]:
    """The words of each command, of those with actions too; first the parser of them all."""
    found: list[list[str]] = [[]]
    for name in subparsers(parser_for([])):
        found.append([name])
        found += [[name, action] for action in subparsers(subparsers(parser_for([name]))[name])]
    return found


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """What a command's next word may be; nothing where it takes none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
