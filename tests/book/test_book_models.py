"""The models beside those of the book's own packages, with the same parameters: outputs, texts, training.

What is meant to differ is in docs/differences.md.
"""

from __future__ import annotations

import random
import re
import string
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import chain
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from agreement import agree, compares, few, numbers, of_models, of_trainings
from hypothesis import given
from hypothesis import strategies as st

from d2lrnn.registry import BackendEntry

pytestmark = [
    pytest.mark.usefixtures("numpy_semantics"),
    # Keras about layers that make their weights without a `build`, as the book's do.
    pytest.mark.filterwarnings("ignore:Layer .* looks like it has unbuilt state"),
    pytest.mark.filterwarnings("ignore:`build.*` was called on layer"),
    pytest.mark.filterwarnings("ignore:::book_(current|first)_.*"),
]

#: What the texts are of: the letters of the prefixes that the first edition's training continues, and more.
LETTERS = " " + string.ascii_lowercase
SCRATCH = ("W_xh", "W_hh", "b_h", "W_hq", "b_q")

sizes = st.fixed_dictionaries({"T": st.integers(1, 4), "B": st.integers(1, 3), "h": st.integers(1, 5)})
seeds = st.integers(0, 999)
prefixes = st.one_of(
    st.text(LETTERS, min_size=1, max_size=4), st.lists(st.sampled_from(LETTERS), min_size=1, max_size=4)
)


class Tab:
    """What the tests need of a framework beside ``d2l``: arrays, and one model's parameters for another."""

    def __init__(self, d2l: ModuleType, name: str) -> None:
        self.d2l, self.name = d2l, name

    def array(self, shape: Sequence[int], seed: int) -> Any:
        """Random numbers."""
        return self.d2l.tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))

    def tokens(self, rows: Any) -> Any:
        """As the tab's batches have them."""
        kind = self.d2l.int64 if self.name == "torch" else self.d2l.int32
        return self.d2l.tensor(np.array(rows, "int64" if self.name == "torch" else "int32"), dtype=kind)

    def text(self, rows: int, steps: int, size: int, seed: int) -> tuple[Any, Any]:
        """A batch of it: tokens and those that follow them."""
        tokens = np.random.default_rng(seed).integers(0, size, (rows, steps + 1))
        return self.tokens(tokens[:, :-1]), self.tokens(tokens[:, 1:])

    def adopt(self, ours: Any, theirs: Any) -> None:
        """Gives ours their parameters; both have run once."""
        if self.name == "torch":
            ours.load_state_dict(theirs.state_dict())
            return
        for name in SCRATCH:
            if hasattr(theirs, name):
                mine, value = getattr(ours, name), getattr(theirs, name)
                mine.assign(value) if self.name == "tensorflow" else mine.set_data(value)
        for part in ("rnn", "linear", "dense"):
            if hasattr(theirs, part):
                self._adopt_part(ours, getattr(ours, part, None), getattr(theirs, part))

    def _adopt_part(self, ours: Any, mine: Any, theirs: Any) -> None:
        if any(hasattr(theirs, name) for name in (*SCRATCH, "rnn")):
            self.adopt(mine, theirs)
        elif self.name == "mxnet":
            pairs = zip(mine.collect_params().values(), theirs.collect_params().values(), strict=True)
            for parameter, value in pairs:
                parameter.set_data(value.data())
        else:
            layers = getattr(ours, "rnns", [mine]) if hasattr(theirs, "cell") else [mine]
            values = theirs.get_weights()
            for number, layer in enumerate(layers):
                each = len(values) // len(layers)
                layer.set_weights(values[number * each : (number + 1) * each])

    def begun(self, model: Any, *inputs: Any) -> Any:
        """A model that has its parameters: with JAX these parameters."""
        if self.name == "jax":
            return model.init(import_module("jax").random.PRNGKey(3), *inputs)["params"]
        if self.name == "mxnet" and not any(hasattr(model, name) for name in ("W_xh", "vocab_size")):
            model.initialize()
        model(*inputs)
        return None

    def pair(self, make: Callable[[Any], Any], current: Any, *inputs: Any) -> tuple[Any, Any, Any]:
        """The library's model and the book's, and with JAX the parameters of both."""
        ours, theirs = make(self.d2l), make(current)
        parameters = self.begun(theirs, *inputs)
        if parameters is None:
            self.begun(ours, *inputs)
            self.adopt(ours, theirs)
        return ours, theirs, parameters

    def call(self, model: Any, parameters: Any, *inputs: Any, method: str | None = None) -> Any:
        """What the model, or a method of it, makes of inputs."""
        if self.name == "jax":
            options = {"method": getattr(model, method)} if method else {}
            return model.apply({"params": parameters}, *inputs, **options)
        return (getattr(model, method) if method else model)(*inputs)


