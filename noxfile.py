"""Every test, on every backend, each in an environment of its own: ``nox``, or ``nox -t torch`` for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nox

nox.needs_version = ">=2024.4"
nox.options.error_on_missing_interpreters = True

PYTHON = "3.11"
BACKENDS = ["numpy", "torch", "tensorflow", "jax", "mxnet"]
#: Those whose tests wait most for compilers.
COMPILING = ["tensorflow", "jax"]
#: The short form of their tests, and of those on further Pythons: each fourth case of a test of several.
SHORT = ["--every", "4"]
#: Those whose framework has an engine for several workers.
ENGINES = ["torch", "jax", "tensorflow", "mxnet"]
#: Those whose framework's layers are ported.
PORTING = ["torch", "tensorflow", "jax", "mxnet"]
#: In whose environment ONNX Runtime is, whose recurrent nodes are ported, too.
ONNX_IN = "torch"
FRAMEWORKS = ["torch", "tensorflow", "keras", "jax", "flax", "optax", "mxnet"]

#: Where the tests of the core run: an id, the Python and the requirements.
CORES = [
    ("numpy-1.23", PYTHON, "core-oldest"),
    ("numpy-newest", PYTHON, "core-newest"),
    ("python-3.10", "3.10", "core-python3.10"),
    ("python-3.12", "3.12", "core-newest"),
    ("python-3.13", "3.13", "core-newest"),
]

#: Tests of the core that take long and are the same with every Python and NumPy: they run with the newest.
ONCE = [f"tests/core/test_{name}.py" for name in ("pages", "verify", "doctor", "doctor_updates")]

#: The matrices here are small: with several threads synchronisation costs more than the threads gain, above
#: all on a busy machine.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

#: The tests run in this many processes.
PROCESSES = ["-n", str(min(os.cpu_count() or 1, 4))]

#: JAX's tests spend much time on compiling programs that other tests compiled before: these are cached.
KEPT_PROGRAMS = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(".nox", "jax-programs").resolve()),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

#: A file for each session, with the tests that it skipped.
SKIPPED = Path(".nox") / "skipped"

#: A package with a cell of its own: on the backends for which it has a formula the parity tests run on it.
NEW_CELL, NEW_CELL_NAME, NEW_CELL_BACKENDS = "examples/new_cell", "lstm-peephole", ["numpy", "torch"]

#: The book's packages of both editions: tests compare results with one, and read the source of both.
BOOK = Path(".nox") / "book"
EDITIONS = {"current": "book", "first": "book-first"}

#: Where the site is built.
SITE = "build/docs"

#: The runs that the backends exchange, and the one that they hand on to each other.
EXCHANGED = Path(".nox") / "exchanged"
HANDED_OVER = Path(".nox") / "handed-over"


def _install(session: nox.Session, requirements: str) -> None:
    session.install("-r", f"requirements/{requirements}.txt")
    session.install("--no-deps", ".")


def _pytest(session: nox.Session, *arguments: str, listed: str = "", **environment: str) -> None:
    """Runs tests; the skipped ones are listed in a file named after the session, or after `listed`."""
    SKIPPED.mkdir(parents=True, exist_ok=True)
    skipped = SKIPPED / f"{listed or session.name}.txt"
    skipped.unlink(missing_ok=True)
    environment["D2LRNN_SKIPPED_LIST"] = str(skipped.resolve())
    environment |= ONE_THREAD
    chosen = _chosen(session)
    # With arguments tests run in this process, so that a debugger can stop in them.
    session.run("pytest", *([] if chosen else PROCESSES), *arguments, *chosen, env=environment)


def _chosen(session: nox.Session) -> list[str]:
    """What was given to pytest; ``all`` asks for the whole of what a plain nox has a short form of."""
    return [] if session.posargs == ["all"] else session.posargs


def _doctest(session: nox.Session, package: str, **environment: str) -> None:
    """Runs the examples in a package's docstrings; not with arguments, which select single tests."""
    # From the working tree, as are their imports: a module must not be imported from two places.
    if not _chosen(session):
        environment["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), str(Path("backends").resolve())])
        _pytest(session, "--doctest-modules", package, listed=f"{session.name}-examples", **environment)


@nox.session(python=PYTHON, tags=["lint"])
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.install("-r", "requirements/lint.txt")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHON, tags=["types"])
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    session.install("-r", "requirements/types.txt")
    session.run("mypy")


@nox.session(python=PYTHON, tags=["docs"])
def docs(session: nox.Session) -> None:
    """The site, into build/docs: a warning is an error, and no page asks for anything of the network."""
    _install(session, "docs")
    session.run("sphinx-build", "--quiet", "--fail-on-warning", "--keep-going", "--fresh-env", "docs", SITE)
    session.run("pytest", "tests/site", env={"D2LRNN_SITE": str(Path(SITE).resolve())})


