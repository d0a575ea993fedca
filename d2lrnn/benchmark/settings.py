"""What is measured: the settings, the models, and their combinations.

Shapes are written with B = batch size, T = time steps, h = hidden units, V = vocabulary size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from d2lrnn.contract import cells
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, Implementation
from d2lrnn.data.corpus import Corpus, load_corpus
from d2lrnn.errors import SpecError

#: The built-in sample has 28 symbols, as the novel has.
VOCAB_SIZE = 28

#: Where gradients are clipped: at a norm that the first steps exceed now and then.
_CLIP = 1.0


@dataclass(frozen=True)
class Setting:
    """The sizes of a training step.

    Attributes:
        name: what the command line calls it.
        batch_size: B.
        num_steps: T.
        num_hiddens: h.
        min_layers: models with fewer layers get this many.
        learning_rate: the book's, 1; less where that makes a model of this width so unsteady that the
            rounding of one step shows in the loss of the next.
    """

    name: str
    batch_size: int
    num_steps: int
    num_hiddens: int
    min_layers: int = 1
    learning_rate: float = 1.0

    @property
    def training(self) -> TrainingSpec:
        """How every subject trains."""
        return TrainingSpec(self.learning_rate, _CLIP)

    @property
    def num_tokens(self) -> int:
        """How many tokens a step learns from."""
        return self.batch_size * self.num_steps

    @property
    def small(self) -> bool:
        """Whether it has the book's 32 hidden units: only there models also write and learn for a while."""
        return self.num_hiddens == 32

    def describe(self) -> str:
        """The sizes in one line."""
        layers = f", {self.min_layers} layers" if self.min_layers > 1 else ""
        rate = "" if self.learning_rate == 1 else f", learning rate {self.learning_rate:g}"
        return f"batch {self.batch_size}, steps {self.num_steps}, hidden {self.num_hiddens}{layers}{rate}"


@dataclass(frozen=True)
class BenchmarkModel:
    """A kind of model, whose sizes come from a setting.

    Attributes:
        name: what the command line calls it.
        cell: the name of the cell.
        implementation: scratch or concise.
        num_layers: recurrent layers, where the setting does not ask for more.
    """

    name: str
    cell: str
    implementation: Implementation
    num_layers: int = 1


#: M: the book's current edition. C: its first edition. L: where matrix products are nearly all there is.
#: Q: what ``--quick`` takes.
SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("M", 1024, 32, 32),
        Setting("C", 32, 35, 512),
        Setting("L", 64, 64, 1024, min_layers=2, learning_rate=0.1),
        Setting("Q", 32, 16, 32),
    )
}

MODELS = {
    model.name: model
    for model in (
        BenchmarkModel("rnn-scratch", cells.RNN.name, "scratch"),
        BenchmarkModel("stacked-scratch", cells.RNN.name, "scratch", 2),
        BenchmarkModel("gru-scratch", cells.GRU.name, "scratch"),
        BenchmarkModel("lstm-scratch", cells.LSTM.name, "scratch"),
        BenchmarkModel(cells.RNN.name, cells.RNN.name, "concise"),
        BenchmarkModel("gru-2", cells.GRU.name, "concise", 2),
        BenchmarkModel("lstm-2", cells.LSTM.name, "concise", 2),
    )
}

#: What a plain layer is compared by: one model for every cell and number of layers.
OWN_LAYERS = {
    model.name: model
    for model in (
        BenchmarkModel(cells.RNN.name, cells.RNN.name, "concise"),
        BenchmarkModel("rnn-2", cells.RNN.name, "concise", 2),
        BenchmarkModel(cells.GRU.name, cells.GRU.name, "concise"),
        BenchmarkModel("gru-2", cells.GRU.name, "concise", 2),
        BenchmarkModel(cells.LSTM.name, cells.LSTM.name, "concise"),
        BenchmarkModel("lstm-2", cells.LSTM.name, "concise", 2),
    )
}

#: Settings that are only shorter or longer, narrower or wider than each other: is a token's price the same?
SCALING = ("32x16x256", "32x64x256", "32x256x256", "128x64x256", "1024x64x256")

_SIZES = re.compile(r"(\d+)x(\d+)x(\d+)")


def find_setting(name: str) -> Setting:
    """The setting called `name`, or of the sizes ``BxTxh``.

    Raises:
        SpecError: there is none, or a size is 0.

    Example:
        >>> find_setting("32x16x256").describe()
        'batch 32, steps 16, hidden 256'
    """
    if name in SETTINGS:
        return SETTINGS[name]
    match = _SIZES.fullmatch(name)
    if match and all(int(size) for size in match.groups()):
        return Setting(name, *map(int, match.groups()))
    raise SpecError(
        f"unknown setting {name!r}: choose from {', '.join(SETTINGS)}, or give batch x steps x hidden units, "
        "such as 32x35x256"
    )


def find_model(name: str) -> BenchmarkModel:
    """The model called `name`.

    Raises:
        SpecError: there is none.
    """
    found = MODELS.get(name) or OWN_LAYERS.get(name)
    if found is None:
        known = ", ".join({**MODELS, **OWN_LAYERS})
        raise SpecError(f"unknown model {name!r}: choose from {known}")
    return found


def spec_of(setting: Setting, model: BenchmarkModel) -> ModelSpec:
    """The model at the sizes of a setting, in float32."""
    layers = max(model.num_layers, setting.min_layers)
    return ModelSpec(VOCAB_SIZE, model.cell, model.implementation, setting.num_hiddens, layers)


def combinations(
    settings: Sequence[Setting], models: Sequence[BenchmarkModel]
) -> list[tuple[Setting, BenchmarkModel]]:
    """Every model in every setting; of models that a setting makes equal, the first one only."""
    kinds: dict[tuple[Setting, ModelSpec], BenchmarkModel] = {}
    for setting in settings:
        for model in models:
            kinds.setdefault((setting, spec_of(setting, model)), model)
    return [(setting, model) for (setting, _), model in kinds.items()]


def own_layer(setting: Setting, model: BenchmarkModel) -> BenchmarkModel:
    """The framework's own layer that a model is compared with: the same cell, as many layers.

    A scratch GRU resets before its product and the own layer after it: another function, of the same
    products.
    """
    layers = spec_of(setting, model).num_layers
    return next(own for own in OWN_LAYERS.values() if (own.cell, own.num_layers) == (model.cell, layers))


def batches(setting: Setting, corpus: Corpus | None = None) -> Iterator[Batch]:
    """Minibatches of the built-in sample without end, the same for every subject.

    Args:
        setting: the shapes.
        corpus: the sample, where the caller has it already.
    """
    tokens = (corpus or load_corpus("sample")).tokens.astype(np.int32)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, setting.num_steps + 1)
    random = np.random.default_rng(0)
    while True:
        chosen = windows[random.integers(0, len(windows), setting.batch_size)]
        yield Batch(np.ascontiguousarray(chosen[:, :-1]), np.ascontiguousarray(chosen[:, 1:]))