@pytest.fixture(scope="module")
def tab(d2l: ModuleType, entry: BackendEntry) -> Tab:
    return Tab(d2l, entry.name)


@pytest.fixture(scope="module")
def pyplot() -> Iterator[Any]:
    import_module("matplotlib").use("Agg")
    module = import_module("matplotlib.pyplot")
    yield module
    module.close("all")


# The current edition.


@compares("RNNScratch")
@of_models
@given(size=sizes, seed=seeds, form=st.sampled_from([None, tuple, list, "array"]))
def test_scratch_layers_agree(tab: Tab, current: Any, size: dict[str, int], seed: int, form: Any) -> None:
    T, B, h = size.values()
    tab.d2l.seed_everything(seed)
    X, H = tab.array((T, B, 6), seed), tab.array((1, B, h), seed + 1)
    ours, theirs, parameters = tab.pair(lambda lib: lib.RNNScratch(6, h, sigma=1.0), current, X)
    state = None if form is None else H if form == "array" else form([H[0]])
    (outputs, after), (their_outputs, their_after) = (
        tab.call(layer, parameters, X, state) for layer in (ours, theirs)
    )
    agree(numbers(outputs), np.stack([numbers(H) for H in their_outputs]), exact_types=False)
    agree(after, their_after)
    for name in ("num_inputs", "num_hiddens", "sigma"):
        assert getattr(ours, name) == getattr(theirs, name)
    if tab.name != "jax":
        assert {name: ours.hparams[name] for name in theirs.hparams} == theirs.hparams
        for name in SCRATCH[:3]:
            assert tuple(getattr(ours, name).shape) == tuple(getattr(theirs, name).shape)


def heads(lib: Any, h: int) -> Any:
    return lib.RNNLMScratch(lib.RNNScratch(28, h, sigma=1.0), vocab_size=28, lr=0.5)


@compares("RNNLMScratch Classifier")
@of_models
@given(size=sizes, seed=seeds, averaged=st.booleans(), flat=st.booleans())
def test_heads_agree(
    tab: Tab, current: Any, size: dict[str, int], seed: int, averaged: bool, flat: bool
) -> None:
    T, B, h = size.values()
    tab.d2l.seed_everything(seed)
    X, Y = tab.text(B, T, 28, seed)
    ours, theirs, parameters = tab.pair(lambda lib: heads(lib, h), current, X)
    logits, their_logits = (tab.call(model, parameters, X) for model in (ours, theirs))
    agree(logits, their_logits)
    hiddens = [tab.array((B, h), seed + t) for t in range(T)]
    for method, argument in (("one_hot", X), ("output_layer", hiddens)):
        agree(*(tab.call(model, parameters, argument, method=method) for model in (ours, theirs)))
    if tab.name == "jax":
        return  # loss and accuracy take a state there: in the training below
    targets = tab.d2l.reshape(Y, (-1,)) if flat else Y
    averaged = averaged or tab.name == "tensorflow"  # where the book's takes no notice of it
    agree(*(model.loss(logits, targets, averaged) for model in (ours, theirs)))
    agree(*(model.accuracy(logits, targets, averaged) for model in (ours, theirs)))
    agree(*(model.accuracy(logits[0], targets[:T] if flat else Y[0]) for model in (ours, theirs)))
    agree({name: ours.hparams[name] for name in ("vocab_size", "lr")},
          {name: theirs.hparams[name] for name in ("vocab_size", "lr")})  # fmt: skip


