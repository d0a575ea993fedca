"""The source of a chapter: its text and the code cells of one tab, in order. Nothing is run here.

A chapter is Markdown, or a notebook, which has the code of one framework; its import says which.

The cells of Markdown are the fenced blocks whose first line carries ``{.python .input}``; any
other block (``toc``, a listing) is text. One source holds the code of several frameworks, its *tabs*, marked
in the two styles of the book's editions:

- current edition: a first line ``%%tab pytorch, mxnet`` or ``%%tab all``; a cell without one is every tab's,
  and one cell announces the tabs with ``tab.interact_select(...)``;
- first edition: a first line ``#@tab pytorch, tensorflow`` or ``#@tab all``; a cell without one is MXNet's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from d2lrnn.chapters.notebook_source import read_notebook
from d2lrnn.chapters.statements import StatementScanner
from d2lrnn.errors import ChapterError, SpecError, reason_of

#: The tabs of the book. Another package's backend has a tab of its own name.
TAB_NAMES = ("pytorch", "tensorflow", "jax", "mxnet")

#: The first edition's cells without a marker are this tab's, and so is a plain ``import d2l``.
FIRST_TAB = "mxnet"

_EVERY_TAB = "all"

#: How a notebook imports the book's package; a plain ``import d2l`` is of the first releases.
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+d2l[ \t]+import[ \t]+|import[ \t]+d2l\.)(?P<name>[a-z]\w*)", re.MULTILINE
)
#: What only one of the editions has: a notebook has no marks that would tell them apart.
_FIRST_NAMES = re.compile(
    r"\bd2l\.(?:load_data_\w+|load_corpus_\w+|load_array|evaluate_loss|read_\w+|\w+_ch\d+|seq_data_iter_\w+"
    r"|SeqDataLoader|RNNModel\w*|count_corpus|tokenize|(?:train|predict)_seq2seq|sequence_mask|Animator"
    r"|MaskedSoftmaxCELoss|download_extract|TokenEmbedding|predict_sentiment)\b"
)
_CURRENT_NAMES = re.compile(
    r"\bd2l\.(?:Module|DataModule|Trainer|TimeMachine|Classifier|RNNLM\w*|add_to_class)\b"
)
_PLAIN_IMPORT = re.compile(r"^[ \t]*import[ \t]+d2l\b(?!\.)", re.MULTILINE)

#: Libraries of the Chinese book's first edition, which are not the book's package.
OTHER_LIBRARIES = ("d2lzh", "d2lzh_pytorch")
_OTHER_LIBRARY = re.compile(
    rf"^[ \t]*(?:import|from)[ \t]+(?P<name>{'|'.join(OTHER_LIBRARIES)})\b", re.MULTILINE
)

#: Magics that install something, or change the machine otherwise: what is left out has to be said.
_COMMAND = re.compile(r"[ \t]*(?:!|%(?:pip|conda|system)\b)")

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})(?P<info>.*)")
_MARKER = re.compile(r"(?P<style>%%tab|#\s*@tab)\s+(?P<names>\S.*)")
_CURRENT = re.compile(r"^[ \t]*%%tab\b", re.MULTILINE)
_ANNOUNCED = re.compile(r"^tab\.interact_select\((?P<names>[^)]*)\)", re.MULTILINE)
_MAGIC = re.compile(r"(?P<indent>[ \t]*)(?:%{1,2}[a-zA-Z]|!)")
_OTHER_LANGUAGE = re.compile(r"%%(?:bash|sh|script|html|javascript|js|latex|markdown|svg|writefile|file)\b")
_TAB_TEXT = re.compile(
    r"^[ \t]*:begin_tab:`?(?P<names>[^`\n]*)`?[ \t]*\n(?P<text>.*?)^[ \t]*:end_tab:[ \t]*\n?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Cell:
    """A code cell of one tab.

    Attributes:
        number: its place among the cells of its tab, from 1.
        line: the chapter's line that its first line is, from 1.
        source: what the chapter has between the fences.
        code: the same as Python, line by line: markers and notebook magics are left empty.
        lines_before: how many lines stand before those that an error counts: those of the other cells in a
            notebook, none in Markdown.
    """

    number: int
    line: int
    source: str
    code: str
    lines_before: int = 0

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands to the shell among its lines, which are left out: ``!pip install d2l``."""
        pairs = zip(self.source.split("\n"), self.code.split("\n"), strict=False)
        return tuple(
            line.strip() for line, kept in pairs if _COMMAND.match(line) and kept.strip() in ("", "pass")
        )

    @property
    def title(self) -> str:
        """The first line that is code, or a comment where there is nothing else."""
        lines = [line.strip() for line in self.code.splitlines() if line.strip()]
        lines = lines or [line.strip() for line in self.source.splitlines() if line.strip()]
        return next((line for line in lines if not line.startswith("#")), lines[0])

    @property
    def listing(self) -> str:
        """The source without the line that marks its tab; what is left out of it is a comment."""
        lines = [line for line in self.source.splitlines() if not _MARKER.fullmatch(line.strip())]
        return "\n".join(f"# {line}" if self._is_left_out(line) else line for line in lines)

    def _is_left_out(self, line: str) -> bool:
        # The book's own extension of Jupyter chooses the tab, which is chosen.
        return line.strip() in self.commands or line.strip().startswith("%load_ext d2lbook")


