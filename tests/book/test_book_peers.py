"""The book's package as a peer in the benchmark: it computes what the backends do, and is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from d2lrnn.benchmark.driver import Entrant, Schedule, run
from d2lrnn.benchmark.settings import find_model, find_setting
from d2lrnn.registry import find_backend

PACKAGES = os.environ.get("D2LRNN_BOOK_PACKAGES")
FOLDER = Path(PACKAGES or "") / "current"
NAME = find_backend(os.environ["D2LRNN_BACKEND"]).name
PEER = Path(__file__).parents[2] / "benchmarks" / "peers" / "book.py"

MODELS = ("rnn-scratch", "rnn", "gru-2", "lstm-2")

#: What the package has no model for.
MISSING = {"jax": {"rnn"}, "mxnet": {"rnn", "lstm-2"}}.get(NAME, set())

#: Prints what the package's model writes, and what the reference does with the same parameters.
WRITES = """
import json, sys
from d2lrnn.benchmark.reference import check_parameters_of
from d2lrnn.benchmark.settings import find_model, find_setting, spec_of
from d2lrnn.benchmark.subject import load_subject
from d2lrnn.generation import generate
from d2lrnn.data.corpus import load_corpus
vocab = load_corpus("sample").vocab
setting = find_setting("4x5x32")
for model in sys.argv[2].split(","):
    spec = spec_of(setting, find_model(model))
    made = [load_subject(subject).contestant(spec, check_parameters_of(spec), setting.training, device="cpu")
            for subject in (sys.argv[1], "numpy")]
    print(json.dumps([made[0].write(vocab, "it has", 3), generate(made[1], vocab, "it has", 3)]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PACKAGES, reason="D2LRNN_BOOK_PACKAGES names no folder with the book's packages"),
    pytest.mark.skipif(
        NAME == "tensorflow" and not (FOLDER / "tf_keras").is_dir() and not find_spec("tf_keras"),
        reason="tf_keras is missing, which the book's package needs: requirements/book.txt has it",
    ),
]


@pytest.fixture
def environment() -> dict[str, str]:
    paths = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"D2LRNN_BOOK": NAME, "PYTHONPATH": os.pathsep.join(paths)}


def test_the_package_is_measured(environment: dict[str, str]) -> None:
    schedule = Schedule(
        settings=(find_setting("4x5x32"),), models=tuple(map(find_model, MODELS)), rounds=1, seconds=0.05,
        min_steps=2, timeout=120.0, target_seconds=0.1, quick=True,
    )  # fmt: skip
    entrant = Entrant(f"{NAME} book", "book", NAME, str(PEER), environment=environment)
    rows = {row["model"]: row for row in run(schedule, [entrant])["rows"]}
    assert {model: row["status"] for model, row in rows.items()} == {
        model: "unsupported" if model in MISSING else "ok" for model in MODELS
    }
    for model in set(MODELS) - MISSING:
        assert rows[model]["generation"]["characters_per_second"] > 0


def test_the_package_writes_the_same_text(environment: dict[str, str]) -> None:
    models = [model for model in MODELS if model not in MISSING]
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(PEER), ",".join(models)],
        env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(models)
    for line in lines:
        book, reference = json.loads(line)
        assert book == reference