@compares("RNNLMScratch")
@of_models
@given(h=st.integers(1, 5), seed=seeds, prefix=prefixes, num_preds=st.integers(0, 5), where=st.integers(0, 2))
def test_texts_agree(
    tab: Tab, current: Any, h: int, seed: int, prefix: Any, num_preds: int, where: int
) -> None:
    tab.d2l.seed_everything(seed)
    ours, theirs, parameters = tab.pair(lambda lib: heads(lib, h), current, tab.tokens([[0]]))
    cpu = tab.d2l.cpu()
    rest = {
        "torch": [(), (cpu,), ("cpu",)], "tensorflow": [(), (cpu,), ("/CPU:0",)],
        "mxnet": [(), (cpu,), (None,)], "jax": [(parameters,)] * 3,
    }[tab.name][where]  # fmt: skip
    vocabs = [lib.Vocab(list(LETTERS)) for lib in (tab.d2l, current)]
    for vocab in vocabs:
        agree(*(model.predict(prefix, num_preds, vocab, *rest) for model in (ours, theirs)))


def layers_of(tab: Tab) -> list[tuple[str, int]]:
    """The concise layers that the book's package has and that run, with their numbers of layers."""
    found = {"torch": "RNN GRU", "tensorflow": "RNN GRU", "mxnet": "GRU", "jax": ""}[tab.name].split()
    return [(name, layers) for name in found for layers in ((1, 2) if name == "GRU" else (1,))]


@compares("RNN GRU RNNLM")
@of_trainings
@given(size=sizes, seed=seeds, which=st.integers(0, 2), has_state=st.booleans())
def test_concise_layers_agree(
    tab: Tab, current: Any, size: dict[str, int], seed: int, which: int, has_state: bool
) -> None:
    if tab.name == "jax":
        return  # its RNN is a stub, and its GRU needs the flax of its day
    T, B, h = size.values()
    name, L = layers_of(tab)[which % len(layers_of(tab))]
    tab.d2l.seed_everything(seed)
    given_sizes = ((28,) if tab.name == "torch" else ()) + ((h, L) if name == "GRU" else (h,))

    def make(lib: Any) -> Any:
        return getattr(lib, name)(*given_sizes)

    X = tab.array((T, B, 28), seed)
    ours, theirs, _ = tab.pair(make, current, X)
    H = tab.array((L, B, h), seed + 1)
    state = H if tab.name != "tensorflow" else H[0] if name == "RNN" else [H[l] for l in range(L)]
    arguments = (X, state) if has_state else (X,)
    (outputs, after), (their_outputs, their_after) = (layer(*arguments) for layer in (ours, theirs))
    agree(outputs, their_outputs)
    if tab.name == "tensorflow":
        their_after = np.stack([numbers(part) for part in (their_after if name == "GRU" else [their_after])])
        agree(numbers(after), their_after, exact_types=False)
    else:
        agree(after, their_after)
    assert {each: ours.hparams[each] for each in theirs.hparams} == theirs.hparams
    tokens = tab.tokens([[1, 2, 3], [4, 5, 6]])
    ours, theirs, _ = tab.pair(lambda lib: lib.RNNLM(make(lib), vocab_size=28, lr=1), current, tokens)
    agree(ours(tokens), theirs(tokens))
    vocab = current.Vocab(list(LETTERS))
    agree(*(model.predict("time", 3, vocab) for model in (ours, theirs)))