@dataclass(frozen=True)
class Text:
    """What stands between two cells, as Markdown."""

    source: str


@dataclass(frozen=True)
class _Block:
    """A cell with the tabs that it is for."""

    line: int
    source: str
    code: str
    tabs: tuple[str, ...]
    lines_before: int = 0


class Chapter:
    """A chapter's source, read from a file.

    Args:
        path: a Markdown file or a notebook (``.ipynb``), UTF-8.

    Attributes:
        path: where it was read from.
        tabs: the tabs that it has code for, in the order in which it names them; those of the book where it
            names none.
        names_tabs: whether it names any.
        is_notebook: whether it is a notebook, which has one tab unless its cells are marked.
        of_first_edition: whether it is a chapter of the first edition, by the style of its marks, or in a
            notebook without marks by the names that it uses.

    Raises:
        ChapterError: the file cannot be read, is not UTF-8, has a block that does not end, or has no cells;
            a notebook imports nothing of the book, or what the library has no tab for.

    Example:
        >>> chapter = Chapter("own-cells.md")
        >>> chapter.tabs
        ('pytorch',)
        >>> [cell.title for cell in chapter.cells("pytorch")][:1]
        ['from d2l import torch as d2l']
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.is_notebook = self.path.suffix == ".ipynb"
        lines = read_source(self.path).split("\n")
        split = _notebook_parts if self.is_notebook else _split
        self._parts = list(split(lines, self.path))
        blocks = [part for part in self._parts if isinstance(part, _Block)]
        if not blocks:
            raise ChapterError(
                f"{self.path} has no code cells, which in Markdown are blocks that begin with "
                "```{.python .input}"
            )
        self._current = any(_CURRENT.search(block.source) or _announced(block.code) for block in blocks)
        self.of_first_edition = not self._current
        if self.is_notebook and not any(block.tabs for block in blocks):
            # All of its cells are of the framework that it imports.
            self._current = True
            code = "\n".join(block.code for block in blocks)
            self.of_first_edition = is_of_first_edition(code)
            blocks = [replace(block, tabs=(_imported_tab(blocks, self.path),)) for block in blocks]
        named = self._named(blocks)
        self.names_tabs, self.tabs = bool(named), named or TAB_NAMES

    def parts(self, tab: str) -> tuple[Cell | Text, ...]:
        """The text and the cells of one tab, in order.

        Raises:
            ChapterError: the chapter has no code for this tab; the message lists the tabs that it has.
        """
        # A chapter whose cells are marked for all tabs, or for none, is also another package's.
        if tab not in self.tabs and self.names_tabs:
            raise ChapterError(f"{self.path} has no code for the tab {tab}: it has {', '.join(self.tabs)}")
        parts: list[Cell | Text] = []
        number = 0
        for part in self._parts:
            if isinstance(part, str):
                if text := _text_of_tab(part, tab):
                    parts.append(Text(text))
            elif self._belongs(part, tab):
                cell = Cell(number + 1, part.line, part.source, part.code, part.lines_before)
                if _does_something(part.code) or cell.commands:
                    number += 1
                    parts.append(cell)
        return tuple(parts)

    def cells(self, tab: str) -> tuple[Cell, ...]:
        """The cells of one tab, in order; errors as with `parts`."""
        return tuple(part for part in self.parts(tab) if isinstance(part, Cell))

    def _belongs(self, block: _Block, tab: str) -> bool:
        if block.tabs:
            return tab in block.tabs or _EVERY_TAB in block.tabs
        return self._current or tab == FIRST_TAB

    def _named(self, blocks: list[_Block]) -> tuple[str, ...]:
        named: list[str] = []
        for block in blocks:
            named += _announced(block.code)
        for block in blocks:
            named += block.tabs or (() if self._current else (FIRST_TAB,))
        return tuple(name for name in dict.fromkeys(named) if name != _EVERY_TAB)


class Tab:
    """The object ``tab`` of the current edition's cells, which says which framework was chosen."""

    def __init__(self, name: str) -> None:
        self._name = name

    def selected(self, *names: str) -> bool:
        """Whether one of these tabs is the chosen one."""
        return self._name in names

    def interact_select(self, *names: str | list[str]) -> None:
        """In a notebook, draws the buttons that choose the tab; here it is chosen already."""


