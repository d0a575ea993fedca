"""The benchmark over several environments: backends, each framework's own layers, the book's package.

    nox -s bench        # all of it, in the environments of the parity sessions
    python benchmarks/run.py --env torch=python --env numpy=python --settings C --models rnn-scratch,rnn

``--env NAME=PYTHON`` says which interpreter has a backend's framework; the default is the one that runs this
file. Results go to ``benchmarks/results``: ``bench.json`` after every process; at the end ``bench.md``,
``bench.html`` and each setting's figure, such as ``bench-C.svg``. ``--resume`` continues from ``bench.json``.
``--book FOLDER`` names a folder with the book's package (``pip install --no-deps --target FOLDER -r
requirements/book.txt``).

``--report`` measures nothing: it writes the report again from ``bench.json``, or from the file of ``--json``.

``--settings scaling --models rnn-scratch --no-peers`` shows what a token costs from 16 to 256 steps and from
batch 32 to 1024; with ``--resume`` it goes into the same report.

``--workers 2`` compares one worker with two that share a step (`d2lrnn.benchmark.workers`), and goes into
``workers.json`` and ``workers.md``.

Nothing else should run on the machine. Every cell of every subject is a process of 10 to 25 seconds, at L up
to a minute: two rounds of ``--settings C`` take a quarter of an hour, three rounds of everything take hours.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d2lrnn.atomic_files import write_atomically
from d2lrnn.benchmark.driver import Entrant, new_document, read_document, run
from d2lrnn.benchmark.html import page, step_figures
from d2lrnn.benchmark.markdown import markdown
from d2lrnn.benchmark.settings import SETTINGS
from d2lrnn.benchmark.table import gather
from d2lrnn.benchmark.text_tables import further_tables
from d2lrnn.benchmark.workers import run_workers
from d2lrnn.benchmark.workers_table import workers_table
from d2lrnn.cli.bench import names_in, report_worker, resumed, schedule_of
from d2lrnn.cli.commands.argument_parser import ArgumentParser
from d2lrnn.cli.commands.bench import BenchRequest, add_options
from d2lrnn.errors import WRONG_INPUT, D2LError, SpecError
from d2lrnn.pages.svg import as_file
from d2lrnn.registry import backends, engine_of, find_backend

HERE = Path(__file__).resolve().parent
RESULTS, PEERS = HERE / "results", HERE / "peers"

#: Workers find the library in this checkout, whatever is installed where they run.
CHECKOUT = os.pathsep.join([str(HERE.parent), str(HERE.parent / "backends")])

#: What several workers are measured with: where products are nearly all there is, and the first edition's
#: sizes with a batch that is worth sharing.
WORKERS_SETTINGS = "L,256x35x512"

#: Without these, JAX and TensorFlow reserve most of a GPU's memory at once.
AS_NEEDED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def main(argv: list[str] | None = None) -> int:
    """Measures, and writes the files."""
    given = vars(_parser().parse_args(argv))
    pythons, book, peers, report = (given.pop(name) for name in ("env", "book", "peers", "report"))
    try:
        del given["request"]  # what d2lrnn bench would make of it
        request = BenchRequest(**given)
        name = "bench.json" if request.workers is None else "workers.json"
        save = Path(request.json or RESULTS / name).absolute()
        if report:
            return _write_report(read_document(save), save)
        schedule = schedule_of(request, "M,C,L" if request.workers is None else WORKERS_SETTINGS)
        chosen = entrants(request, pythons, book, peers=peers)
        document = resumed(save, schedule) if request.resume else None
    except D2LError as error:
        print(f"benchmarks/run.py: {error}", file=sys.stderr)
        return WRONG_INPUT
    save.parent.mkdir(parents=True, exist_ok=True)
    if request.workers is not None:
        document = {**(document or new_document(schedule)), "command": _command(request)}
        return _write_report(
            run_workers(schedule, chosen, document, save=save, on_worker=report_worker), save
        )
    return _write_report(run(schedule, chosen, document, save=save, on_worker=report_worker), save)


def _write_report(document: Mapping[str, Any], save: Path) -> int:
    """The files beside the document's."""
    if document.get("workers"):
        write_atomically(save.with_suffix(".md"), workers_table(document).encode())
        failures = sum(row["status"] != "ok" for row in document["rows"])
        print(f"{save.with_suffix('.md')}: {len(document['rows'])} cells, {failures} with failures")
        return 0
    table = gather(document)
    text = save.with_name("text.json")
    further = further_tables(json.loads(text.read_text())) if text.exists() else []
    files = {".md": markdown(table, further), ".html": page(table, further)}
    files |= {
        f"-{name}.svg": as_file(figure) for name, figure in step_figures(table).items() if name in SETTINGS
    }
    for ending, content in files.items():
        write_atomically(save.with_name(save.stem + ending), content.encode())
    print(
        f"{save.with_suffix('.md')}: {len(document['rows'])} rows, {len(table.failures)} cells with failures"
    )
    return 0