def linear(tab: Tab, lib: Any, begin: Any, lr: float) -> Any:
    """A chapter's own model, of one matrix that begins the same."""
    if tab.name == "jax":
        jax = import_module("jax")

        class OfFields(lib.Module):
            lr: float

            def setup(self) -> None:
                self.w = self.param("w", lambda key: jax.numpy.array(begin))

            def forward(self, X: Any) -> Any:
                return lib.matmul(X, self.w)

            def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
                return ((state.apply_fn({"params": params}, *X) - y) ** 2 / 2).mean()

        return OfFields(lr)

    class Own(lib.Module):
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            if tab.name == "torch":
                self.w = import_module("torch").nn.Parameter(lib.tensor(begin))
            elif tab.name == "tensorflow":
                self.w = import_module("tensorflow").Variable(begin)
            else:
                self.w = lib.tensor(begin)
                self.w.attach_grad()

        def forward(self, X: Any) -> Any:
            return lib.matmul(X, self.w)

        def loss(self, y_hat: Any, y: Any) -> Any:
            return lib.reduce_mean((y_hat - y) ** 2 / 2)

    return Own(lr)


def trained(tab: Tab, lib: Any, model: Any, batches: list[Any], **options: Any) -> Any:
    class Data(lib.DataModule):
        def get_dataloader(self, train: bool) -> Any:
            return batches if train else batches[:1]

    model.board.display = False
    trainer = lib.Trainer(**options)
    if tab.name == "jax":
        trainer.fit(model, Data(), key=import_module("jax").random.PRNGKey(3))
    else:
        trainer.fit(model, Data())
    return trainer


def what_came_of_it(tab: Tab, trainer: Any) -> tuple[Any, ...]:
    names = ("epoch", "train_batch_idx", "val_batch_idx", "num_train_batches", "num_val_batches")
    curves = [
        (label, [(float(p.x), float(p.y)) for p in points])
        for label, points in trainer.model.board.data.items()
    ]
    return (
        {name: getattr(trainer, name) for name in names}, trainer.hparams, curves, trainer.model.board.xlim,
    )  # fmt: skip


@compares("Module Trainer DataModule")
@of_trainings
@given(
    seed=seeds,
    num_batches=st.integers(2, 4),
    max_epochs=st.integers(1, 2),
    clip=st.sampled_from([0, 0.25, 1]),
    lr=st.sampled_from([0.1, 1]),
)
def test_training_of_a_model_of_ones_own(
    tab: Tab, current: Any, seed: int, num_batches: int, max_epochs: int, clip: float, lr: float
) -> None:
    clip = 0 if tab.name == "jax" else clip  # the book's never clips there
    batches = [[tab.array((4, 3), seed + n), tab.array((4, 1), seed + 9 + n)] for n in range(num_batches)]
    begin = np.ones((3, 1), "float32")
    results = []
    for lib in (tab.d2l, current):
        model = linear(tab, lib, begin, lr)
        trainer = trained(tab, lib, model, batches, max_epochs=max_epochs, gradient_clip_val=clip)
        w = trainer.state.params["w"] if tab.name == "jax" else model.w
        saved = None if tab.name == "jax" else sorted(model.hparams)
        results.append((numbers(w), what_came_of_it(tab, trainer), saved))
    agree(*results)


@compares("RNNLMScratch Trainer")
@of_trainings
@given(seed=seeds, max_epochs=st.integers(1, 2), clip=st.sampled_from([0, 0.5]))
def test_training_of_a_language_model(
    tab: Tab, current: Any, seed: int, max_epochs: int, clip: float
) -> None:
    clip = 0 if tab.name == "jax" else clip
    tab.d2l.seed_everything(seed)
    batches = [list(tab.text(2, 3, 28, seed + n)) for n in range(2)]
    ours, theirs, _ = tab.pair(lambda lib: heads(lib, 4), current, batches[0][0])
    results = []
    for lib, model in ((tab.d2l, ours), (current, theirs)):
        trainer = trained(tab, lib, model, batches, max_epochs=max_epochs, gradient_clip_val=clip)
        if tab.name == "jax":
            state = trainer.state
            parameters = [state.params["rnn"]["W_hh"], state.params["W_hq"]]
            X, Y = batches[1]
            parameters += [
                model.accuracy(state.params, (X,), Y, state),
                model.loss(state.params, (X,), Y, state)[0],
            ]
        else:
            parameters = [_value(model.rnn.W_hh), _value(model.W_hq)]
        results.append(([numbers(each) for each in parameters], what_came_of_it(tab, trainer)))
    agree(*results)


