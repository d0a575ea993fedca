"""The notebook of a run: valid, whole, and the same each time."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from d2lrnn.chapters import notebook
from d2lrnn.chapters.runner import run_chapter
from d2lrnn.chapters.source import Chapter
from d2lrnn.errors import ChapterError

SOURCE = """\
# Title é

```{.python .input}
%%tab all
print("out")
import sys; print("err", file=sys.stderr)
1 + 1
```

Between.

```{.python .input}
%%tab all
%matplotlib inline
1 / 0
```

```{.python .input}
%%tab all
raise KeyboardInterrupt
```

```{.python .input}
%%tab all
"never reached"
```
"""


@pytest.fixture
def chapter(tmp_path: Path) -> Chapter:
    path = tmp_path / "chapter.md"
    path.write_text(SOURCE, encoding="utf-8")
    return Chapter(path)


def test_text_cells_and_outputs(chapter: Chapter) -> None:
    nbformat = pytest.importorskip("nbformat")
    runs = [run_chapter(chapter, "jax", ModuleType("tab")) for _ in range(2)]
    first, second = (notebook.notebook_of(run) for run in runs)
    assert first == second
    nbformat.validate(nbformat.reads(first.decode(), as_version=4))
    made = json.loads(first)
    assert made["metadata"]["d2lrnn"]["tab"] == "jax"
    kinds = [cell["cell_type"] for cell in made["cells"]]
    assert kinds == ["code", "markdown", "code", "markdown", "code", "code", "code"]
    assert made["cells"][1]["source"] == ["# Title é"]
    assert "".join(made["cells"][2]["source"]).startswith('print("out")')
    assert made["cells"][4]["source"][0] == "%matplotlib inline\n"
    printed, warned, value = made["cells"][2]["outputs"]
    assert (printed["name"], printed["text"]) == ("stdout", ["out\n"])
    assert (warned["name"], warned["text"]) == ("stderr", ["err\n"])
    assert value["data"] == {"text/plain": ["2"]}
    (error,) = made["cells"][4]["outputs"]
    assert error["ename"] == "ZeroDivisionError"
    assert error["evalue"].startswith("cell 2, line ")
    assert error["evalue"].endswith(": ZeroDivisionError: division by zero")
    assert any("1 / 0" in line for line in error["traceback"])
    assert made["cells"][5]["outputs"][0]["ename"] == "KeyboardInterrupt"
    assert [cell.get("execution_count") for cell in made["cells"]] == [None, None, 1, None, 2, 3, None]
    assert made["cells"][6]["outputs"] == []


def test_figures_are_in_it(tmp_path: Path) -> None:
    pytest.importorskip("nbformat")
    pytest.importorskip("matplotlib")
    path = tmp_path / "chapter.md"
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    path.write_text(f"```{{.python .input}}\n%%tab all\n{code}\n```\n", encoding="utf-8")
    made = json.loads(notebook.notebook_of(run_chapter(Chapter(path), "jax", ModuleType("tab"))))
    (output,) = made["cells"][1]["outputs"]
    assert output["output_type"] == "display_data"
    assert output["data"]["image/png"].startswith("iVBOR")


def test_what_no_file_can_hold_is_written_out(tmp_path: Path) -> None:
    pytest.importorskip("nbformat")
    path = tmp_path / "chapter.md"
    path.write_text("```{.python .input}\n%%tab all\nprint('\\udc80')\n```\n", encoding="utf-8")
    made = json.loads(notebook.notebook_of(run_chapter(Chapter(path), "jax", ModuleType("tab"))))
    assert made["cells"][1]["outputs"][0]["text"] == ["\udc80\n"]


def test_without_nbformat_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    with pytest.raises(
        ChapterError, match="needs nbformat, which is not installed here: pip install nbformat"
    ):
        notebook.check_notebooks_can_be_made()
