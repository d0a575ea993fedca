"""No import does work, none brings in a framework, and all of them go one way."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import d2lrnn
from d2lrnn import registry
from d2lrnn.contract.cells import CELLS
from d2lrnn.contract.optimizers import OPTIMIZERS

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax", "optax", "mxnet")
CORE = Path(d2lrnn.__file__).parent
BACKENDS = sorted(path for path in (Path(__file__).parents[2] / "backends").glob("d2lrnn_*") if path.is_dir())

#: The rooms of the core, the lowest floor first, and what each may import: nothing that stands below it here.
ROOMS = {
    "version": set(),
    "errors": set(),
    "checks": {"errors"},
    "allocator": set(),
    "atomic_files": set(),
    "contract": {"checks", "errors"},
    "copies": {"contract"},
    "pages": {"contract"},
    "workers": {"contract", "errors"},
    "installation": {"errors"},
    "registry": {"contract", "errors", "installation", "workers"},
    "data": {"atomic_files", "checks", "contract", "errors", "workers"},
    "generation": {"checks", "contract", "data", "errors"},
    "training": {"checks", "contract", "data", "errors", "generation", "pages", "workers"},
    "translation": {"checks", "contract", "data", "errors", "generation", "training"},
    "report": {"contract", "data", "generation", "pages", "training"},
    "estimator": {"contract", "data", "errors", "generation", "registry", "training"},
    "saving": {"atomic_files", "checks", "contract", "data", "errors", "registry", "training", "translation"},
    "ports": {"atomic_files", "checks", "contract", "errors", "registry", "saving"},
    "doctor": {"contract", "errors", "ports", "registry"},
    "book": {"contract", "data", "errors", "training", "translation"},
    "chapters": {"errors", "registry", "version"},
    "benchmark": {
        "allocator", "atomic_files", "contract", "data", "errors", "generation", "pages", "registry",
        "training", "workers",
    },
    "verification": {"benchmark", "contract", "errors", "installation", "registry", "version"},
    "cli": {
        "allocator", "atomic_files", "benchmark", "chapters", "contract", "data", "errors", "generation",
        "installation", "pages", "registry", "report", "saving", "training", "translation", "version",
        "workers",
        "doctor", "ports", "verification",
    },
    "__main__": {"cli", "errors"},
}  # fmt: skip

#: What a backend computes with, and what its tab may import beside it.
BACKEND_ROOMS = {"contract", "copies", "errors", "installation", "ports", "translation", "workers"}
TAB_ROOMS = {"book", "chapters", "data", "generation", "training"}


def _python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=True)
    assert done.stderr == ""
    return done.stdout


def _imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, at its top or in a function, with the names that may be modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _rooms(path: Path) -> set[str]:
    """The rooms of the core that a file imports from; a public name of `d2lrnn` itself counts as one too."""
    return {name.split(".")[1] for name in _imported(path) if name.startswith("d2lrnn.")}


def test_importing_the_package_imports_nothing_else(tmp_path: Path) -> None:
    code = "import sys; import d2lrnn; print([m for m in sys.modules if m.split('.')[0] in "
    assert _python(code + "('numpy', 'd2lrnn', 'safetensors')])", tmp_path).strip() == "['d2lrnn']"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        [], ["train"], ["generate"], ["chat"], ["evaluate"], ["compare"], ["plot"], ["report"], ["lr-find"],
        ["export"], ["config"], ["completion"], ["chapter"], ["bench"], ["check"], ["convert"], ["doctor"],
        ["verify"],
    ],
)  # fmt: skip
def test_help_imports_no_numpy(command: list[str], tmp_path: Path) -> None:
    code = f"""
import contextlib, io, sys
from d2lrnn.cli.main import main
with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
    main({[*command, "--help"]})
assert "usage: d2lrnn" in printed.getvalue()
print([m for m in ("numpy", "safetensors", "matplotlib") if m in sys.modules])
"""
    assert _python(code, tmp_path).strip() == "[]"


def test_importing_the_whole_core_imports_no_framework(tmp_path: Path) -> None:
    code = f"""
import importlib, pkgutil, sys
import d2lrnn
for found in pkgutil.walk_packages(d2lrnn.__path__, "d2lrnn."):
    if found.name != "d2lrnn.__main__":
        importlib.import_module(found.name)
for name in d2lrnn.__all__:
    getattr(d2lrnn, name)