def _value(parameter: Any) -> Any:
    """Of a Gluon parameter, or of what is an array itself."""
    data = getattr(parameter, "data", None)
    return data() if callable(data) and hasattr(parameter, "set_data") else parameter


@compares("Trainer")
@of_models
@given(theta=st.sampled_from([0.25, 1, 100]), seed=seeds)
def test_trainers_clip_alike(tab: Tab, current: Any, theta: float, seed: int) -> None:
    if tab.name in ("torch", "mxnet"):
        return  # in the trainings above
    grads: Any = [tab.array((2, 3), seed), tab.array((4,), seed + 1)]
    if tab.name == "jax":
        grads = dict(zip("ab", grads, strict=True))
    agree(*(lib.Trainer(1).clip_gradients(theta, grads) for lib in (tab.d2l, current)))


@compares("Module Classifier")
def test_the_methods_of_modules(tab: Tab, current: Any, capsys: pytest.CaptureFixture[str]) -> None:
    if tab.name != "torch":
        return  # other tabs' modules are of two Keras, or have their parameters elsewhere
    torch = import_module("torch")
    printed = []
    for lib in (tab.d2l, current):
        net = lib.Classifier()
        net.net = torch.nn.Sequential(torch.nn.LazyLinear(4), torch.nn.ReLU(), torch.nn.LazyLinear(2))
        net.lr = 1
        net.apply_init([torch.ones(1, 3)], lambda layer: torch.nn.init.constant_(layer.weight, 2)
                       if isinstance(layer, torch.nn.Linear) else None)  # fmt: skip
        net.layer_summary((2, 3))
        optimizer = net.configure_optimizers()
        printed.append((capsys.readouterr().out, type(optimizer), optimizer.param_groups[0]["lr"],
                        net.net[0].weight.tolist(), net.hparams, net(torch.ones(1, 3)).shape))  # fmt: skip
    assert printed[0] == printed[1]
    for lib in (tab.d2l, current):
        with pytest.raises(NotImplementedError):
            lib.Module().loss(1, 2)
        with pytest.raises(NotImplementedError):
            lib.DataModule().train_dataloader()


@compares("get_seed get_key")
def test_seeds_agree(tab: Tab, current: Any) -> None:
    if tab.name == "jax":
        seeds = []
        for lib in (tab.d2l, current):
            random.seed(7)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the book's asks for a whole number up to 1e6
                seeds.append([lib.get_seed() for _ in range(20)])
        assert seeds[0] == seeds[1]


# The first edition.


class Named(NamedTuple):
    """A state with a name."""

    H: Any


#: What a chapter's network may keep its state in.
FORMS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda H: (H,), "list": lambda H: [H], "named": Named,
}  # fmt: skip


def functions_net(tab: Tab, lib: Any, h: int, seed: int, form: str) -> Any:
    """The first edition's model of functions, with random parameters, and a state of this form."""
    shapes = [(28, h), (h, h), (h,), (h, 28), (28,)]
    begin = [0.5 * np.random.default_rng(seed + n).standard_normal(shape) for n, shape in enumerate(shapes)]

    def parameter(value: Any) -> Any:
        value = value.astype("float32")
        if tab.name == "tensorflow":
            return import_module("tensorflow").Variable(value)
        array = lib.tensor(value)
        array.requires_grad_() if tab.name == "torch" else array.attach_grad()
        return array

    def get_params(vocab_size: int, num_hiddens: int, *device: Any) -> list[Any]:
        assert (vocab_size, num_hiddens) == (28, h)
        return [parameter(value) for value in begin]

    def init_state(batch_size: int, num_hiddens: int, *device: Any) -> Any:
        return FORMS[form](lib.zeros((batch_size, num_hiddens)))

    def forward(inputs: Any, state: Any, params: list[Any]) -> Any:
        assert type(state) is type(FORMS[form](None))
        W_xh, W_hh, b_h, W_hq, b_q = params
        (H,) = state
        outputs = []
        for X in inputs:
            H = lib.tanh(lib.matmul(X, W_xh) + lib.matmul(H, W_hh) + b_h)
            outputs.append(lib.matmul(H, W_hq) + b_q)
        return lib.concat(outputs, 0), FORMS[form](H)

    if tab.name == "tensorflow":
        return lib.RNNModelScratch(28, h, init_state, forward, get_params)
    return lib.RNNModelScratch(28, h, lib.try_gpu(), get_params, init_state, forward)