def _interpreter(version: str) -> str | None:
    """The command of an installed Python, found on the PATH or among those of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    # The command is run, as pyenv has one for each name, which may fail because that version is missing.
    for command in (f"python{version}", *reversed(installed)):
        if shutil.which(command) and subprocess.run([command, "-c", ""], capture_output=True).returncode == 0:
            return command
    return None


def _cores() -> Iterator[object]:
    """The entries of `CORES` whose Python is installed; that of the development version is required."""
    for name, version, requirements in CORES:
        python = version if version == PYTHON else _interpreter(version)
        if python is not None:
            yield nox.param(python, requirements, id=name)


@nox.session(tags=["core"])
@nox.parametrize(["python", "requirements"], list(_cores()))
def core(session: nox.Session, requirements: str) -> None:
    """The core and the NumPy backend, with no framework installed; ``-- all``: every case."""
    _install(session, requirements)
    check = f"import importlib.util as u; found = [n for n in {FRAMEWORKS} if u.find_spec(n)]"
    session.run("python", "-c", f"{check}; assert not found, found")
    paths = ["tests/core", "tests/backends/test_numpy_gradients.py"]
    if requirements != "core-oldest":
        _doctest(session, "d2lrnn", D2LRNN_BACKEND="numpy")
    if (session.python, requirements) != (PYTHON, "core-newest"):
        paths += [word for path in ONCE for word in ("--ignore", path)]
    if session.python != PYTHON:  # there the session of the backend has all of them
        paths += ["tests/parity", *([] if session.posargs else ["-m", "not slow", *SHORT])]
    _pytest(session, *paths, D2LRNN_BACKEND="numpy")


@nox.session(python=PYTHON)
@nox.parametrize("backend", [nox.param(name, id=name, tags=[name]) for name in BACKENDS])
def parity(session: nox.Session, backend: str) -> None:
    """One backend against the float64 reference, its own tests, the book on it; ``-- all``: every case."""
    _install(session, backend)
    if backend in NEW_CELL_BACKENDS:
        session.install("--no-deps", f"./{NEW_CELL}")
        # If it were not found, its tests would not be collected, without an error.
        found = f"d2lrnn.backend({backend!r}).cells('scratch')"
        session.run("python", "-c", f"import d2lrnn; assert {NEW_CELL_NAME!r} in {found}")
    own = sorted(Path("tests/backends").glob(f"test_{backend}_*.py"))
    others = tuple(f"test_{other}_" for other in BACKENDS if other != backend)
    book = [path for path in sorted(Path("tests/book").glob("test_*.py")) if not path.name.startswith(others)]
    environment = {"D2LRNN_BACKEND": backend}
    if backend == "jax":
        environment |= KEPT_PROGRAMS
    if backend == "numpy":
        book = []  # the book has no tab for the reference
    else:
        for edition in EDITIONS:
            _install_book(session, "python", edition)
        environment["D2LRNN_BOOK_PACKAGES"] = str(BOOK.resolve())
    _doctest(session, f"backends/d2lrnn_{backend}", **environment)
    short = SHORT if backend in COMPILING and not session.posargs else []
    ports = ["tests/ports"] if backend in PORTING else []
    _pytest(session, "tests/parity", *ports, *map(str, [*own, *book]), *short, **environment)
    if backend == ONNX_IN and not session.posargs:
        _pytest(session, "tests/ports", listed=f"{session.name}-onnx", D2LRNN_BACKEND="onnx")


def _install_book(session: nox.Session, python: str, edition: str) -> Path:
    """Installs a package of the book without its pinned requirements, into a folder of its own."""
    folder, requirements = BOOK / edition, Path(f"requirements/{EDITIONS[edition]}.txt")
    installed = folder / requirements.name
    if not installed.is_file() or installed.read_text() != requirements.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        words = ["--quiet", "--no-deps", "--target", str(folder), "-r", str(requirements)]
        # Not `session.run`, which does nothing with --install-only.
        session.run_install(python, "-m", "pip", "install", *words, external=True)
        shutil.copy(requirements, installed)
    return folder


@nox.session(venv_backend="none")
def exchange(session: nox.Session) -> None:
    """Every backend resumes the runs of every other, in the environments of the parity sessions."""
    shutil.rmtree(EXCHANGED, ignore_errors=True)
    # Those that take longest begin.
    order = sorted(BACKENDS, key=lambda backend: backend not in COMPILING)
    pythons = {backend: _python_of(session, backend) for backend in order}
    words = [f"{backend}={python}" for backend, python in pythons.items()]
    command = [pythons["numpy"], "tests/exchange.py", str(EXCHANGED / "begun"), *words]
    session.run(*command, external=True, env=ONE_THREAD | KEPT_PROGRAMS)


@nox.session(venv_backend="none")
def workers(session: nox.Session) -> None:
    """Several workers on every engine: numbers, deaths, a run handed on; ``-- all`` with the slow tests."""
    pythons = {backend: _python_of(session, backend) for backend in ENGINES}
    for backend, python in pythons.items():
        short = "not slow" if backend == ENGINES[0] else "not slow and not of_the_core"
        chosen = [] if session.posargs == ["all"] else ["-m", short]
        environment = {"D2LRNN_BACKEND": backend, **ONE_THREAD, **(KEPT_PROGRAMS if backend == "jax" else {})}
        SKIPPED.mkdir(parents=True, exist_ok=True)
        environment["D2LRNN_SKIPPED_LIST"] = str((SKIPPED / f"workers-{backend}.txt").resolve())
        command = [python, "-m", "pytest", "tests/workers", *PROCESSES, *chosen]
        session.run(*command, external=True, env=environment)
    shutil.rmtree(HANDED_OVER, ignore_errors=True)
    words = [f"{backend}={python}" for backend, python in pythons.items()]
    command = [pythons["torch"], "tests/handover.py", str(HANDED_OVER), *words]
    session.run(*command, external=True, env=ONE_THREAD)


def _python_of(session: nox.Session, backend: str) -> str:
    """The interpreter of a backend's parity session, whose environment is created if it is missing."""
    python = Path(".nox") / f"parity-{backend}" / "bin" / "python"
    if not python.is_file():
        session.run(sys.executable, "-m", "nox", "-s", f"parity({backend})", "--install-only", external=True)
    session.run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", ".", external=True)
    return str(python)