print([m for m in sys.modules if m.split('.')[0] in {FRAMEWORKS}])
"""
    assert _python(code, tmp_path).strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_frameworks_are_named_in_the_table_alone() -> None:
    names = re.compile(rf"\b({'|'.join(FRAMEWORKS)}|pytorch|gluon)\b", re.IGNORECASE)
    for path in sorted(CORE.rglob("*.py")):
        if path == CORE / "registry.py":
            continue
        # An example in a docstring may name one; code may not.
        code = re.sub(r'""".*?"""|#.*', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        if path == CORE / "chapters" / "source.py":
            # The book's tabs have the frameworks' names, and so has the one of the cells without a marker.
            code = re.sub(r"^(TAB_NAMES|FIRST_TAB) = .*", "", code, flags=re.MULTILINE)
        assert not names.search(code), f"{path.relative_to(CORE)} names {names.findall(code)}"


def test_no_room_imports_from_a_floor_above_it() -> None:
    floors = list(ROOMS)
    for room, allowed in ROOMS.items():
        assert allowed <= set(floors[: floors.index(room)]), f"{room} is to import from above"


def test_the_rooms_are_those_of_the_table() -> None:
    found = {path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert found - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_it_may_and_may_what_it_does(room: str) -> None:
    module, used = CORE / f"{room}.py", set()
    for path in [module] if module.is_file() else sorted((CORE / room).rglob("*.py")):
        extra = _rooms(path) - {room} - ROOMS[room]
        assert not extra, f"{path.relative_to(CORE)} imports from {', '.join(sorted(extra))}"
        used |= _rooms(path)
    assert ROOMS[room] <= used, f"nothing in {room} needs what the table allows"


@pytest.mark.parametrize("package", BACKENDS, ids=lambda package: package.name)
def test_a_backend_imports_the_contract_and_for_its_tab_the_book(package: Path) -> None:
    for path in sorted(package.rglob("*.py")):
        theirs = {name.split(".")[0] for name in _imported(path) if name.startswith("d2lrnn_")}
        assert theirs <= {package.name}, f"{path} imports another backend: {theirs}"
        # The reference has no tab of the book's, and what the core trains with needs none either.
        computes = package.name == "d2lrnn_numpy" or path.name in ("adapter.py", "floor.py")
        measured = {"benchmark"} if path.name == "floor.py" else set()
        extra = _rooms(path) - BACKEND_ROOMS - measured - (set() if computes else TAB_ROOMS)
        assert not extra, f"{path.name} of {package.name} imports from {', '.join(sorted(extra))}"


def test_there_are_five_backends_and_a_runtime() -> None:
    packages = [entry.package for entry in (*registry.BACKENDS, *registry.RUNTIMES)]
    assert sorted(packages) == [path.name for path in BACKENDS]
    assert (len(registry.BACKENDS), len(registry.RUNTIMES)) == (5, 1)


def test_the_contract_is_read_in_an_hour() -> None:
    lines = {
        path.name: len(path.read_text("utf-8").splitlines()) for path in (CORE / "contract").glob("*.py")
    }
    assert sum(lines.values()) < 1000, lines


#: Where a word that is also a cell's name, or an optimiser's, means something else.
OTHER_MEANINGS = {
    # The attribute of a language model that holds its recurrent layers, as in the book.
    ("d2lrnn_jax", "parameters.py", "rnn"),
    # What the framework calls the optimiser that the book's text asks it for.
    ("d2lrnn_mxnet", "module.py", "sgd"),
    ("d2lrnn_mxnet", "first_edition.py", "sgd"),
}

#: Their second argument is the name of an attribute.
ATTRIBUTES = ("getattr", "hasattr", "setattr")


def _strings(path: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a file but docstrings, exported names and names of attributes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    exempt = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            exempt.add(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ATTRIBUTES:
            exempt |= set(node.args[1:2])
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                exempt |= {each for each in ast.walk(node) if isinstance(each, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in exempt:
            yield node.lineno, node.value


@pytest.mark.parametrize("package", [CORE, *BACKENDS], ids=lambda package: package.name)
def test_cells_and_optimizers_are_named_in_their_tables_alone(package: Path) -> None:
    tables = {CORE / "contract" / "cells.py", CORE / "contract" / "optimizers.py"}
    names = {*CELLS, *OPTIMIZERS}
    found = [
        f"{path.relative_to(package)}:{line} {value!r}"
        for path in sorted(set(package.rglob("*.py")) - tables)
        for line, value in _strings(path)
        if value in names and (package.name, path.name, value) not in OTHER_MEANINGS
    ]
    assert not found, "take the value, as in `cells.GRU.name`: " + ", ".join(found)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = d2lrnn.nonsense
    assert "backend" in dir(d2lrnn)