def parameters_of(net: Any) -> list[Any]:
    if hasattr(net, "collect_params"):
        return [numbers(each.data()) for each in net.collect_params().values()]
    if hasattr(net, "state_dict"):
        return [numbers(each) for each in net.state_dict().values()]
    return [numbers(each) for each in getattr(net, "params", None) or net.trainable_variables]


def layer_net(tab: Tab, lib: Any, kind: str, h: int) -> Any:
    """The first edition's model on a layer of the framework's."""
    if tab.name == "torch":
        kind, _, more = kind.partition(" ")
        options = {"": {}, "bidirectional": {"bidirectional": True}, "two": {"num_layers": 2}}[more]
        return lib.RNNModel(getattr(import_module("torch").nn, kind)(28, h, **options), vocab_size=28)
    kind = kind.partition(" ")[0]
    if tab.name == "mxnet":
        layer = getattr(import_module("mxnet").gluon.rnn, kind)(h)
        net = lib.RNNModel(layer, vocab_size=28)
        net.initialize()
        return net
    keras = import_module("keras") if lib is tab.d2l else lib.tf.keras
    options = {} if lib is tab.d2l else {"time_major": True}
    kind = "SimpleRNN" if kind == "RNN" else kind
    return lib.RNNModel(
        getattr(keras.layers, kind)(h, return_sequences=True, return_state=True, **options), 28
    )


def begin_state(tab: Tab, net: Any, batch_size: int, device: Any = None) -> Any:
    if tab.name == "tensorflow":
        return net.begin_state(batch_size=batch_size, dtype=import_module("tensorflow").float32)
    where = {"device": device or tab.d2l.cpu()} if tab.name == "torch" else {"ctx": tab.d2l.cpu()}
    return net.begin_state(batch_size=batch_size, **where)


@compares("RNNModelScratch")
@of_models
@given(size=sizes, seed=seeds, form=st.sampled_from(sorted(FORMS)))
def test_models_of_functions_agree(tab: Tab, first: Any, size: dict[str, int], seed: int, form: str) -> None:
    T, B, h = size.values()
    X, _ = tab.text(B, T, 28, seed)
    results = []
    for lib in (tab.d2l, first):
        net = functions_net(tab, lib, h, seed, form)
        state = begin_state(tab, net, B)
        outputs, after = net(X, state)
        results.append((state, outputs, after, net.vocab_size, net.num_hiddens))
    agree(*results)


@compares("RNNModel")
@of_models
@given(
    size=sizes,
    seed=seeds,
    kind=st.sampled_from(["RNN", "GRU", "LSTM", "GRU two", "LSTM two", "RNN bidirectional"]),
)
def test_models_on_layers_agree(tab: Tab, first: Any, size: dict[str, int], seed: int, kind: str) -> None:
    T, B, h = size.values()
    tab.d2l.seed_everything(seed)
    X, _ = tab.text(B, T, 28, seed)
    ours, theirs = (layer_net(tab, lib, kind, h) for lib in (tab.d2l, first))
    for net in (theirs, ours):
        net(X, begin_state(tab, net, B))
    tab.adopt(ours, theirs)
    (outputs, after), (their_outputs, their_after) = (
        net(X, begin_state(tab, net, B, "cpu")) for net in (ours, theirs)
    )
    agree(outputs, their_outputs)
    agree(after, their_after, exact_types=tab.name != "tensorflow")
    if tab.name != "tensorflow":
        agree(*(begin_state(tab, net, B) for net in (ours, theirs)))
    for name in ("vocab_size", "num_hiddens", "num_directions"):
        if hasattr(theirs, name):
            assert getattr(ours, name) == getattr(theirs, name)


