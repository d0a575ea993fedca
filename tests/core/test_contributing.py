"""The costs in lines that CONTRIBUTING.md states, and its backend: it is extracted and tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEW_CELL = ROOT / "examples" / "new_cell"

#: The parity tests whose subject is the contract alone: neither a tab nor the floor of the benchmark.
PARITY = [
    f"tests/parity/test_{name}.py" for name in ("errors", "gradients", "layers", "optimizers", "training")
]


def _block(name: str) -> str:
    """The code block of CONTRIBUTING.md that stands below the file name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"^`{re.escape(name)}`.*?:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"CONTRIBUTING.md has no block of {name}"
    return found[1]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves one: the module, and beside it the metadata that announces the backend."""
    folder = tmp_path_factory.mktemp("site-packages")
    (folder / "d2lrnn_loops.py").write_text(_block("d2lrnn_loops.py"), encoding="utf-8")
    metadata = folder / "d2lrnn_loops-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: d2lrnn-loops\nVersion: 0.1\n")
    point = re.search(r"^loops = \"(.*)\"$", _block("pyproject.toml"), re.MULTILINE)
    assert point
    (metadata / "entry_points.txt").write_text(f"[d2lrnn.backends]\nloops = {point[1]}\n")
    return folder


def _run(package: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), *sys.path])
    environment = {**os.environ, "D2LRNN_BACKEND": "loops", "PYTHONPATH": path}
    environment.pop("D2LRNN_SKIPPED_LIST", None)
    command = [sys.executable, "-m", *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def test_a_backend_takes_two_hundred_lines() -> None:
    assert len(_block("d2lrnn_loops.py").splitlines()) <= 200


def test_the_parity_tests_run_on_the_backend(package: Path) -> None:
    done = _run(package, "pytest", "-q", "-p", "no:cacheprovider", *PARITY)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 80, done.stdout


def test_the_command_line_trains_and_writes_with_the_backend(package: Path, tmp_path: Path) -> None:
    trained = _run(package, "d2lrnn", "train", "--epochs", "1", "--num-train", "200", "--num-val", "100",
                   "--batch-size", "50", "--out", str(tmp_path / "run"))  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    written = _run(package, "d2lrnn", "generate", str(tmp_path / "run"), "--prefix", "the", "--num", "5")
    assert written.returncode == 0, written.stderr
    assert written.stdout.startswith("the")


def test_a_cell_takes_forty_lines_a_backend_and_not_one_in_the_core() -> None:
    files = sorted((NEW_CELL / "d2lrnn_peephole").glob("for_*.py"))
    assert len(files) == 2
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40, path.name
    for path in [*ROOT.glob("d2lrnn/**/*.py"), *ROOT.glob("backends/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in ("lstm-peephole", "d2lrnn_peephole") if name in text], path


def test_the_new_cell_is_announced_under_its_own_name() -> None:
    # Read as text: Python 3.10 has no module for TOML.
    text = (NEW_CELL / "pyproject.toml").read_text(encoding="utf-8")
    groups = re.findall(r'^\[project\.entry-points\."(.*)"\]\n(\S+) = "(.*)"$', text, re.MULTILINE)
    assert [group for group, _, _ in groups] == ["d2lrnn.cells", "d2lrnn.cells.numpy", "d2lrnn.cells.torch"]
    cell = (NEW_CELL / "d2lrnn_peephole" / "cell.py").read_text(encoding="utf-8")
    for _, name, value in groups:
        assert f'"{name}"' in cell
        module, _, attribute = value.partition(":")
        assert attribute in (NEW_CELL / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
