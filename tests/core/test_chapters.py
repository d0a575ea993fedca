"""The chapter reader: both styles of the book, one tab at a time, and sources as editors leave them."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from d2lrnn.chapters.source import TAB_NAMES, Cell, Chapter, Tab, Text
from d2lrnn.errors import ChapterError

CURRENT = """\
# A title

```{.python .input}
%load_ext d2lbook.tab
tab.interact_select(['mxnet', 'pytorch'])
```

```{.python .input  n=2}
%%tab mxnet
%matplotlib inline
import first
```

```{.python .input}
%%tab pytorch
import second
```

:begin_tab:`mxnet`
Only for one.
:end_tab:

:begin_tab:`pytorch, jax`
For the other.
:end_tab:

```{.python .input}
%%tab all
both = 1
```

```{.python .input}
unmarked = 1
```

```toc
not code
```

```python
nor_this = 1
```
"""

FIRST = """\
```{.python .input}
for_mxnet = 1
```

```{.python .input}
#@tab pytorch,  tensorflow
#@save
for_two = 1
```

```{.python .input}
#@tab all
for_all = 1
```
"""


def _chapter(folder: Path, source: str | bytes) -> Chapter:
    path = folder / "chapter.md"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return Chapter(path)


def _titles(chapter: Chapter, tab: str) -> list[str]:
    return [cell.title for cell in chapter.cells(tab)]


def _code(folder: Path, *lines: str) -> list[str]:
    """What is left as Python of a cell with these lines."""
    source = "\n".join(["```{.python .input}", "%%tab all", *lines, "```", ""])
    (cell,) = _chapter(folder, source).cells("pytorch")
    return cell.code.split("\n")[1:]


def test_current_edition(tmp_path: Path) -> None:
    chapter = _chapter(tmp_path, CURRENT)
    assert chapter.tabs == ("mxnet", "pytorch")
    assert _titles(chapter, "mxnet") == ["import first", "both = 1", "unmarked = 1"]
    assert _titles(chapter, "pytorch") == ["import second", "both = 1", "unmarked = 1"]


def test_first_edition(tmp_path: Path) -> None:
    chapter = _chapter(tmp_path, FIRST)
    assert chapter.tabs == ("mxnet", "pytorch", "tensorflow")
    assert _titles(chapter, "mxnet") == ["for_mxnet = 1", "for_all = 1"]
    assert _titles(chapter, "pytorch") == _titles(chapter, "tensorflow") == ["for_two = 1", "for_all = 1"]


@pytest.mark.skipif("D2LRNN_CHAPTERS" not in os.environ, reason="D2LRNN_CHAPTERS names no folder of chapters")
def test_the_chapters_of_the_folder() -> None:
    chapters = [Chapter(path) for path in sorted(Path(os.environ["D2LRNN_CHAPTERS"]).glob("*.md"))]
    num_cells = {
        (chapter.path.stem, tab): len(chapter.cells(tab)) for chapter in chapters for tab in chapter.tabs
    }
    assert num_cells == {
        ("deep-rnn.ko", "mxnet"): 6, ("deep-rnn.ko", "pytorch"): 7,
        ("deep-rnn.ko", "tensorflow"): 7, ("deep-rnn.ko", "jax"): 7,
        ("rnn-concise.fr", "mxnet"): 6, ("rnn-concise.fr", "pytorch"): 6, ("rnn-concise.fr", "tensorflow"): 6,
        ("rnn-concise.ko", "mxnet"): 6, ("rnn-concise.ko", "pytorch"): 6,
        ("rnn-concise.ko", "tensorflow"): 6, ("rnn-concise.ko", "jax"): 3,
        ("rnn-concise.pt", "mxnet"): 7, ("rnn-concise.pt", "pytorch"): 7,
        ("rnn-scratch.ko", "mxnet"): 16, ("rnn-scratch.ko", "pytorch"): 16,
        ("rnn-scratch.ko", "tensorflow"): 17,
    }  # fmt: skip
    for chapter in chapters:
        for tab in chapter.tabs:
            for cell in chapter.cells(tab):
                ast.parse(cell.code)


def test_cells_know_their_number_and_line(tmp_path: Path) -> None:
    lines = CURRENT.splitlines()
    for number, cell in enumerate(_chapter(tmp_path, CURRENT).cells("mxnet"), start=1):
        assert cell.number == number
        source = cell.source.splitlines()
        assert lines[cell.line - 1 :][: len(source)] == source
        assert len(cell.code.split("\n")) == len(cell.source.split("\n"))
        assert "tab" not in cell.listing


def test_a_chapter_with_cells_for_all_alone_has_every_tab(tmp_path: Path) -> None:
    chapter = _chapter(tmp_path, "```{.python .input}\n%%tab all\nx = 1\n```\n")
    assert chapter.tabs == TAB_NAMES


def test_a_tab_that_there_is_no_backend_for_is_read(tmp_path: Path) -> None:
    chapter = _chapter(tmp_path, FIRST.replace("tensorflow", "paddle"))
    assert chapter.tabs == ("mxnet", "pytorch", "paddle")


def test_a_tab_that_is_not_there_is_an_error_that_lists_the_others(tmp_path: Path) -> None:
    with pytest.raises(ChapterError, match=r"no code for the tab jax: it has mxnet, pytorch, tensorflow$"):
        _chapter(tmp_path, FIRST).cells("jax")


def test_text_stands_between_the_cells(tmp_path: Path) -> None:
    parts = _chapter(tmp_path, CURRENT).parts("pytorch")
    assert [type(part) for part in parts] == [Text, Cell, Text, Cell, Cell, Text]
    texts = [part.source for part in parts if isinstance(part, Text)]
    assert texts[0] == "# A title"
    assert texts[1] == "For the other."
    assert texts[2] == "```toc\nnot code\n```\n\n```python\nnor_this = 1\n```"


@pytest.mark.parametrize(
    "source",
    [
        CURRENT.replace("\n", "\r\n").encode(),
        CURRENT.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + CURRENT.encode(),
        CURRENT.removesuffix("\n").encode(),
    ],
    ids=["crlf", "cr", "bom", "no end"],
)
def test_files_as_editors_leave_them(tmp_path: Path, source: bytes) -> None:
    expected = _chapter(tmp_path, CURRENT).parts("mxnet")
    assert _chapter(tmp_path, source).parts("mxnet") == expected


def test_a_cell_in_a_list_loses_the_indentation_of_its_fence(tmp_path: Path) -> None:
    source = "1. a\n\n   ```{.python .input}\n   %%tab all\n   if x:\n       y\n\n z\n   ```\n"
    (cell,) = _chapter(tmp_path, source).cells("jax")
    assert cell.code == "\nif x:\n    y\n\nz"


def test_fences_inside_longer_fences_are_text(tmp_path: Path) -> None:
    source = (
        "````\n```{.python .input}\nno = 1\n```\n````\n\n~~~{.python .input}\n%%tab all\nyes = '```'\n~~~\n"
    )
    assert _titles(_chapter(tmp_path, source), "jax") == ["yes = '```'"]


def test_inline_code_of_three_marks_is_no_fence(tmp_path: Path) -> None:
    chapter = _chapter(tmp_path, "```a``` is text\n" + FIRST)
    assert _titles(chapter, "mxnet") == ["for_mxnet = 1", "for_all = 1"]


def test_a_block_that_does_not_end_is_reported_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(
        ChapterError, match=r"chapter\.md, line 2: the code block that begins here does not end"
    ):
        _chapter(tmp_path, "text\n```{.python .input}\nx = 1\n")


def test_files_that_are_no_chapter(tmp_path: Path) -> None:
    with pytest.raises(ChapterError, match="is not UTF-8 text: line 2 has the byte 0xe9"):
        _chapter(tmp_path, b"a\nb\xe9c")
    with pytest.raises(ChapterError, match="has no code cells"):
        _chapter(tmp_path, "```python\nx = 1\n```\n")
    with pytest.raises(ChapterError, match="No such file"):
        Chapter(tmp_path / "nowhere.md")
    with pytest.raises(ChapterError, match="cannot be read"):
        Chapter(tmp_path)


def test_magics_are_left_out_and_lines_keep_their_place(tmp_path: Path) -> None:
    assert _code(tmp_path, "%matplotlib inline", "!pip install \\", "    x", "%%time", "a = 1") == [
        "", "", "", "", "a = 1",
    ]  # fmt: skip


def test_a_magic_in_a_block_leaves_a_statement(tmp_path: Path) -> None:
    code = _code(tmp_path, "if x:", "    %timeit f()", "y = 1")
    assert code == ["if x:", "    pass", "y = 1"]
    ast.parse("\n".join(code))


@pytest.mark.parametrize(
    "lines",
    [
        ("x = (a", "%b)"),
        ("x = a \\", "%b"),
        ('x = """', "%matplotlib inline", "!ls", '"""'),
        ("x = 7", "# %not a magic", "y = x"),
    ],
    ids=["brackets", "backslash", "string", "comment"],
)
def test_what_only_looks_like_a_magic_stays(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert _code(tmp_path, *lines) == list(lines)


@pytest.mark.parametrize(
    ("before", "is_open"),
    [
        ('x = \'(\' + "[" + """{""" + r\'\\\\\'', False),
        ("x = 'it\\'s (' # (", False),
        ("x = 'one \\", True),
        ("x = 'no python", False),
        ("# a comment \\", False),
        ('x = f"{y[0]}" + """', True),
        ('x = """\n"""', False),
        ("x = {'(': (1,\n2)", True),
        ("x = ')' + (", True),
        (")", False),
        ("if x:\n        y = '\\\\'\n    z = [", True),
        ("x = ''", False),
    ],
)
def test_where_a_statement_goes_on(tmp_path: Path, before: str, is_open: bool) -> None:
    lines = [*before.split("\n"), "%magic"]
    assert (_code(tmp_path, *lines)[-1] == "%magic") == is_open