def where(tab: Tab, number: int) -> tuple[Any, ...]:
    """The argument that says where to compute, in its forms."""
    cpu = tab.d2l.cpu()
    forms: dict[str, list[Any]] = {"torch": [cpu, "cpu", None], "mxnet": [cpu] * 3}
    return (forms[tab.name][number],) if tab.name in forms else ()


@compares("predict_ch8")
@of_models
@given(
    seed=seeds,
    prefix=prefixes,
    num_preds=st.integers(0, 5),
    kind=st.sampled_from(["functions", "RNN", "GRU", "LSTM"]),
    form=st.sampled_from(sorted(FORMS)),
    device=st.integers(0, 2),
)
def test_the_first_editions_texts_agree(
    tab: Tab, first: Any, seed: int, prefix: Any, num_preds: int, kind: str, form: str, device: int
) -> None:
    tab.d2l.seed_everything(seed)
    if kind == "functions":
        ours, theirs = (functions_net(tab, lib, 4, seed, form) for lib in (tab.d2l, first))
    else:
        ours, theirs = (layer_net(tab, lib, kind, 4) for lib in (tab.d2l, first))
        for net in (theirs, ours):
            net(tab.tokens([[0]]), begin_state(tab, net, 1))
        tab.adopt(ours, theirs)
    vocab = first.Vocab(list(LETTERS))
    rest = where(tab, device)
    agree(
        tab.d2l.predict_ch8(prefix, num_preds, ours, vocab, *rest),
        first.predict_ch8(prefix, num_preds, theirs, vocab, *rest),
    )


@compares("grad_clipping sgd SGD")
@few
@given(
    theta=st.sampled_from([0.25, 1, 100]), lr=st.sampled_from([0.5, 1]), rows=st.integers(1, 3), seed=seeds
)
def test_clipping_and_steps_agree(tab: Tab, book: Any, theta: float, lr: float, rows: int, seed: int) -> None:
    if not hasattr(book, "grad_clipping"):
        return
    results = []
    for lib in (tab.d2l, book):
        values = [tab.array((2, 3), seed), tab.array((4,), seed + 1)]
        grads = [tab.array((2, 3), seed + 2), tab.array((4,), seed + 3)]
        if tab.name == "tensorflow":
            variables = [import_module("tensorflow").Variable(value) for value in values]
            clipped = lib.grad_clipping(grads, theta)
            lib.sgd(variables, clipped, lr, rows)
            results.append(([numbers(each) for each in variables], clipped))
            continue
        for value, grad in zip(values, grads, strict=True):
            if tab.name == "torch":
                value.requires_grad_().grad = grad
            else:
                value.attach_grad()
                value.grad[:] = grad
        lib.grad_clipping(SimpleNamespace(params=values), theta)
        clipped = [numbers(value.grad).copy() for value in values]
        lib.sgd(values, lr, batch_size=rows)
        results.append(([numbers(value) for value in values], clipped, [numbers(v.grad) for v in values]))
        if hasattr(tab.d2l, "SGD") and hasattr(book, "SGD"):
            optimizer = lib.SGD(values, lr)
            optimizer.step(1)
            results[-1] += ([numbers(value) for value in values], optimizer.lr)
    agree(*results)


def own_updater(tab: Tab, lib: Any, net: Any, lr: float, built_in: bool) -> Any:
    if tab.name == "tensorflow":

        class Updater:
            def apply_gradients(self, pairs: Any) -> None:
                for grad, variable in pairs:
                    variable.assign_sub(lr * grad)

        return Updater()
    if tab.name == "torch" and built_in:
        return import_module("torch").optim.SGD(getattr(net, "params", None) or net.parameters(), lr)
    if tab.name == "mxnet" and hasattr(net, "collect_params"):
        trainer = import_module("mxnet").gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": lr})
        return lambda batch_size: trainer.step(batch_size)
    params = getattr(net, "params", None) or list(net.parameters())
    return lambda batch_size: lib.sgd(params, lr, batch_size)


