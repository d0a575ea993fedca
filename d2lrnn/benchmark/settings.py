"""What is measured: the settings, the models, and their combinations.

Shapes are written with B = batch size, T = time steps, h = hidden units, V = vocabulary size, E = embedding
size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from d2lrnn.contract import cells
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch, Implementation, IntArray
from d2lrnn.data.corpus import load_corpus
from d2lrnn.errors import SpecError

#: The built-in sample has 28 symbols, as the novel has.
VOCAB_SIZE = 28

#: Where gradients are clipped: at a norm that the first steps exceed now and then.
_CLIP = 1.0

#: The length of a generated text of words.
_NUM_WORDS = 2_000_000


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
        vocab_size: V; above that of the built-in sample the text is generated.
        embedding_size: E; None takes one-hot vectors.
        own_models: the models that it is for, where nobody asks for others; none names them all.
    """

    name: str
    batch_size: int
    num_steps: int
    num_hiddens: int
    min_layers: int = 1
    learning_rate: float = 1.0
    vocab_size: int = VOCAB_SIZE
    embedding_size: int | None = None
    own_models: tuple[str, ...] = ()

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
        words = f", {self.vocab_size} words" if self.vocab_size > VOCAB_SIZE else ""
        embedding = f", embedding {self.embedding_size}" if self.embedding_size else ""
        sizes = f"batch {self.batch_size}, steps {self.num_steps}, hidden {self.num_hiddens}"
        return f"{sizes}{layers}{embedding}{words}{rate}"


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
#: W and W33: words, the medium model of Zaremba, Sutskever and Vinyals (2014) and of the frameworks' own
#: examples, with their 10,000 words (33,278 has WikiText-2). Q: what ``--quick`` takes.
SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("M", 1024, 32, 32),
        Setting("C", 32, 35, 512),
        Setting("L", 64, 64, 1024, min_layers=2, learning_rate=0.1),
        Setting("W", 20, 35, 650, 2, vocab_size=10_000, embedding_size=650, own_models=("lstm-2",)),
        Setting("W33", 20, 35, 650, 2, vocab_size=33_278, embedding_size=650, own_models=("lstm-2",)),
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
        batch_size, num_steps, num_hiddens = map(int, match.groups())
        return Setting(name, batch_size, num_steps, num_hiddens)
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
    V, h = setting.vocab_size, setting.num_hiddens
    return ModelSpec(V, model.cell, model.implementation, h, layers, embedding_size=setting.embedding_size)


def combinations(
    settings: Sequence[Setting], models: Sequence[BenchmarkModel] | None
) -> list[tuple[Setting, BenchmarkModel]]:
    """Every model in every setting; of models that a setting makes equal, the first one only.

    Args:
        settings: the settings.
        models: the models; None takes those that each setting is for.
    """
    kinds: dict[tuple[Setting, ModelSpec], BenchmarkModel] = {}
    for setting in settings:
        own = [MODELS[name] for name in setting.own_models or MODELS]
        for model in own if models is None else models:
            kinds.setdefault((setting, spec_of(setting, model)), model)
    return [(setting, model) for (setting, _), model in kinds.items()]


def own_layer(setting: Setting, model: BenchmarkModel) -> BenchmarkModel:
    """The framework's own layer that a model is compared with: the same cell, as many layers.

    A scratch GRU resets before its product and the own layer after it: another function, of the same
    products.
    """
    layers = spec_of(setting, model).num_layers
    return next(own for own in OWN_LAYERS.values() if (own.cell, own.num_layers) == (model.cell, layers))


def text_of(setting: Setting) -> IntArray:
    """The tokens that a setting is trained on, int32: the built-in sample, or generated words.

    Words are drawn independently with probabilities in proportion to 1/rank (Zipf 1949): as unequal as those
    of a text, on which it depends how many rows of an embedding a batch has.
    """
    if setting.vocab_size == VOCAB_SIZE:
        return load_corpus("sample").tokens.astype(np.int32)
    up_to = np.cumsum(1 / np.arange(1, setting.vocab_size + 1))
    drawn = np.random.default_rng(0).random(_NUM_WORDS) * up_to[-1]
    tokens: IntArray = np.searchsorted(up_to, drawn, side="right").astype(np.int32)
    return tokens


def batches(setting: Setting, text: IntArray | None = None) -> Iterator[Batch]:
    """Minibatches of the setting's text without end, the same for every subject.

    Args:
        setting: the shapes.
        text: `text_of` the setting, where the caller has it already.
    """
    tokens = text_of(setting) if text is None else text
    windows = np.lib.stride_tricks.sliding_window_view(tokens, setting.num_steps + 1)
    random = np.random.default_rng(0)
    while True:
        chosen = windows[random.integers(0, len(windows), setting.batch_size)]
        yield Batch(np.ascontiguousarray(chosen[:, :-1]), np.ascontiguousarray(chosen[:, 1:]))
