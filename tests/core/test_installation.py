"""What ``d2lrnn backends`` says of faked installations: packages and metadata, as pip lays them down."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import d2lrnn
from d2lrnn import registry
from d2lrnn.cli.main import main
from d2lrnn.errors import BackendNotInstalledError
from d2lrnn.installation import diagnosis, gpus

ROOT = Path(__file__).parents[2]
CUDA_BUILD = {"torch/version.py": "from typing import Optional\ncuda: Optional[str] = '12.8'\n"}
NO_CUDA_BUILD = {"torch/version.py": "from typing import Optional\ncuda: Optional[str] = None\n"}

Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def _ordinary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a GPU, of Debian's kind, with a Python that every framework takes."""
    monkeypatch.setattr(gpus, "DRIVER_FILES", (tmp_path / "driver",))
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "ubuntu", "ID_LIKE": "debian"})
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.7")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("GOMP_SPINCOUNT", "3000")  # what importing a backend sets would stay
    for name in ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lays down distributions by name and version, and files."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def lay_down(files: dict[str, str] = {}, /, **versions: str) -> Path:  # noqa: B006
        for name, version in versions.items():
            info = site / f"{name}-{version}.dist-info"
            info.mkdir()
            metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
            if name == "jax":
                metadata += "Requires-Dist: jaxlib<=0.10.2,>=0.10.1\n"
            (info / "METADATA").write_text(metadata)
        modules = {f"{name}/__init__.py": "" for name in versions if name in FRAMEWORKS}
        for name, content in (modules | files).items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(content)
        return site

    return lay_down


FRAMEWORKS = [module for entry in registry.BACKENDS for module in entry.requires if module != "numpy"]
JAX = {"jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"}
TENSORFLOW = {"tensorflow": "2.21.0", "keras": "3.15.1"}


@pytest.mark.parametrize(("name", "versions", "error", "what", "mend"), [
    ("mxnet", {"mxnet": "1.9.1", "numpy": "1.24.0"}, "AttributeError: x", "numpy 1.24.0 is too new for mxnet",
     'pip install "numpy<1.24"'),
    ("mxnet", {"mxnet": "1.7.0", "numpy": "1.23.5"}, None, "mxnet 1.7.0 is older than 1.9.1",
     'pip install "mxnet>=1.9.1"'),
    ("torch", {"torch": "2.3.1+cpu"}, None, "torch 2.3.1+cpu is older than 2.4,", 'pip install "torch>=2.4"'),
    ("torch", {"torch": "2.13.0"}, "OSError: libgomp.so.1: cannot open shared object file: No such file",
     "the system has no libgomp.so.1", "sudo apt-get install libgomp1"),
    ("torch", {"torch": "2.13.0"}, "ImportError: libcudart.so.12: cannot open shared object file",
     "Its files are damaged", "pip install --force-reinstall torch"),
    ("torch", {"torch": "2.13.0"}, "ModuleNotFoundError: No module named 'sympy'", "Install what is missing",
     "pip install torch"),
    ("torch", {"torch": "2.13.0"}, "ModuleNotFoundError: No module named 'torch._C'", "are damaged",
     "pip install --force-reinstall torch"),
    ("jax", {"jax": "0.10.2"}, None, "but flax, optax are missing", "pip install flax optax"),
    ("jax", JAX | {"jaxlib": "0.9.0"}, "RuntimeError: x", "jaxlib 0.9.0 is older than jax 0.10.2 takes",
     'pip install "jaxlib==0.10.1"'),
    ("jax", JAX | {"jaxlib": "0.11.0"}, "RuntimeError: x", "jaxlib 0.11.0 is newer than jax 0.10.2 takes",
     'pip install "jaxlib==0.10.2"'),
    ("jax", {name: JAX[name] for name in ("jax", "flax", "optax")}, "ModuleNotFoundError: x",
     "jaxlib is missing", "pip install jax==0.10.2"),
    ("jax", JAX | {"flax": "0.8.0"}, "ImportError: x", "flax 0.8.0 is older than 0.12",
     'pip install "flax>=0.12"'),
    ("jax", JAX | {"jax_cuda12_plugin": "0.10.2"}, None, "jax is built for CUDA, and this machine has no",
     "pip uninstall --yes jax-cuda12-plugin jax-cuda12-pjrt"),
    ("tensorflow", {"tensorflow": "2.21.0"}, None, "keras is missing", "pip install keras"),
    ("tensorflow", TENSORFLOW | {"keras": "2.15.0"}, "ImportError: x", "keras 2.15.0 is older than 3.5",
     'pip install "keras>=3.5"'),
    ("tensorflow", {"tensorflow_cpu": "2.15.0", **TENSORFLOW} | {"tensorflow": "2.18.0"}, None, "", ""),
])  # fmt: skip
def test_a_fault_and_its_mend(
    name: str, versions: dict[str, str], error: str | None, what: str, mend: str, install: Install
) -> None:
    install(**versions)
    faults = registry.find_backend(name).faults(error, [] if error else ["cpu"])
    assert [fault.mend for fault in faults] == [mend] * bool(mend)
    assert not mend or what in faults[0].what