@pytest.mark.parametrize(
    ("line", "kept"),
    [("x = 1", 0), ("x = (1,", 100_000), ('x = """', 50_000)],
    ids=["closed", "brackets", "string"],
)
def test_a_cell_of_many_magics_is_read_line_by_line(tmp_path: Path, line: str, kept: int) -> None:
    """A time that grew with the square of their number would have no end here."""
    code = _code(tmp_path, *[line, "%magic"] * 100_000)
    assert len(code) == 200_000
    assert code.count("%magic") == kept


def test_magics_are_left_out_of_what_is_no_python(tmp_path: Path) -> None:
    lines = ["if x:", "        a", "    b", "%matplotlib inline"]
    assert _code(tmp_path, *lines) == [*lines[:3], ""]


def test_cells_in_other_languages_are_left_out(tmp_path: Path) -> None:
    chapter = _chapter(tmp_path, FIRST + "```{.python .input}\n#@tab all\n%%bash\nls\n```\n")
    assert len(chapter.cells("mxnet")) == 2


def test_the_marker_may_stand_behind_a_magic_or_a_comment(tmp_path: Path) -> None:
    source = "```{.python .input}\n%matplotlib inline\n# why\n#@tab jax\nx = 1\n```\n"
    assert _chapter(tmp_path, source).tabs == ("jax",)


def test_the_choice_of_the_tab_with_other_code_stays(tmp_path: Path) -> None:
    source = "```{.python .input}\ntab.interact_select('jax')\nx = 1\n```\n"
    (cell,) = _chapter(tmp_path, source).cells("jax")
    assert cell.code == "tab.interact_select('jax')\nx = 1"


def test_the_title_is_the_first_line_of_code(tmp_path: Path) -> None:
    source = (
        "```{.python .input}\n#@tab all\n# about\n\nx = 1\n```\n```{.python .input}\n#@tab all\n# off\n```\n"
    )
    assert _titles(_chapter(tmp_path, source), "jax") == ["x = 1", "# off"]


def test_the_object_that_cells_ask() -> None:
    tab = Tab("jax")
    assert tab.selected("pytorch", "jax")
    assert not tab.selected("pytorch", "mxnet")
    tab.interact_select("mxnet", "jax")
    tab.interact_select(["mxnet", "jax"])
