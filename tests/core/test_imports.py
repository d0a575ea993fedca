"""No import does work, and none brings in a framework."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import d2lrnn

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax", "optax", "mxnet")
CORE = Path(d2lrnn.__file__).parent


def _python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=True)
    assert done.stderr == ""
    return done.stdout


def test_importing_the_package_imports_nothing_else(tmp_path: Path) -> None:
    code = "import sys; import d2lrnn; print([m for m in sys.modules if m.split('.')[0] in "
    assert _python(code + "('numpy', 'd2lrnn', 'safetensors')])", tmp_path).strip() == "['d2lrnn']"
    assert list(tmp_path.iterdir()) == []


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
            code = re.sub(r"^(TAB_NAMES|_UNMARKED) = .*", "", code, flags=re.MULTILINE)
        assert not names.search(code), f"{path.relative_to(CORE)} names {names.findall(code)}"


def test_backends_never_import_each_other() -> None:
    sources = Path(__file__).parents[2] / "backends"
    packages = [path.name for path in sources.iterdir() if path.name.startswith("d2lrnn_")]
    assert len(packages) == 5
    for package in packages:
        for path in (sources / package).rglob("*.py"):
            code = path.read_text("utf-8")
            imported = set(re.findall(r"^\s*(?:from|import) (d2lrnn_\w+)", code, re.MULTILINE))
            assert imported <= {package}, f"{path} imports {imported}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = d2lrnn.nonsense
    assert "backend" in dir(d2lrnn)