@nox.session(python=PYTHON, default=False)
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def novel(session: nox.Session, backend: str) -> None:
    """The book's models on the novel, into benchmarks/results; not part of a plain nox."""
    _install(session, backend)
    environment = {"D2LRNN_BACKEND": backend, **ONE_THREAD}
    with Path(f"benchmarks/results/train-{backend}.txt").open("w") as printed:
        session.run("d2lrnn", "train", "time-machine", stdout=printed, env=environment)
    session.run("python", "benchmarks/novel.py", "run", env=environment)
    session.run("python", "benchmarks/novel.py", "table")


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """The benchmark, into benchmarks/results; its arguments follow --, and nothing else should be running."""
    pythons = {backend: _python_of(session, backend) for backend in BACKENDS}
    book = _install_book(session, pythons["numpy"], "current")
    environments = _environments(pythons)
    words = ["benchmarks/run.py", *environments, "--book", str(book), *session.posargs]
    session.run(pythons["numpy"], "benchmarks/text.py", external=True, silent=True)
    session.run(pythons["numpy"], *words, external=True)


@nox.session(venv_backend="none", default=False)
def gpu(session: nox.Session) -> None:
    """On a GPU: tests, parity and benchmark in ten minutes, into benchmarks/results."""
    pythons = {backend: _python_of(session, backend) for backend in BACKENDS}
    words = ["benchmarks/gpu.py", *_environments(pythons), *session.posargs]
    session.run(pythons["numpy"], *words, external=True)


@nox.session(venv_backend="none", default=False)
def before(session: nox.Session) -> None:
    """An earlier checkout, the argument after --, and this one in turn; nothing else should be running."""
    pythons = {backend: _python_of(session, backend) for backend in BACKENDS}
    words = ["benchmarks/before.py", *session.posargs, *_environments(pythons)]
    session.run(pythons["numpy"], *words, external=True)


def _environments(pythons: dict[str, str]) -> list[str]:
    return [word for name, python in pythons.items() for word in ("--env", f"{name}={python}")]


@nox.session(venv_backend="none", default=False)
def tricks(session: nox.Session) -> None:
    """What each trick gains, into benchmarks/results; nothing else should be running."""
    for backend in session.posargs or BACKENDS:
        environment = {"D2LRNN_BACKEND": backend}
        session.run(_python_of(session, backend), "benchmarks/tricks/run.py", external=True, env=environment)
    session.run(_python_of(session, "numpy"), "benchmarks/tricks/run.py", "table", external=True)


@nox.session(venv_backend="none", tags=["core", *BACKENDS])
def skipped(session: nox.Session) -> None:
    """Lists what the sessions before it skipped, and why."""
    listed = sorted(SKIPPED.glob("*.txt"))
    missing = [f"core({name}): no python{version} runs here" for name, version, _ in CORES
               if version != PYTHON and _interpreter(version) is None]  # fmt: skip
    if not listed and not missing:
        session.log("nothing was skipped")
    for line in missing:
        session.log(f"skipped {line}")
    for path in listed:
        for line in path.read_text(encoding="utf-8").splitlines():
            session.log(f"skipped in {path.stem}: {line}")
        path.unlink()