def entrants(request: BenchRequest, env: list[str], book: str | None, *, peers: bool) -> list[Entrant]:
    """Who is measured: each backend, followed by its peers, so that they run soon after one another.

    Args:
        request: its backends, or all that there are environments for.
        env: ``NAME=PYTHON`` of each; empty takes all that are installed here.
        book: the folder with the book's package, or None.
        peers: whether the frameworks' own layers are measured; several workers have none.

    Raises:
        SpecError: a backend has no environment.
        UnknownBackendError: there is none of a name.
    """
    pythons = dict(_pair(text) for text in env)
    if not pythons:
        pythons = {entry.name: sys.executable for entry in backends() if entry.installed}
    names = request.backends or ",".join(pythons)
    chosen = [find_backend(name).name for name in names_in("--backends", names)]
    if request.workers is not None:
        peers, book = False, None
        if request.backends is None:
            chosen = [name for name in chosen if find_backend(name).engine]
        for name in chosen:
            engine_of(name)
    found = []
    for name in chosen:
        if name not in pythons:
            raise SpecError(f"no environment for {name}: give one with --env {name}=PYTHON")
        python, surroundings = pythons[name], {"PYTHONPATH": CHECKOUT, **AS_NEEDED}
        found.append(Entrant(name, "backend", name, name, python, surroundings))
        layers = PEERS / f"layers_{name}.py"
        if layers.exists() and peers:
            found.append(Entrant(f"{name} layers", "layers", name, str(layers), python, surroundings))
        if layers.exists() and book:
            paths = os.pathsep.join([CHECKOUT, str(Path(book).resolve())])
            with_book = {**surroundings, "PYTHONPATH": paths, "D2LRNN_BOOK": name}
            found.append(Entrant(f"{name} book", "book", name, str(PEERS / "book.py"), python, with_book))
    return found


def _command(request: BenchRequest) -> str:
    """What repeats the measurement of several workers, in the environments of the parity sessions."""
    names = ("workers", "settings", "models", "backends", "rounds", "seconds")
    given = {name: getattr(request, name) for name in names}
    return " ".join(["nox -s bench --", *(f"--{name} {value}" for name, value in given.items() if value)])


def _pair(text: str) -> tuple[str, str]:
    name, equals, python = text.partition("=")
    if not equals or not python:
        raise SpecError(f"--env {text}: it must be a backend and an interpreter, as in torch=/path/to/python")
    return find_backend(name).name, python


def _parser() -> ArgumentParser:
    parser = ArgumentParser(description="The benchmark over several environments.")
    add_options(parser)
    parser.add_argument("--env", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--book", default=None, metavar="FOLDER", help="where the book's package is")
    parser.add_argument(
        "--no-peers", dest="peers", action="store_false", default=True,
        help="leave out the frameworks' own layers",
    )  # fmt: skip
    parser.add_argument(
        "--report",
        action="store_true",
        default=False,
        help="measure nothing: write the report again from the kept results",
    )
    parser.set_defaults(device="cpu")
    return parser


if __name__ == "__main__":
    sys.exit(main())