def test_what_is_whole_has_no_fault(install: Install) -> None:
    install(NO_CUDA_BUILD, torch="2.13.0", mxnet="1.9.1", numpy="1.23.5", **JAX, **TENSORFLOW)
    assert {entry.name: entry.faults(None, ["cpu"]) for entry in registry.BACKENDS} == {
        entry.name: [] for entry in registry.BACKENDS
    }


def test_a_build_that_does_not_fit_the_machine(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(CUDA_BUILD, torch="2.13.0", nvidia_cudnn_cu12="9", **JAX, **TENSORFLOW)

    def mend(name: str, *devices: str) -> list[str]:
        return [fault.mend for fault in registry.find_backend(name).faults(None, [*devices, "cpu"])]

    assert mend("torch") == [
        "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cpu"
    ]
    assert mend("tensorflow") == ["pip uninstall --yes tensorflow; pip install tensorflow-cpu"]
    assert mend("jax") == []
    (tmp_path / "driver").touch()
    assert mend("torch", "gpu:0") == []
    assert mend("torch") == ["nvidia-smi"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert mend("torch") == mend("jax") == ["unset CUDA_VISIBLE_DEVICES"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert mend("jax") == ['pip install "jax[cuda13]"']
    install(NO_CUDA_BUILD)
    assert mend("torch") == ["pip install --force-reinstall torch"]


def test_a_tensorflow_without_its_cuda_libraries(install: Install, tmp_path: Path) -> None:
    install(**TENSORFLOW)
    (tmp_path / "driver").touch()
    (fault,) = registry.find_backend("tensorflow").faults(None, ["cpu"])
    assert fault.mend == 'pip install "tensorflow[and-cuda]"'


def test_keras_on_another_framework(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install({"../keras/keras.json": '{"backend": "jax"}'}, **TENSORFLOW)
    tensorflow = registry.find_backend("tensorflow")
    (fault,) = tensorflow.faults("ImportError: x")
    assert (
        str(fault)
        == f"{tmp_path}/keras/keras.json has Keras compute with jax: export KERAS_BACKEND=tensorflow"
    )
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert tensorflow.faults(None, ["cpu"]) == []
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    (fault,) = tensorflow.faults("ImportError: x")
    assert str(fault) == "KERAS_BACKEND has Keras compute with torch: unset KERAS_BACKEND"


def test_a_python_that_is_too_new_for_any_numpy_that_fits(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(mxnet="1.9.1", numpy="2.4.6")
    monkeypatch.setattr(platform, "python_version", lambda: "3.13.1")
    (fault,) = registry.find_backend("mxnet").faults("ImportError: x")
    assert fault.mend.startswith("python3.11 -m venv")


@pytest.mark.parametrize(("system", "command"), [
    ({"ID": "fedora"}, "sudo dnf install libgomp"),
    ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "sudo dnf install libgomp"),
    ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, "sudo zypper install libgomp1"),
    ({"ID": "alpine"}, "sudo apk add libgomp"),
    ({}, "sudo apt-get install libgomp1"),
])  # fmt: skip
def test_the_systems_own_package(
    system: dict[str, str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    fault = diagnosis.missing_library("OSError: libgomp.so.1: cannot open shared object file: No such file")
    assert fault is not None
    assert fault.mend == command


def test_a_package_of_ours_that_is_missing(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(torch="2.13.0")
    real = diagnosis.find_spec
    monkeypatch.setattr(diagnosis, "find_spec", lambda name: None if name == "d2lrnn_torch" else real(name))
    (fault,) = registry.find_backend("torch").faults("ModuleNotFoundError: No module named 'd2lrnn_torch'")
    assert fault.what.startswith("torch is installed, but d2lrnn_torch, the package of d2lrnn for it")
    assert fault.mend == "pip install --force-reinstall --no-deps d2lrnn"


#: What is found and cannot be used, each in its own way.
BROKEN = {
    "torch/__init__.py": "raise OSError('libgomp.so.1: cannot open shared object file: No such file')",
    "jax/__init__.py": "print('out of memory', flush=True)\nimport os\nos.kill(os.getpid(), 9)",
    "mxnet/__init__.py": "raise AttributeError(\"module 'numpy' has no attribute 'bool'.\\nIt was.\")",
    "keras/__init__.py": "from missing_of_keras import x",
}


def test_the_table_says_what_mends_each(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(BROKEN, torch="2.13.0", mxnet="1.9.1", numpy="2.1.0", **JAX, **TENSORFLOW)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("D2LRNN_BACKEND", "torch")
    result = tmp_path / "result.json"
    assert main(["backends", "--json", str(result)]) == 2
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "torch      cannot be used: OSError: libgomp.so.1: cannot open shared object\n" in printed
    assert (
        "           the system has no libgomp.so.1:\n             sudo apt-get install libgomp1\n" in printed
    )
    assert "importing it ends the process with SIGKILL, after:\n           out of memory\n" in printed
    assert "numpy 2.1.0 is too new for mxnet 1.9.1, which needs one below 1.24:\n" in printed
    assert '\n             pip install "numpy<1.24"\n' in printed
    assert "numpy      works: numpy " in printed
    assert printed.endswith("\n\nchosen: torch, by D2LRNN_BACKEND\n")
    told = json.loads(result.read_text())
    assert (told["chosen"], told["works"]) == ("torch", False)
    by_name = {each["name"]: each for each in told["backends"]}
    assert [each["state"] for each in by_name.values()] == ["cannot be used"] * 4 + ["works"]
    assert by_name["mxnet"]["error"] == "AttributeError: module 'numpy' has no attribute 'bool'."
    assert by_name["jax"]["faults"][0]["mend"] == "pip install --force-reinstall jax flax optax"
    assert by_name["tensorflow"]["faults"][0]["mend"] == "pip install tensorflow keras"


def test_what_hangs_is_ended(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install({"torch/__init__.py": "import threading; threading.Event().wait()"}, torch="2.13.0")
    main(["backends", "--timeout", "0.25"])
    printed = capsys.readouterr().out
    assert "torch      cannot be used: importing it took longer than 0.25 seconds\n" in printed
    assert "\n             d2lrnn backends --timeout 2.5\n" in printed
    assert main(["backends", "--timeout", "0"]) == 2
    assert "--timeout is 0: it must be a number above 0" in capsys.readouterr().err


def test_a_narrow_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("D2LRNN_BACKEND", "torhc")
    assert main(["backends"]) == 2
    printed = capsys.readouterr().out
    commands = re.compile(" +(pip|export) ")
    assert all(len(line) <= 30 for line in printed.splitlines() if not commands.match(line))
    assert "\n  devices: cpu (NumPy on this\n  computer)\n" in printed
    assert "D2LRNN_BACKEND: unknown\nbackend 'torhc': choose one of\n" in printed
    assert printed.endswith("\n  export D2LRNN_BACKEND=torch\n")


def test_an_error_of_training_says_the_same(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(BROKEN, mxnet="1.9.1", numpy="2.1.0")
    assert main(["train", "--backend", "mxnet"]) == 2
    assert capsys.readouterr().err == (
        "d2lrnn: the backend mxnet cannot be imported: "
        "AttributeError: module 'numpy' has no attribute 'bool'. "
        'numpy 2.1.0 is too new for mxnet 1.9.1, which needs one below 1.24: pip install "numpy<1.24"\n'
    )
    with pytest.raises(BackendNotInstalledError, match=r"numpy<1\.24"):
        d2lrnn.backend("mxnet")
    assert "mxnet" not in sys.modules


def test_what_is_needed_is_what_the_extras_ask_for() -> None:
    asked = set(re.findall(r'"(\w+)(?:>=|==)([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8")))
    for entry in registry.BACKENDS:
        path = ROOT / "backends" / entry.package / "installation.py"
        spec = spec_from_file_location("installation", path)
        assert spec is not None
        assert spec.loader is not None
        module: Any = module_from_spec(spec)
        spec.loader.exec_module(module)
        assert set(module.NEEDS.items()) <= asked
