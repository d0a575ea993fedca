"""Running cells: what they see, what is kept of them, what is undone at the end. The tab is a stand-in."""

from __future__ import annotations

import linecache
import os
import random
import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from d2lrnn.chapters import runner as chapter_runner
from d2lrnn.chapters.results import CellResult, ChapterRun
from d2lrnn.chapters.runner import Restored, run_chapter
from d2lrnn.chapters.source import Cell, Chapter
from d2lrnn.errors import ChapterError, SpecError
from d2lrnn.registry import BackendEntry

#: An exception that neither `str` nor `repr` can show.
UNPRINTABLE = """
class Own({}):
    def __str__(self): raise SystemExit
    __repr__ = __str__
raise Own
""".strip()


class _Base:
    def greet(self) -> str:
        return "library"


class _Module(_Base):
    pass


@pytest.fixture
def library() -> ModuleType:
    module = ModuleType(__name__)
    module.__dict__.update(Module=_Module, answer=42)
    return module


def _write(folder: Path, *cells: str) -> Path:
    path = folder / "chapter.md"
    blocks = [f"text\n\n```{{.python .input}}\n#@tab pytorch\n{cell}\n```\n" for cell in cells]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def _run(folder: Path, library: ModuleType, *cells: str, **options: int) -> ChapterRun:
    return run_chapter(Chapter(_write(folder, *cells)), "pytorch", library, **options)


def _values(run: ChapterRun) -> list[str | None]:
    assert [result.error for result in run.failed] == []
    return [result.value for result in run.results]


def test_cells_share_one_scope_and_show_their_last_value(tmp_path: Path, library: ModuleType) -> None:
    run = _run(tmp_path, library, "x = 20", "x + 1", "x;", "None", "'ä'", "for i in range(2): i", "x  # ; no")
    assert _values(run) == [None, "21", None, None, "'ä'", None, "20"]
    assert all(result.seconds >= 0 for result in run.results)
    assert not run.interrupted


@pytest.mark.parametrize("statement", ["from d2l import torch as d2l", "import d2l.torch as d2l"])
def test_the_book_is_the_library(tmp_path: Path, library: ModuleType, statement: str) -> None:
    assert _values(_run(tmp_path, library, f"{statement}\nd2l.answer")) == ["42"]


def test_the_chosen_tab_is_selected(tmp_path: Path, library: ModuleType) -> None:
    assert _values(_run(tmp_path, library, "tab.selected('pytorch'), tab.selected('jax')")) == [
        "(True, False)"
    ]


def test_what_is_printed_is_kept_in_order(tmp_path: Path, library: ModuleType) -> None:
    cell = "import sys\nprint('a', end='')\nprint('b')\nprint('c', file=sys.stderr)\nprint('d')"
    (result,) = _run(tmp_path, library, cell).results
    assert result.output == (("stdout", "ab\n"), ("stderr", "c\n"), ("stdout", "d\n"))
    assert result.printed == "ab\nc\nd\n"
    assert _values(_run(tmp_path, library, "import sys\nsys.stdout.encoding")) == ["'utf-8'"]


def test_a_cell_is_warned_and_runs_on(tmp_path: Path, library: ModuleType) -> None:
    cells = "import warnings\ndef f():\n    warnings.warn('careful')\nfor _ in range(2): f()", "f()"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = _run(tmp_path, library, *cells).results
    assert first.ok
    assert first.output == (("stderr", "line 7: UserWarning: careful\n"),)
    assert second.printed == ""


def test_the_library_warns_as_far_as_the_filters_let_it(tmp_path: Path, library: ModuleType) -> None:
    def careful() -> None:
        warnings.warn("careful", stacklevel=1)

    library.__dict__["careful"] = careful
    cell = "from d2l import torch as d2l\nd2l.careful()"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _run(tmp_path, library, cell).failed
        warnings.simplefilter("always")
        (result,) = _run(tmp_path, library, cell).results
    assert result.printed == "UserWarning: careful\n"


def test_source_and_pickles_of_what_a_cell_defined(tmp_path: Path, library: ModuleType) -> None:
    run = _run(
        tmp_path,
        library,
        "import inspect, pickle\nclass A:\n    x = 1\n\ndef f():\n    return 2",
        "this is no Python",
        "class B(A):\n    y = 3",
        "inspect.getsource(f), inspect.getsource(A), inspect.getsource(B)",
        "type(pickle.loads(pickle.dumps(A()))) is A, A.__module__, __name__",
    )
    assert [result.ok for result in run.results] == [True, False, True, True, True]
    sources = ("def f():\n    return 2\n", "class A:\n    x = 1\n", "class B(A):\n    y = 3\n")
    assert run.results[3].value == repr(sources)
    assert run.results[4].value == "(True, '__main__', '__main__')"