def own_loss(tab: Tab) -> Any:
    if tab.name == "torch":
        return import_module("torch").nn.CrossEntropyLoss()
    if tab.name == "mxnet":
        return import_module("mxnet").gluon.loss.SoftmaxCrossEntropyLoss()
    tf = import_module("tensorflow")
    return lambda y, y_hat: tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, y_hat))


@compares("train_epoch_ch8")
@of_models
@given(
    seed=seeds,
    kind=st.sampled_from(["functions", "RNN", "GRU", "LSTM"]),
    form=st.sampled_from(sorted(FORMS)),
    use_random_iter=st.booleans(),
    built_in=st.booleans(),
    device=st.integers(0, 1),
)
def test_epochs_of_the_first_edition_agree(
    tab: Tab,
    first: Any,
    seed: int,
    kind: str,
    form: str,
    use_random_iter: bool,
    built_in: bool,
    device: int,
) -> None:
    tab.d2l.seed_everything(seed)
    batches = [tab.text(2, 3, 28, seed + n) for n in range(3)]
    if kind == "functions":
        nets = [functions_net(tab, lib, 4, seed, form) for lib in (tab.d2l, first)]
    else:
        nets = [layer_net(tab, lib, kind, 4) for lib in (tab.d2l, first)]
        for net in reversed(nets):
            net(batches[0][0], begin_state(tab, net, 2))
        tab.adopt(*nets)
    results = []
    for lib, net in zip((tab.d2l, first), nets, strict=True):
        updater = own_updater(tab, lib, net, 0.5, built_in)
        arguments = net, batches, own_loss(tab), updater, *where(tab, device), use_random_iter
        perplexity, speed = lib.train_epoch_ch8(*arguments)
        assert isinstance(speed, float)
        results.append((perplexity, parameters_of(net)))
    (ours, parameters), (theirs, their_parameters) = results
    assert isinstance(ours, float)
    assert ours == pytest.approx(theirs, rel=1e-5)
    agree(parameters, their_parameters)


@compares("train_ch8")
@pytest.mark.parametrize("num_epochs", [1, 20])
@pytest.mark.parametrize("kind", ["functions", "GRU"])
def test_trainings_of_the_first_edition_agree(
    tab: Tab, first: Any, pyplot: Any, capsys: pytest.CaptureFixture[str], kind: str, num_epochs: int
) -> None:
    tab.d2l.seed_everything(3)
    batches = [tab.text(2, 3, 28, n) for n in range(2)]
    if kind == "functions" or tab.name == "mxnet":  # which draws a block's parameters anew
        nets = [functions_net(tab, lib, 6, 3, "tuple") for lib in (tab.d2l, first)]
    else:
        nets = [layer_net(tab, lib, kind, 6) for lib in (tab.d2l, first)]
        for net in reversed(nets):
            net(batches[0][0], begin_state(tab, net, 2))
        tab.adopt(*nets)
    vocab = first.Vocab(list(LETTERS))
    device: tuple[Any, ...] = where(tab, 0)
    if tab.name == "tensorflow":
        device = (import_module("tensorflow").distribute.OneDeviceStrategy("/CPU:0"),)
    printed = []
    for lib, net in zip((tab.d2l, first), nets, strict=True):
        assert lib.train_ch8(net, batches, vocab, 0.5, num_epochs, *device) is None
        lines = capsys.readouterr().out.splitlines()
        printed.append([re.sub(r"[\d.]+ tokens/sec", "fast", line) for line in lines])
        pyplot.close("all")
    assert printed[0] == printed[1]
    for ours, theirs in zip(*map(parameters_of, nets), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


# All of them.


def test_every_name_of_both_is_compared(
    d2l: ModuleType, book: Any, entry: BackendEntry, request: pytest.FixtureRequest
) -> None:
    files = chain(*(request.path.parent.glob(f"test_{kind}_*.py") for kind in ("book", entry.name)))
    marks = re.findall(r"@compares\(([^)]*)\)", "".join(file.read_text(encoding="utf-8") for file in files))
    compared = set(chain.from_iterable(re.findall(r"\w+", mark) for mark in marks))
    assert {name for name in d2l.__all__ if hasattr(book, name)} - compared == set()
