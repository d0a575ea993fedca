"""What `Trainer.fit` shows in a notebook, run in a fresh kernel."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

import pytest

nbformat: Any = pytest.importorskip("nbformat")
nbclient: Any = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

BEGIN = """
import d2lrnn, sys
from d2lrnn import ModelSpec, SlidingWindows, Trainer, TrainingSpec, initial_parameters
corpus, numpy = d2lrnn.load_corpus("sample"), d2lrnn.backend("numpy")
spec = ModelSpec(len(corpus.vocab), num_hiddens=8)
def trainer(of=corpus, **options):
    learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
    data = SlidingWindows(of, batch_size=64, num_steps=10, num_train=128, num_val=64)
    return Trainer(learner, data, **options)
first = trainer()
"""


#: Cells by name, in the order in which they run.
CELLS = {
    "fitted": "history = first.fit(3)",
    "shown": "history",
    "both": "first.fit(5)",
    "off": "trainer(plot=False).fit(2);",
    "modules": "print('matplotlib.pyplot' in sys.modules, trainer(corpus.tokens).fit(1).sample)",
    "interrupted": """
import signal
stopped = trainer(on_step=lambda p: p.epoch == 3 and signal.raise_signal(signal.SIGINT))
assert stopped.fit(9).ended == "interrupted"
""",
    "diverged": """
wild = trainer()
step = wild.learner.train_step
def broken(batch, state):
    result, state = step(batch, state)
    return result._replace(loss=float("nan") if wild.learner.step > 4 else result.loss), state
wild.learner.train_step = broken
try:
    wild.fit(9)
except d2lrnn.D2LError:
    pass
""",
    "without": """
import d2lrnn.training.notebook
d2lrnn.training.notebook.find_spec = lambda name: None
history = trainer().fit(2)
""",
    "in its place": "history",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell shows. Nothing of the user's Jupyter counts, and nothing is left there."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in (BEGIN, *CELLS.values())]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patched:
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patched.setenv(name, str(tmp_path_factory.mktemp(name)))
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert notebook.cells[0].outputs == []
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells[1:]), strict=True))


def _kinds(outputs: Sequence[Any]) -> list[str]:
    return [output.output_type for output in outputs]


def _drawn(output: Any) -> str:
    """The epochs that a figure shows, in words."""
    return str(output.metadata["image/png"]["alt"]).partition(":")[0]


def test_one_figure_follows_the_epochs(outputs: dict[str, list[Any]]) -> None:
    (figure,) = outputs["fitted"]
    assert figure.output_type == "display_data"
    assert _drawn(figure) == "History(3 epochs, finished"
    png = base64.b64decode(figure.data["image/png"])
    width, height = struct.unpack(">II", png[16:24])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert figure.metadata["image/png"]["width"] == width // 2 > height // 2
    # It is no figure of pyplot's, which would be shown once more.
    assert outputs["modules"][-1]["text"].startswith("False")


def test_a_history_is_a_table_with_a_curve_and_a_sample(outputs: dict[str, list[Any]]) -> None:
    assert _kinds(outputs["shown"]) == ["execute_result"]
    data = outputs["shown"][0].data
    assert data["text/plain"].startswith("History(3 epochs, finished")
    assert (data["text/html"].count("<tr>"), data["text/html"].count("<svg xmlns")) == (4, 1)
    assert ">it has" in data["text/html"]
    # Tokens alone have no vocabulary to write with.
    assert outputs["modules"][-1]["text"].endswith("None\n")


def test_a_curve_is_not_shown_twice_below_one_cell(outputs: dict[str, list[Any]]) -> None:
    assert _kinds(outputs["both"]) == ["display_data", "execute_result"]
    assert _drawn(outputs["both"][0]) == "History(5 epochs, finished"
    html = outputs["both"][1].data["text/html"]
    assert (html.count("<tr>"), html.count("<svg xmlns")) == (6, 0)


def test_it_can_be_turned_off(outputs: dict[str, list[Any]]) -> None:
    assert outputs["off"] == []


@pytest.mark.parametrize(
    ("cell", "drawn"),
    [
        ("interrupted", "History(2 epochs and a part, interrupted"),
        ("diverged", "History(2 epochs, diverged"),
    ],
)
def test_a_training_that_ended_early_has_its_figure(
    cell: str, drawn: str, outputs: dict[str, list[Any]]
) -> None:
    (figure,) = outputs[cell]
    assert _drawn(figure) == drawn


def test_without_matplotlib_the_history_has_the_curve(outputs: dict[str, list[Any]]) -> None:
    assert outputs["without"] == []
    assert outputs["in its place"][0].data["text/html"].count("<svg xmlns") == 1