def test_a_cell_inherits_no_future_imports(tmp_path: Path, library: ModuleType) -> None:
    assert _values(_run(tmp_path, library, "def f(x: int): ...\nf.__annotations__")) == [
        "{'x': <class 'int'>}"
    ]


def test_the_cells_behind_a_failing_one_run(tmp_path: Path, library: ModuleType) -> None:
    path = _write(tmp_path, "def f(x):\n    return 1 / x", "print('before')\nf(0)", "x = 5\nx")
    run = run_chapter(Chapter(path), "pytorch", library)
    failed = run.results[1]
    assert [result.ok for result in run.results] == [True, False, True]
    assert run.failed == (failed,)
    line = path.read_text().splitlines().index("    return 1 / x") + 1
    assert failed.error == f"cell 2, line {line}: ZeroDivisionError: division by zero"
    assert failed.printed == "before\n"
    assert failed.traceback is not None
    assert "f(0)" in failed.traceback
    assert "return 1 / x" in failed.traceback
    assert "chapter_runner.py" not in failed.traceback
    assert failed.to_json() == {
        "cell": 2,
        "ok": False,
        "seconds": round(failed.seconds, 3),
        "value": None,
        "printed": "before\n",
        "error": failed.error,
        "capped": False,
    }


def test_the_line_of_the_library_is_told(tmp_path: Path, library: ModuleType) -> None:
    (result,) = _run(tmp_path, library, "import json\njson.loads('{')").results
    assert result.traceback is not None
    assert "json.loads('{')" in result.traceback
    assert "decoder.py" in result.traceback


def test_a_backend_says_what_it_puts_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_backend"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    entry = BackendEntry("some", "some_backend", "some_backend:Backend", (), "")
    monkeypatch.setattr(chapter_runner, "find_backend", lambda name: entry)
    monkeypatch.setattr(chapter_runner, "load_package", lambda name: import_module("some_backend"))
    library, restored = chapter_runner.load_tab("jax")
    assert (library.__name__, restored) == ("some_backend", ())
    (package / "dropped.py").write_text("RESTORED = ['something']\n")
    invalidate_caches()
    assert chapter_runner.load_tab("jax") == (library, ("something",))


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        (
            "from d2l import torch as d2l\nd2l.nonsense",
            "needs d2l.nonsense, which the tab pytorch does not have",
        ),
        ("from d2l.torch import nonsense", "needs d2l.nonsense, which the tab pytorch does not have"),
        ("from d2l import jax", "needs d2l.jax, which the tab pytorch does not have"),
        ("import d2l.jax", "needs d2l.jax, which the tab pytorch does not have"),
        ("import no_such_module.inner", "needs the module no_such_module, which is not installed here"),
        ("x = (1", "SyntaxError: '(' was never closed"),
        ("exit(3)", "SystemExit: 3"),
        ("raise ValueError", "ValueError"),
        ("raise ValueError('two\\n  lines')", "ValueError: two lines"),
        ("raise ValueError('x' * 10_000)", "ValueError: " + "x" * 500 + " …"),
        ("class A:\n    def __repr__(self): return 1/0\nA()", "ZeroDivisionError: division by zero"),
        ("object().nonsense", "AttributeError: 'object' object has no attribute 'nonsense'"),
        ("raise BaseException('out')", "BaseException: out"),
        ("raise GeneratorExit", "GeneratorExit"),
        (UNPRINTABLE.format("Exception"), "Own, whose text cannot be shown"),
        (UNPRINTABLE.format("BaseException"), "Own, whose text cannot be shown"),
    ],
)
def test_errors_say_what_is_missing(tmp_path: Path, library: ModuleType, cell: str, error: str) -> None:
    (result,) = _run(tmp_path, library, cell).results
    assert result.error is not None
    assert result.error.startswith("cell 1, line ")
    assert result.error.partition(": ")[2].startswith(error)


def test_an_exception_that_not_even_its_class_describes(tmp_path: Path, library: ModuleType) -> None:
    cell = (
        "class Meta(type):\n    __name__ = property(lambda self: 1 / 0)\n"
        "class Own(BaseException, metaclass=Meta): pass\nraise Own"
    )
    first, second = _run(tmp_path, library, cell, "7").results
    assert (first.error, first.error_kind) == ("cell 1: an exception that cannot be shown", "BaseException")
    assert second.value == "7"