def chosen_tab(name: str | None, chapter: Chapter) -> str:
    """The book's name of the tab to run.

    Args:
        name: a tab or a backend; None takes the one that a notebook imports, else that of ``D2LRNN_BACKEND``.
        chapter: the chapter.

    Raises:
        SpecError: nothing says which.
        UnknownBackendError: there is no such backend.
    """
    from d2lrnn.registry import ENVIRONMENT_VARIABLE

    if name is None and chapter.is_notebook and len(chapter.tabs) == 1:
        return chapter.tabs[0]
    name = name or os.environ.get(ENVIRONMENT_VARIABLE)
    if not name:
        raise SpecError(f"no tab was chosen: give --tab and one of {', '.join(chapter.tabs)}")
    return tab_of(name)


def read_source(path: Path) -> str:
    """The text of a file of source, its lines ended by a line feed.

    Raises:
        ChapterError: it cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ChapterError(f"{path} cannot be read: {reason_of(error)}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ChapterError(
            f"{path} is not UTF-8 text: line {line} has the byte 0x{content[error.start]:02x}. "
            "Save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split(lines: list[str], path: Path) -> Iterator[str | _Block]:
    """Text and cells in turn."""
    text: list[str] = []
    rest = enumerate(lines, start=1)
    for number, line in rest:
        text.append(line)
        fence = _FENCE.fullmatch(line)
        if fence is None or "`" in fence["info"]:
            continue
        body = []
        for _, inner in rest:
            text.append(inner)
            if _closes(inner, fence["marks"]):
                break
            body.append(inner)
        else:
            raise ChapterError(
                f"{path}, line {number}: the code block that begins here does not end: add a line with "
                f"{fence['marks']} after it"
            )
        if {".python", ".input"} <= set(fence["info"].strip().strip("{}").split()):
            yield "\n".join(text[: -len(body) - 2]) + "\n"
            yield _block(number + 1, [_dedented(inner, fence["indent"]) for inner in body])
            text = []
    yield "\n".join(text)


def _notebook_parts(lines: list[str], path: Path) -> Iterator[str | _Block]:
    """Text and cells in turn. The lines of the code cells are counted on, as if they were one script."""
    line = 1
    for source, is_code in read_notebook("\n".join(lines), path):
        if is_code:
            block = _block(line, source.split("\n"))
            yield replace(block, lines_before=line - 1)
            line += len(source.split("\n"))
        else:
            yield source


def _imported_tab(blocks: list[_Block], path: Path) -> str:
    """The tab of the framework that a notebook imports the book's package for."""
    code = "\n".join(block.code for block in blocks)
    if found := _IMPORT.search(code):
        return tab_of(found["name"])
    if _PLAIN_IMPORT.search(code):
        return FIRST_TAB
    if other := _OTHER_LIBRARY.search(code):
        raise ChapterError(f"{path} cannot be run: {other_library(other['name'])}")
    raise ChapterError(
        f"{path} does not import the book's package, as a notebook of the book does: a cell must have from "
        "d2l import and the name of a framework"
    )


