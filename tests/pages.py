"""A page of docs/ is run: its Python in one namespace, its shell lines, and what it shows is what comes.

- ``python`` and ``bash`` blocks run in order, in one fresh folder. A ``bash`` block is a script that ends at
  its first failure, and the backend is that of D2LRNN_BACKEND.
- ``text`` is what the block before it prints, with ``...`` for what is left out. What is not shown is not
  compared.
- ``sh`` is shell that does not run here: it installs, needs another machine, or takes long. The options of
  its ``d2lrnn`` commands are checked.
- Any other block is neither (a file, a figure): ``toml``, ``json``, or without a word.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from doctest import ELLIPSIS, Example, OutputChecker
from io import StringIO
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from markdown_it import MarkdownIt

from d2lrnn.cli.parser import parser_for

#: Between two columns, which are as wide as their widest number, and that may be a speed.
_GAP = re.compile(r"(?<=\S) {2,}")

#: A command, where a shell looks for one, up to the end of its line.
COMMAND = re.compile(r"(?:^|[;&|(]|\b\w+=\S*)\s*d2lrnn (.*?)(?=&&|$)")

KINDS = {"python", "bash", "text", "sh", "toml", "json", ""}


class Block(NamedTuple):
    """A block of code, and the line of the page where it begins."""

    kind: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Those with fences, directives of the site left out, and those that are indented as ``sh``."""
    found = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block") and not token.info.startswith("{"):
            assert token.map is not None
            fenced = token.type == "fence"
            found.append(Block(token.info if fenced else "sh", token.content, token.map[0] + 1 + fenced))
    return found


def python_of(page: Path) -> list[str]:
    """The Python of a page, for a test that runs it elsewhere than `run_page`."""
    return [block.text for block in blocks_of(page) if block.kind == "python"]


def run_page(page: Path) -> None:
    """Runs a page in the folder that the process is in."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = None
    for block in blocks_of(page):
        place = f"{page.name}:{block.line}"
        assert block.kind in KINDS, f"{place}: a block of {block.kind!r}, which is none of {sorted(KINDS)}"
        if block.kind == "python":
            printed = _python(block, place, namespace)
        elif block.kind == "bash":
            printed = _bash(block, place)
        elif block.kind == "text":
            assert printed is not None, f"{place}: this output follows no block that runs"
            _compare(block, place, printed)
            printed = None
        else:
            printed = None


def _python(block: Block, place: str, namespace: dict[str, Any]) -> str:
    with redirect_stdout(StringIO()) as printed:
        # A traceback names the page and its line.
        exec(compile("\n" * (block.line - 1) + block.text, place, "exec"), namespace)
    return printed.getvalue()


def _bash(block: Block, place: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "80"}
    command = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, f"{place}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def _compare(shown: Block, place: str, printed: str) -> None:
    want, got = (
        "".join(_GAP.sub("  ", line.rstrip()) + "\n" for line in text.splitlines())
        for text in (shown.text, printed)
    )
    checker = OutputChecker()
    if not checker.check_output(want, got, ELLIPSIS):
        pytest.fail(f"{place}\n{checker.output_difference(Example('', want), got, ELLIPSIS)}", pytrace=False)


def commands_of(block: Block) -> Iterator[list[str]]:
    """The arguments of each ``d2lrnn`` command in shell lines."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in COMMAND.finditer(line):
            # A quote that is still open was opened before the command.
            rest = command[1] if command[1].count("'") % 2 == 0 else command[1].rstrip(" '")
            words = shlex.shlex(rest, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            yield list(takewhile(lambda word: not set(word) <= set("();<>|&"), words))


def check_commands(page: Path) -> None:
    """Every ``d2lrnn`` command of a page has options that there are."""
    for block in blocks_of(page):
        if block.kind not in ("sh", "bash"):
            continue
        for argv in commands_of(block):
            if any("$" in word for word in argv):
                continue  # the shell knows what stands there
            try:
                parser_for(argv).parse_args(argv)
            except SystemExit as ended:
                if ended.code:
                    pytest.fail(f"{page.name}:{block.line}: d2lrnn {shlex.join(argv)}", pytrace=False)