def test_what_a_cell_prints_is_kept_up_to_a_limit(tmp_path: Path, library: ModuleType) -> None:
    cells = (
        "for _ in range(30): print('x' * 99_999)",
        "import sys\nfor _ in range(30_000): print('a', end=''); print('b', end='', file=sys.stderr)",
        "'y' * 3_000_000",
        "raise ValueError('z' * 3_000_000)",
    )
    first, second, third, fourth = _run(tmp_path, library, *cells).results
    kept = (("x" * 99_999 + "\n") * 10)[:999_900]
    assert first.printed == kept + "\n… 2,000,100 more characters were printed and not kept\n"
    # A change of the stream counts as a hundred characters.
    assert second.printed.startswith("ab" * 4950)
    assert second.printed.endswith("more characters were printed and not kept\n")
    assert len(second.output) < 10_001
    assert third.value == "'" + "y" * 999_999 + " … 2,000,002 more characters"
    assert fourth.traceback is not None
    assert len(fourth.traceback) < 21_000


def test_what_is_printed_passes_in_flat_memory(tmp_path: Path, library: ModuleType) -> None:
    class Longest(_Watcher):
        piece = 0

        def printed(self, text: str, stream: str) -> None:
            self.piece = max(self.piece, len(text))

    watcher = Longest()
    cell = "for _ in range(300): print('x' * 100_000)"
    chapter = Chapter(_write(tmp_path, cell, "print('x' * 10_000_000)"))
    tracemalloc.start()
    try:
        run_chapter(chapter, "pytorch", library, watcher=watcher)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The text of the second cell itself, and what is kept of both, as wide as characters can be.
    assert peak < 10_000_000 + 2 * 4_000_000 + 1_000_000
    assert watcher.piece <= 1 << 16


def test_ctrl_c_ends_the_run_and_keeps_what_there_is(tmp_path: Path, library: ModuleType) -> None:
    run = _run(tmp_path, library, "1", "print('half')\nraise KeyboardInterrupt", "3")
    assert [result.ok for result in run.results] == [True, False]
    assert run.interrupted
    assert run.results[1].error == "cell 2: interrupted"
    assert run.results[1].printed == "half\n"
    assert sys.modules["__main__"].__dict__.get("tab") is None


def test_epochs_are_capped_where_they_are_asked_for(tmp_path: Path, library: ModuleType) -> None:
    assert _values(_run(tmp_path, library, "num_epochs = 9\nnum_epochs", epochs=3)) == ["3"]
    assert _values(_run(tmp_path, library, "num_epochs = 9\nnum_epochs")) == ["9"]
    with pytest.raises(SpecError, match="the number of epochs is 0"):
        _run(tmp_path, library, "1", epochs=0)


def test_a_tab_that_the_chapter_lacks(tmp_path: Path, library: ModuleType) -> None:
    with pytest.raises(ChapterError, match="no code for the tab jax"):
        run_chapter(Chapter(_write(tmp_path, "1")), "jax", library)


def test_two_runs_draw_the_same_random_numbers(tmp_path: Path, library: ModuleType) -> None:
    seeds = []
    library.__dict__["seed_everything"] = seeds.append
    cell = "import random\nimport numpy as np\nrandom.random(), np.random.rand()"
    first, second = (_values(_run(tmp_path, library, cell)) for _ in range(2))
    assert first == second
    assert seeds == [0, 0]


def _process() -> list[object]:
    """What a chapter can change of the process."""
    process = [sys.modules["__main__"], Path.cwd(), list(sys.argv), list(sys.path), list(warnings.filters)]
    return [*process, random.getstate(), str(np.random.get_state()), os.environ["MPLBACKEND"]]  # noqa: NPY002