def is_of_first_edition(code: str) -> bool:
    """Whether code without marks is the first edition's, by the names of the book's package that it uses.

    Example:
        >>> is_of_first_edition("d2l.train_ch8(net, train_iter, vocab, lr, num_epochs, device)")
        True
    """
    first = _FIRST_NAMES.search(code) or _PLAIN_IMPORT.search(code)
    return bool(first and not _CURRENT_NAMES.search(code))


def other_library(name: str) -> str:
    """What is said of one of `OTHER_LIBRARIES`."""
    return f"{name} is another library than the book's package d2l, which d2lrnn stands in for"


def tab_of(name: str) -> str:
    """The book's name of a backend's tab; where the book has none, the backend's own.

    Raises:
        UnknownBackendError: there is no such backend.

    Example:
        >>> tab_of("torch"), tab_of("mxnet")
        ('pytorch', 'mxnet')
    """
    # With the registry comes NumPy, which --help need not wait for.
    from d2lrnn.registry import find_backend

    entry = find_backend(name)
    return next((tab for tab in TAB_NAMES if find_backend(tab) == entry), entry.name.lower())


def _closes(line: str, marks: str) -> bool:
    stripped = line.strip()
    return len(stripped) >= len(marks) and set(stripped) == set(marks)


def _dedented(line: str, indent: str) -> str:
    """The line without the indentation of its fence: cells can stand in lists."""
    return line[len(indent) :] if line.startswith(indent) else line.lstrip()


def _block(line: int, lines: list[str]) -> _Block:
    return _Block(line, "\n".join(lines), _python_of(lines), _marked(lines))


def _marked(lines: list[str]) -> tuple[str, ...]:
    """The tabs that the marker among a cell's first lines names; other magics and comments may precede it."""
    for line in lines:
        stripped = line.strip()
        if found := _MARKER.fullmatch(stripped):
            return tuple(name.lower() for name in re.split(r"[,\s]+", found["names"]) if name)
        if stripped and stripped[0] not in "%#!":
            break
    return ()


def _python_of(lines: list[str]) -> str:
    """A cell without its notebook magics; every line keeps its place."""
    if any(_OTHER_LANGUAGE.match(line) for line in lines):
        return "\n" * (len(lines) - 1)
    kept: list[str] = []
    statement = StatementScanner()
    continues = False
    for line in lines:
        magic = _MAGIC.match(line)
        if continues:
            kept.append("")
        elif magic and not statement.is_open:
            # A block that held nothing else needs a statement still.
            kept.append(f"{magic['indent']}pass" if magic["indent"] else "")
            continues = True
        elif _MARKER.fullmatch(line.strip()):
            kept.append("")
        else:
            kept.append(line)
            statement.feed(line)
        continues = continues and line.endswith("\\")
    return "\n".join(kept)


def _announced(code: str) -> list[str]:
    """The tabs that ``tab.interact_select(...)`` names in a cell."""
    return [
        name for call in _ANNOUNCED.finditer(code) for name in re.findall(r"['\"](\w+)['\"]", call["names"])
    ]


def _does_something(code: str) -> bool:
    """Whether a cell has more than the choice of the tab."""
    return bool(_ANNOUNCED.sub("", code).strip())


def _text_of_tab(text: str, tab: str) -> str:
    """Markdown without the paragraphs of the other tabs."""

    def chosen(found: re.Match[str]) -> str:
        names = re.split(r"[,\s]+", found["names"].strip())
        return found["text"] if tab in names else ""

    return _TAB_TEXT.sub(chosen, text).strip("\n")
