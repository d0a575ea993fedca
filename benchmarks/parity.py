"""The losses of one training on every backend, and how far each is from the float64 reference.

    D2LRNN_BACKEND=jax python benchmarks/parity.py measure   # this backend's losses into results/parity.json
    python benchmarks/parity.py draw                         # docs/pictures/parity.svg; needs matplotlib

`measure` on numpy adds the reference: the same steps in float64. The model is the GRU from scratch at the
book's sizes, in float32, for 200 steps on the built-in story; each takes under a minute of one core.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import d2lrnn
from d2lrnn.atomic_files import write_atomically
from d2lrnn.training.pictures import picture_of

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "results" / "parity.json"
PICTURE = ROOT / "docs" / "pictures" / "parity.svg"

SPEC = d2lrnn.ModelSpec(28, "gru", "scratch")
TRAINING = d2lrnn.TrainingSpec()
EPOCHS = 20

#: Each is seen in the gaps of the others: losses in dashes, differences in every fifth step.
COLOURS = {
    "torch": "#d55e00",
    "jax": "#0072b2",
    "tensorflow": "#b8508f",
    "mxnet": "#8a6d00",
    "numpy": "#007f5c",
}


def losses(backend: Any, spec: d2lrnn.ModelSpec) -> list[float]:
    """The loss of every training step, in nats per token."""
    data = d2lrnn.SlidingWindows(d2lrnn.load_corpus("sample"), batch_size=1024, num_steps=32)
    learner = backend.learner(backend.build(spec, d2lrnn.initial_parameters(spec)), TRAINING, device="cpu")
    found = []
    for epoch in range(EPOCHS):
        for batch in data.train_batches(epoch):
            result, _ = learner.train_step(batch, learner.initial_state(len(batch.inputs)))
            found.append(float(result.loss))
    return found


def measure() -> None:
    """Puts the losses of the chosen backend into the file."""
    backend = d2lrnn.backend()
    document = json.loads(KEPT.read_text()) if KEPT.exists() else {"versions": {}, "losses": {}}
    document["versions"][backend.name] = dict(backend.versions())
    document["losses"][backend.name] = losses(backend, SPEC)
    if backend.name == "numpy":
        document["losses"]["reference"] = losses(backend, replace(SPEC, dtype="float64"))
    write_atomically(KEPT, (json.dumps(document) + "\n").encode())


def draw() -> None:
    """Draws the losses above, and below them their relative differences from the reference."""
    measured = {name: np.array(found) for name, found in json.loads(KEPT.read_text())["losses"].items()}
    reference = measured.pop("reference")
    differences = {name: abs(found - reference) / reference for name, found in measured.items()}
    write_atomically(PICTURE, picture_of(lambda: _figure(measured, differences), "svg"))
    for name, found in differences.items():
        print(f"{name:<11}largest relative difference from the reference {found.max():.1e}")


def _figure(measured: dict[str, Any], differences: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    steps = np.arange(1, len(next(iter(measured.values()))) + 1)
    for number, (name, colour) in enumerate(COLOURS.items()):
        dashes = {"linestyle": (4 * number, (4, 4 * (len(COLOURS) - 1)))}
        above.plot(steps, measured[name], color=colour, linewidth=2.4, **dashes)
        # An equal loss has no place on a logarithmic axis.
        apart = np.where(differences[name] > 0, differences[name], np.nan)
        turn = slice(number, None, len(COLOURS))
        below.plot(steps[turn], apart[turn], ".", color=colour, markersize=5, label=name)
    above.set_title("One training on five backends: the losses lie on one another", loc="left")
    above.set_ylabel("loss, nats per character")
    below.set_ylabel("relative difference\nfrom float64")
    below.set_xlabel("training step")
    below.set_yscale("log")
    below.set_xlim(0, len(steps))
    for axes in (above, below):
        axes.grid(color="0.88", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(COLOURS), frameon=False, markerscale=2)
    return figure


if __name__ == "__main__":
    {"measure": measure, "draw": draw}[sys.argv[1]]()