def test_everything_around_the_run_is_as_before(
    tmp_path: Path, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, inner, other = ModuleType("d2l"), ModuleType("d2l.torch"), ModuleType("d2l.jax")
    monkeypatch.setitem(sys.modules, "d2l", real)
    monkeypatch.setitem(sys.modules, "d2l.torch", inner)
    monkeypatch.setitem(sys.modules, "d2l.jax", other)
    monkeypatch.setenv("MPLBACKEND", "svg")
    path = _write(
        tmp_path,
        "import os, sys, random, warnings\nimport numpy as np\nfrom d2l import torch as d2l",
        "os.chdir('/')\nsys.argv.append('x')\nsys.path.insert(0, 'y')\nsys.argv = ['z']",
        "sys.path = None\nwarnings.simplefilter('ignore')\nrandom.random(), np.random.rand()",
        "def greet(self): return 'chapter'\nd2l.Module.greet = greet\nd2l.Module.__bases__[0].greet = greet\n"
        "d2l.Module.more = 1\nd2l.extra = d2l.answer = 0\nd2l.submodule = sys",
        "'d2l.jax' in sys.modules, os.environ['MPLBACKEND']",
        "d2l.Module().greet(), d2l.Module.__bases__[0]().greet()",
    )
    before = _process()
    run = run_chapter(Chapter(path), "pytorch", library)
    assert _values(run)[-2:] == ["(False, 'Agg')", "('chapter', 'chapter')"]
    assert _process() == before
    assert sys.modules["d2l"] is real
    assert sys.modules["d2l.torch"] is inner
    assert sys.modules["d2l.jax"] is other
    assert str(path) not in linecache.cache
    assert _Module().greet() == _Base().greet() == "library"
    assert not hasattr(_Module, "more")
    assert library.answer == 42
    assert not hasattr(library, "extra")
    assert library.submodule is sys  # an import does that, once


def test_what_a_cell_takes_away_is_given_back(
    tmp_path: Path, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_VARIABLE", "own")
    here, gone = Path.cwd(), str(tmp_path / "gone")
    run = _run(
        tmp_path,
        library,
        "import os\nos.environ.clear()\nos.environ['NEW_VARIABLE'] = '1'",
        f"os.mkdir({gone!r})\nos.chdir({gone!r})\nos.rmdir({gone!r})",
        "import linecache\nlinecache.clearcache()",
    )
    assert [result.error for result in run.failed] == []
    assert os.environ["OWN_VARIABLE"] == "own"
    assert "NEW_VARIABLE" not in os.environ
    assert Path.cwd() == here


def test_a_working_folder_that_is_gone(
    tmp_path: Path, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    cell = f"import os\nos.rmdir({str(folder)!r})"
    assert _run(tmp_path, library, cell, "7").results[1].value == "7"
    assert _run(tmp_path, library, "7").results[0].value == "7"


def test_without_an_installed_book_none_is_left_behind(tmp_path: Path, library: ModuleType) -> None:
    _run(tmp_path, library, "from d2l import torch")
    assert not [name for name in sys.modules if name.partition(".")[0] == "d2l"]


class _Watcher:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def restored(self, name: str, why: str) -> None:
        self.seen.append(f"restored {name}, {why}")

    def begins(self, cell: Cell) -> None:
        self.seen.append(f"begins {cell.number}")

    def printed(self, text: str, stream: str) -> None:
        self.seen.append(f"{stream} {text}")

    def ended(self, result: CellResult) -> None:
        self.seen.append(f"ended {result.cell.number}")


def test_what_a_framework_dropped_is_back_while_the_chapter_runs(tmp_path: Path, library: ModuleType) -> None:
    seen: list[str] = []

    def restored(name: str) -> Restored:
        @contextmanager
        def put_back() -> Iterator[None]:
            library.__dict__[name] = f"old {name}"
            try:
                yield
            finally:
                del library.__dict__[name]
                seen.append(name)

        return Restored(name, "gone", lambda source: f".{name}" in source, put_back)

    watcher = _Watcher()
    cells = ("from d2l import torch as d2l", "print(d2l.used)", "raise KeyboardInterrupt", "4")
    run = run_chapter(
        Chapter(_write(tmp_path, *cells)),
        "pytorch",
        library,
        restored=[restored("used"), restored("unused")],
        watcher=watcher,
    )
    assert run.results[1].printed == "old used\n"
    assert seen == ["used"]
    assert watcher.seen == [
        "restored used, gone", "begins 1", "ended 1",
        "begins 2", "stdout old used", "stdout \n", "ended 2", "begins 3", "ended 3",
    ]  # fmt: skip


def test_figures_are_collected_and_closed(tmp_path: Path, library: ModuleType) -> None:
    pytest.importorskip("matplotlib")
    import matplotlib.pyplot as plt

    mine = plt.figure()
    try:
        run = _run(
            tmp_path,
            library,
            "import matplotlib.pyplot as plt\nplt.plot([1, 2]);\nplt.show()",
            "plt.figure(figsize=(2, 1)); plt.figure(); 1",
            "2",
            "plt.title('$broken_{$'); plt.plot([1]);",
        )
        assert plt.get_fignums() == [mine.number]
    finally:
        plt.close(mine)
    assert [len(result.figures) for result in run.results] == [1, 2, 0, 0]
    assert all(picture.startswith(b"\x89PNG") for result in run.results for picture in result.figures)
    assert [result.ok for result in run.results] == [True, True, True, False]
    assert "its figure cannot be drawn" in str(run.results[3].error)


def test_what_cells_add_to_a_table_of_the_library_is_gone_afterwards(
    tmp_path: Path, library: ModuleType
) -> None:
    table = {"novel": 1}
    library.__dict__["DATA_HUB"] = table
    cell = "from d2l import torch as d2l\nd2l.DATA_HUB['mine'] = d2l.DATA_HUB.pop('novel')\nd2l.DATA_HUB"
    run = _run(tmp_path, library, cell)
    assert run.results[0].value == "{'mine': 1}"
    assert library.__dict__["DATA_HUB"] is table == {"novel": 1}
