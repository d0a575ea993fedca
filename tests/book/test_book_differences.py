"""Every row of docs/differences.md is true: the book's own package does one thing, this library another."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch
from zipfile import ZipFile

import numpy as np
import pytest
from agreement import numbers
from small_data import pairs

from d2lrnn.errors import DivergedError, PromptError, SpecError, TextError
from d2lrnn.generation import UnknownTokenWarning
from d2lrnn.registry import BackendEntry

pytestmark = [
    pytest.mark.usefixtures("numpy_semantics"),
    pytest.mark.filterwarnings("ignore:Layer .* looks like it has unbuilt state"),
    pytest.mark.filterwarnings("ignore:`build.*` was called on layer"),
    pytest.mark.filterwarnings("ignore:::book_(current|first)_.*"),
]

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"

#: What shows a row: from ours, the book's current edition, its first one (None with JAX) and the backend.
Shown = Callable[[Any, Any, Any, str], None]

#: By the row's name and, where a row is not about all tabs, these.
SHOWN: dict[str, Shown] = {}


def shows(row: str) -> Callable[[Shown], Shown]:
    def mark(test: Shown) -> Shown:
        assert row not in SHOWN
        SHOWN[row] = test
        return test

    return mark


def rows() -> Iterator[tuple[str, list[str]]]:
    """Of the page: the key of a row, and the tabs that it is about."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not line.startswith(("| Name |", "|---")):
            name, _, _, _, tabs = (cell.strip() for cell in line.strip("| ").split(" | "))
            if tabs == "all":
                yield name, ["torch", "tensorflow", "jax", "mxnet"]
            else:
                yield f"{name}: {tabs}", tabs.split(", ")


def test_every_row_is_shown() -> None:
    listed = [row for row, _ in rows()]
    assert len(set(listed)) == len(listed)
    assert set(listed) == set(SHOWN)


@pytest.mark.parametrize("row", [row for row, _ in rows()])
def test_a_row_is_true(
    row: str,
    d2l: ModuleType,
    entry: BackendEntry,
    load_book: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    small_data: Path,
) -> None:
    if entry.name not in dict(rows())[row]:
        return
    monkeypatch.chdir(tmp_path)
    pyplot = import_module("matplotlib.pyplot")
    first = None if entry.name == "jax" else load_book("first")
    d2l.seed_everything(0)
    with pyplot.rc_context():
        SHOWN[row](d2l, load_book("current"), first, entry.name)
    pyplot.close("all")


def raised(call: Callable[[], Any]) -> type[BaseException] | None:
    """The error that a call ends with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except Exception as error:
            return type(error)
    return None


def tokens_of(lib: Any, name: str, rows_: Any) -> Any:
    kind = lib.int64 if name == "torch" else lib.int32
    return lib.tensor(np.array(rows_, "int64" if name == "torch" else "int32"), dtype=kind)


def head(lib: Any, size: int = 4) -> Any:
    model = lib.RNNLMScratch(lib.RNNScratch(size, 3, sigma=1.0), size, lr=0.5)
    model.board.display = False
    return model


def fitted(lib: Any, name: str, batches: list[Any], lr: float = 0.5, **options: Any) -> Any:
    """A trainer that has trained a language model of four tokens on these batches."""

    class Data(lib.DataModule):
        def get_dataloader(self, train: bool) -> Any:
            return batches

    model = lib.RNNLMScratch(lib.RNNScratch(4, 3, sigma=1.0), 4, lr)
    model.board.display = False
    model.plot_valid_per_epoch = 1
    if name == "tensorflow":
        model(batches[0][0])
    trainer = lib.Trainer(**{"max_epochs": 1, **options})
    if name == "jax":
        trainer.fit(model, Data(), key=import_module("jax").random.PRNGKey(0))
    else:
        trainer.fit(model, Data())
    return trainer


@shows("`add_to_class`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    class A: ...

    def method(self: Any) -> None: ...

    assert ours.add_to_class(A)(method) is method
    assert book.add_to_class(A)(method) is None


@shows("`ProgressBoard` without `xlabel`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert raised(lambda: book.ProgressBoard().draw(1, 1, "a")) is AttributeError
    assert raised(lambda: ours.ProgressBoard().draw(1, 1, "a")) is None


@shows("`ProgressBoard` with more curves than styles")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, count in ((ours, 2), (book, 1)):
        board = lib.ProgressBoard("x", ls=["-"], colors=["r"])
        for label in "ab":
            board.draw(1, 1, label)
        assert len(board.fig.axes[0].get_legend().get_texts()) == count


@shows("`ProgressBoard.draw` with `every_n=0`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, count in ((ours, 2), (book, 0)):
        board = lib.ProgressBoard("x", display=False)
        board.draw(1, 1, "a", every_n=0)
        board.draw(2, 1, "a", every_n=0)
        assert len(board.data["a"]) == count


@shows("`Animator.X`, `Animator.Y` before the first point")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert (ours.Animator().X, ours.Animator().Y) == ([], [])
    if first is not None:
        assert first.Animator().X is first.Animator().Y is None


@shows("`plot` over curves")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    pyplot = import_module("matplotlib.pyplot")
    for lib, count in ((ours, 2), (book, 1)):
        lib.plot([1, 2])
        lib.plot([3, 4])
        assert len(pyplot.get_fignums()) == count
        pyplot.close("all")


@shows("`plot` and `rcParams`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    parameters = import_module("matplotlib.pyplot").rcParams
    before = list(parameters["figure.figsize"])
    ours.plot([1, 2], figsize=(2, 2))
    assert list(parameters["figure.figsize"]) == before
    book.plot([1, 2], figsize=(2, 2))
    assert list(parameters["figure.figsize"]) == [2, 2]


@shows("`Accumulator.add` with too few numbers")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert raised(lambda: ours.Accumulator(2).add(1)) is ValueError
    if first is not None:
        sums = first.Accumulator(2)
        sums.add(1)
        assert sums.data == [1]


@shows("`tokenize` with an unknown kind")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert raised(lambda: ours.tokenize(["a"], "byte")) is SpecError
    if first is not None:
        assert first.tokenize(["a"], "byte") is None
        assert raised(lambda: book.tokenize(["a"], "byte")) is AssertionError


@shows("`Vocab.to_tokens` of a list of one")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert ours.Vocab(["a"]).to_tokens([1]) == ["a"]
    assert raised(lambda: book.Vocab(["a"]).to_tokens([1])) is TypeError


@shows("`Vocab`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    tokens = ["a", "b", "b"]
    assert ours.Vocab(tokens).idx_to_token == book.Vocab(tokens).idx_to_token == ["<unk>", "a", "b"]
    if first is not None:
        assert first.Vocab(tokens).idx_to_token == ["<unk>", "b", "a"]


@shows("`Vocab` of tuples")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    pairs = [("so", "it"), ("it", "goes")]
    assert raised(lambda: book.Vocab(pairs)) is TypeError
    assert ours.Vocab(pairs)[pairs[1]] == ours.FrequencyVocab(pairs)[pairs[1]] == 2
    if first is not None:
        assert first.Vocab(pairs)[pairs[1]] == [0, 0]


@shows("`download` into `../data`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    work, data = Path("work"), Path("data")
    work.mkdir()
    data.mkdir()
    (data / "timemachine.txt").write_bytes(Path(ours.download("time_machine")).read_bytes())
    import_module("os").chdir(work)
    address, checksum = ours.DATA_HUB["time_machine"]
    assert book.download(address, "../data", checksum) == "../data/timemachine.txt"
    assert Path(ours.download(address, "../data", checksum)).is_absolute()


@shows("`extract` over files that are there")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    with ZipFile("set.zip", "w") as archive:
        archive.writestr("a.txt", "theirs")
    for lib, content in ((book, "theirs"), (ours, "mine")):
        Path("a.txt").write_text("mine")
        lib.extract("set.zip")
        assert Path("a.txt").read_text() == content


@shows("`extract` of paths that climb out, links and archives without end")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    with ZipFile("set.zip", "w") as archive:
        archive.writestr("../a.txt", "theirs")
    assert raised(lambda: book.extract("set.zip", "theirs")) is None
    assert raised(lambda: ours.extract("set.zip", "ours")) is TextError
    assert not list(Path("ours").iterdir())


@shows("`bleu` with `k` above the prediction's length")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert ours.bleu("a", "a", 3) == book.bleu("a", "a", 3) == 1.0
    if first is not None:
        assert raised(lambda: first.bleu("a", "a", 3)) is ZeroDivisionError


@shows("`download` of an address without a checksum")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    # What the book's would fetch from the network; here, what it would fetch with.
    asked: list[str] = []
    own = book.requests
    book.requests = type("", (), {"get": lambda url, **_: asked.append(url)})
    try:
        raised(lambda: book.download("http://127.0.0.1/other.txt", "data"))
    finally:
        book.requests = own
    assert asked == ["http://127.0.0.1/other.txt"]
    assert raised(lambda: ours.download("http://127.0.0.1/other.txt")) is SpecError


@shows("`DataModule.root`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert book.DataModule().root == "../data"
    assert Path(ours.DataModule().root).name == "d2lrnn"
    assert ours.DataModule("mine").root == "mine"


def short_text(lib: Any, **sizes: int) -> Any:
    kind = type("Short", (lib.TimeMachine,), {"_download": lambda self: "the time machine " * 9})
    return kind(2, num_steps=3, **sizes)


@shows("`TimeMachine`, validation")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, begin in ((ours, 20 + 3), (book, 20)):
        data = short_text(lib, num_train=20, num_val=4)
        seen: list[Any] = []
        data.get_tensorloader = lambda tensors, train, indices, seen=seen: seen.append(indices)
        data.get_dataloader(False)
        assert seen == [slice(begin, begin + 4)]


@shows("`TimeMachine` with too few windows")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert raised(lambda: short_text(ours, num_train=9999)) is TextError
    assert raised(lambda: short_text(book, num_train=9999)) is None


@shows("`Trainer(max_epochs=0)`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert raised(lambda: ours.Trainer(max_epochs=0)) is SpecError
    assert raised(lambda: book.Trainer(max_epochs=0)) is None


def batch(lib: Any, name: str, *entries: int) -> list[Any]:
    tokens = np.array([entries])
    return [tokens_of(lib, name, tokens[:, :-1]), tokens_of(lib, name, tokens[:, 1:])]


@shows("`Trainer.fit` with a loss that is NaN")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, expected in ((ours, DivergedError), (book, None)):
        batches = [batch(lib, name, 0, 1, 2, 3)] * 2
        assert raised(partial(fitted, lib, name, batches, lr=3e38, max_epochs=3)) is expected


@shows("perplexity on the board")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    batches = [batch(ours, name, 0, 1, 2, 3), batch(ours, name, 3, 3, 3, 1)]
    trainer = fitted(ours, name, batches)
    (point,) = trainer.model.board.data["val_ppl"]
    losses = []
    for X, Y in batches:
        if name == "jax":
            losses.append(float(trainer.model.loss(trainer.state.params, (X,), Y, trainer.state)[0]))
        else:
            losses.append(float(numbers(trainer.model.loss(trainer.model(X), Y))))
    assert point.y == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    values = np.exp(losses)
    board = book.ProgressBoard("x", display=False)
    for value in values:
        board.draw(1, value, "ppl", every_n=2)
    assert board.data["ppl"][0].y == pytest.approx(values.mean())
    assert values.mean() > point.y * (1 + 1e-4)


@shows("`validation_step`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, returned in ((ours, True), (book, False)):
        one = batch(lib, name, 0, 1, 2, 3)
        trainer = fitted(lib, name, [one])
        arguments = (trainer.state.params, one, trainer.state) if name == "jax" else (one,)
        assert (trainer.model.validation_step(*arguments) is not None) is returned


def ran(lib: Any, name: str, layer: Any, *arguments: Any) -> Any:
    if name != "jax":
        return layer(*arguments)
    return layer.apply(layer.init(import_module("jax").random.PRNGKey(0), *arguments), *arguments)


@shows("`RNNScratch`, outputs")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib in (ours, book):
        outputs, _ = ran(lib, name, lib.RNNScratch(2, 3), lib.ones((5, 4, 2)))
        assert isinstance(outputs, list) is (lib is book)
        assert len(outputs) == 5


@shows("`RNNScratch`, state")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    X, H = ours.ones((5, 4, 2)), ours.ones((4, 3))
    assert raised(lambda: ran(ours, name, ours.RNNScratch(2, 3), X, H)) is None
    assert raised(lambda: ran(book, name, book.RNNScratch(2, 3), X, H)) is not None


def text_of(lib: Any, name: str, prefix: str) -> str:
    model, vocab = head(lib), lib.Vocab(list("abc"))
    rest: tuple[Any, ...] = ()
    if name == "jax":
        X = tokens_of(lib, name, [[0]])
        rest = (model.init(import_module("jax").random.PRNGKey(0), X)["params"],)
    return str(model.predict(prefix, 2, vocab, *rest))


@shows("`predict` of an unknown character")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert text_of(book, name, "xa").startswith("<unk>a")
    with pytest.warns(UnknownTokenWarning, match="'x'"):
        assert text_of(ours, name, "xa").startswith("xa")


@shows("`predict('')`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert raised(lambda: text_of(ours, name, "")) is PromptError
    assert raised(lambda: text_of(book, name, "")) is IndexError


@shows("the figure of `train_ch8`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    core = import_module("d2lrnn.book.first_edition")
    drawn: list[int] = []

    class Recorded(core.Animator):  # type: ignore[name-defined, misc]
        def add(self, x: Any, y: Any) -> None:
            drawn.append(x)

    class Still(core.Training):  # type: ignore[name-defined, misc]
        def initial_state(self, batch_size: int) -> None: ...
        def copy_parameters(self) -> None: ...
        def train_step(self, X: Any, Y: Any, state: Any) -> tuple[float, None]:
            return 1.0, None

    own, core.Animator = core.Animator, Recorded
    try:
        Still().train(12, [(np.zeros((1, 1)), np.zeros((1, 1)))], False, str, "")
    finally:
        core.Animator = own
    assert drawn == [10, 12]
    if first is not None:
        source = import_module("inspect").getsource(first.train_ch8)
        assert "% 10 == 0" in source


@shows("`Seq2SeqDecoder`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert hasattr(ours, "Seq2SeqDecoder")
    assert not hasattr(book, "Seq2SeqDecoder")


@shows("`Seq2Seq.loss`")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib in (ours, book):
        Y, losses = tokens_of(lib, name, [[3, 1]]), []
        for surely in (0, 50):
            values = np.zeros((1, 2, 4), "float32")
            values[0, 1, 0] = surely  # in the place of padding
            logits, options = lib.tensor(values), {"training": False} if name == "jax" else {}
            model = lib.Seq2Seq(None, None, tgt_pad=1, lr=0.1, **options)
            if name != "jax":
                losses.append(float(numbers(model.loss(logits, Y))))
                continue

            def told(variables: Any, mutable: Any = False, logits: Any = logits, **options: Any) -> Any:
                return (logits, {}) if mutable else logits

            state = SimpleNamespace(apply_fn=told, dropout_rng=None, batch_stats=None)
            with import_module("jax").disable_jit():
                losses.append(float(model.loss({}, (), Y, state)[0]))
        assert losses[0] == pytest.approx(np.log(4), rel=1e-5)
        assert (losses[1] == pytest.approx(losses[0], rel=1e-5)) is (lib is ours)


@shows("names")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for each in ("MultiHeadAttention", "TransformerEncoder"):
        assert hasattr(book, each)
        with pytest.raises(AttributeError, match='is of the chapter "Attention Mechanisms and Transformers"'):
            getattr(ours, each)


@shows("what classes have for themselves")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib in (ours, book):
        board = lib.ProgressBoard("x", display=False)
        board.draw(1, 1, "a")
        assert hasattr(board, "raw_points") is hasattr(board, "hparams") is (lib is book)
        if lib is ours or first is not None:
            assert hasattr(lib.Animator(), "config_axes") is (lib is book)


@shows("`RNN`, `GRU` biases: torch")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib in (ours, book):
        assert lib.RNN(2, 3).rnn.bias_hh_l0.requires_grad is (lib is book)
        layer = lib.GRU(2, 3, 1)
        outputs, _ = layer(lib.ones((2, 2, 2)))
        outputs.sum().backward()
        grad = layer.rnn.bias_hh_l0.grad
        assert bool(grad[:6].any()) is (lib is book)
        assert bool(grad[6:].any())


@shows("`get_tensorloader`: torch")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, size in ((ours, None), (book, 2)):
        data = lib.DataModule()
        data.batch_size = 2
        assert data.get_tensorloader([lib.ones((4, 1))], False).batch_size == size


@shows("`TimeMachine.X`: tensorflow, jax, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    kind = type(ours.zeros((1, 1)))
    for lib in (ours, book):
        data = short_text(lib, num_train=20, num_val=4)
        assert isinstance(data.X, kind) is (lib is book)
        assert np.array_equal(numbers(data.X[:3]), numbers(short_text(book, num_train=20, num_val=4).X[:3]))


@shows("`get_tensorloader` order: tensorflow, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    orders = []
    for lib in (ours, book):
        data = lib.DataModule()
        data.batch_size = 2
        ours.seed_everything(0)
        rows_ = lib.tensor(np.arange(50, dtype="float32"))
        loader = data.get_tensorloader([rows_, rows_], True)
        orders.append([float(x) for part, _ in loader for x in numbers(part)])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


@shows("`RNN`, `GRU` state: tensorflow")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    X = ours.ones((5, 4, 2))
    for lib, shape in ((ours, (1, 4, 3)), (book, (4, 3))):
        assert tuple(lib.RNN(3)(X)[1].shape) == shape
    assert tuple(ours.GRU(3, 2)(X)[1].shape) == (2, 4, 3)
    assert [tuple(H.shape) for H in book.GRU(3, 2)(X)[1]] == [(4, 3), (4, 3)]


@shows("`loss(averaged=False)`: tensorflow")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, shape in ((ours, (2,)), (book, ())):
        loss = lib.Classifier().loss(lib.ones((2, 3)), tokens_of(lib, name, [0, 1]), averaged=False)
        assert tuple(loss.shape) == shape


@shows("`clip_gradients`: jax")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib in (ours, book):
        called: list[float] = []
        kind = lib.Trainer
        own = kind.clip_gradients
        kind.clip_gradients = lambda self, value, grads, called=called: called.append(value) or grads
        try:
            fitted(lib, name, [batch(lib, name, 0, 1, 2)], gradient_clip_val=1)
        finally:
            kind.clip_gradients = own
        assert bool(called) is (lib is ours)


@shows("`RNN`: jax")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    X = ours.ones((5, 4, 2))
    assert raised(lambda: ran(book, name, book.RNN(3), X)) is NotImplementedError
    assert raised(lambda: ran(ours, name, ours.RNN(3), X)) is None


@shows("`get_key`: jax")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the book's asks for a whole number up to 1e6
        dtypes = [str(lib.get_key().dtype) for lib in (ours, book)]
    assert dtypes == ["key<fry>", "uint32"]


@shows("first edition: jax")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert hasattr(ours, "train_ch8")
    assert not hasattr(book, "train_ch8")


@shows("`RNN` activation: mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    kinds = []
    for lib in (ours, book):
        layer = lib.RNN(3)
        layer.initialize()
        kinds.append(layer.rnn._mode)
    assert kinds == ["rnn_tanh", "rnn_relu"]


@shows("`RNNScratch` weights: mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    array = type(ours.zeros((1, 1)))
    assert isinstance(book.RNNScratch(2, 3).W_xh, array)
    assert isinstance(ours.RNNScratch(2, 3).W_xh.data(), array)
    stack = book.Module()
    stack.rnns = [book.RNNScratch(2, 3)]
    assert stack.parameters() == []
    assert len(ours.StackedRNNScratch(2, 3, num_layers=1).collect_params().keys()) == 3


@shows("batches: mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, kind in ((ours, "int32"), (first, "float32")):
        X, _ = next(iter(lib.seq_data_iter_sequential(list(range(30)), 2, 3)))
        assert np.dtype(X.dtype) == kind


@shows("`SGD.step`: mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, expected in ((ours, 0.75), (book, 0.5)):
        p = lib.ones((1,))
        p.attach_grad()
        p.grad[:] = 1
        lib.SGD([p], 0.5).step(2)
        assert float(p) == expected


def made_of(lib: Any, name: str) -> tuple[Any, Any, str]:
    """Of a framework: the class of networks, that of tables of vectors, and the method that a call runs."""
    if name == "tensorflow":
        keras = getattr(lib, "tf", import_module("tensorflow")).keras
        return keras.Model, keras.layers.Embedding, "call"
    nn = import_module("torch").nn if name == "torch" else import_module("mxnet").gluon.nn
    return nn.Module if name == "torch" else nn.Block, nn.Embedding, "forward"


def next_tokens(lib: Any, name: str, factor: float = 1) -> Any:
    """A network that tells each token from the one before, by a table."""
    base, table, method = made_of(lib, name)

    def told(self: Any, X: Any, Y: Any, *args: Any, **kwargs: Any) -> Any:
        return self.table(Y) * factor, None

    net = type("Net", (base,), {method: told})()
    net.table = table(8, 8)
    return net


def translator(lib: Any, name: str) -> Any:
    """An ``EncoderDecoder`` that tells each token from the one before, by a table."""
    _, table, method = made_of(lib, name)

    def read(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        return X

    def write(self: Any, X: Any, state: Any, **kwargs: Any) -> Any:
        return self.table(X), state

    def init_state(self: Any, outputs: Any, *args: Any) -> Any:
        return outputs

    reader = type("Reader", (lib.Encoder,), {method: read})()
    writer = type("Writer", (lib.Decoder,), {method: write, "init_state": init_state})()
    writer.table = table(8, 8)
    return lib.EncoderDecoder(reader, writer)


def vocab_of(ours: Any) -> Any:
    """Eight words."""
    return ours.FrequencyVocab(list("abcd"), reserved_tokens=["<pad>", "<bos>", "<eos>"])


def translate(ours: Any, lib: Any, name: str, net: Any, epochs: int) -> None:
    """Trains a network by ``train_seq2seq`` of either library."""
    words, lengths = tokens_of(ours, name, [[4, 5, 3], [5, 6, 3]]), tokens_of(ours, name, [3, 3])
    target = words.astype("float32") if name == "mxnet" else words
    lib.train_seq2seq(net, [(words, lengths, target, lengths)], 0.01, epochs, vocab_of(ours), ours.cpu())


def tell_apart(ours: Any, lib: Any, name: str, batches: int, epochs: int) -> None:
    """Trains a layer by ``train_ch13`` of either library."""
    if name == "torch":
        torch = import_module("torch")
        net, loss = torch.nn.Linear(3, 2), torch.nn.CrossEntropyLoss(reduction="none")
        trainer = torch.optim.SGD(net.parameters(), 0.1)
    else:
        gluon = import_module("mxnet").gluon
        net, loss = gluon.nn.Dense(2, in_units=3), gluon.loss.SoftmaxCrossEntropyLoss()
        net.initialize()
        trainer = gluon.Trainer(net.collect_params(), "sgd")
    data = [(ours.ones((2, 3)), tokens_of(ours, name, [0, 1]))] * batches
    lib.train_ch13(net, data, data, loss, trainer, epochs, [ours.cpu()])


def drawn_by(train: Callable[[], None], owner: Any) -> list[float]:
    """Where a training adds points to its figure, which it makes with the ``Animator`` of a module."""
    drawn: list[float] = []

    class Recorded(owner.Animator):  # type: ignore[name-defined, misc]
        def add(self, x: Any, y: Any) -> None:
            drawn.append(x)

    with patch.object(owner, "Animator", Recorded):
        train()
    return drawn


@shows("the figure of `train_seq2seq`: torch, tensorflow, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    own = import_module("d2lrnn.book.epochs")
    for lib, owner, points in ((ours, own, [10, 11]), (first, first, [10])):
        net = next_tokens(lib, name)
        assert drawn_by(partial(translate, ours, lib, name, net, epochs=11), owner) == points


@shows("`train_seq2seq` with a loss that is NaN: torch, tensorflow, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, expected in ((ours, DivergedError), (first, None)):
        net = next_tokens(lib, name, factor=float("nan"))
        assert raised(partial(translate, ours, lib, name, net, epochs=2)) is expected
        weights = net.table.embeddings if name == "tensorflow" else net.table.weight
        weights = weights.data() if name == "mxnet" else weights
        assert bool(np.isfinite(numbers(weights)).all()) is (lib is ours)


@shows("`train_seq2seq`, `train_ch13` of 0 epochs: torch, tensorflow, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, expected in ((ours, SpecError), (first, UnboundLocalError)):
        net = next_tokens(lib, name)
        assert raised(partial(translate, ours, lib, name, net, epochs=0)) is expected
        if name != "tensorflow":
            assert raised(partial(tell_apart, ours, lib, name, batches=9, epochs=0)) is expected


@shows("`train_ch13` of fewer than five batches: torch, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert raised(partial(tell_apart, ours, first, name, batches=2, epochs=1)) is ZeroDivisionError
    train = partial(tell_apart, ours, ours, name, batches=2, epochs=1)
    assert drawn_by(train, import_module(ours.train_ch13.__module__)) == [0.5, 1, 1]


@shows("the device of `predict_sentiment`: torch, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    if name == "torch":
        torch = import_module("torch")
        place, net = torch.device("meta"), torch.nn.EmbeddingBag(9, 2, device="meta")
    else:
        mxnet = import_module("mxnet")
        place, net = mxnet.cpu(1), mxnet.gluon.nn.Embedding(9, 2)
        net.initialize(ctx=place)
    seen: list[Any] = []
    where = "device" if name == "torch" else "ctx"
    net.register_forward_pre_hook(lambda module, inputs: seen.append(getattr(inputs[0], where)))
    for lib in (ours, first):
        raised(partial(lib.predict_sentiment, net, ours.Vocab(["good"]), "good film"))
    assert seen == [place, first.try_gpu()]


@shows("the vocabularies of `load_data_nmt`, `load_data_imdb`: torch, tensorflow, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    found = []
    for lib in (ours, first, book):
        with ExitStack() as stack:
            if lib is not ours:
                stack.enter_context(patch.object(lib, "read_data_nmt", pairs))
                stack.enter_context(patch.object(lib, "download_extract", ours.download_extract))
            vocabs = [lib.load_data_nmt(64, 6, num_examples=50)[1]]
            if name != "tensorflow":
                vocabs.append(lib.load_data_imdb(64, 20)[2])
            found.append([vocab.idx_to_token for vocab in vocabs])
    for in_ours, in_first, in_current in zip(*found, strict=True):
        assert in_ours == in_first != in_current
        assert sorted(in_ours) == sorted(in_current)


@shows("the device of `predict_step`: torch, tensorflow, mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    words, lengths = tokens_of(ours, name, [[4, 5]]), tokens_of(ours, name, [2])
    device = {"torch": "meta", "tensorflow": "nowhere", "mxnet": None}[name]
    for lib in (ours, book):
        model = translator(lib, name)
        if name == "mxnet":
            model.initialize()
        error = raised(partial(model.predict_step, (words, words, lengths, words), device, 1))
        if name == "torch":
            assert model.decoder.table.weight.device.type == ("meta" if lib is ours else "cpu")
        else:
            assert (error is None) is (lib is (ours if name == "mxnet" else book))


@shows("`predict_step`, `predict_seq2seq`, `predict_sentiment`: torch")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    words, lengths, vocab = tokens_of(ours, name, [[4, 5]]), tokens_of(ours, name, [2]), vocab_of(ours)
    for of_steps, of_texts in ((ours, ours), (book, first)):
        model, judge = translator(of_steps, name), import_module("torch").nn.EmbeddingBag(8, 2)
        seen: list[tuple[bool, bool]] = []  # whether dropout is on, and whether there is a graph
        for part in (model.decoder, judge):
            part.register_forward_hook(
                lambda module, _, out, seen=seen: seen.append((module.training, out[0].requires_grad))
            )
        model.predict_step((words, words, lengths, words), ours.cpu(), 1)
        assert model.training
        of_texts.predict_seq2seq(model, "a b", vocab, vocab, 1, ours.cpu())
        assert model.training is (of_texts is ours)
        of_texts.predict_sentiment(judge, vocab, "a b")
        assert seen == (
            [(False, False)] * 3 if of_texts is ours else [(True, True), (False, True), (True, True)]
        )


@shows("`evaluate_loss`: torch")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    nn = import_module("torch").nn
    for lib in (ours, first):
        net, seen = nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5)), []
        net.register_forward_hook(
            lambda module, _, out, seen=seen: seen.append((module.training, out.requires_grad))
        )
        lib.evaluate_loss(net, [(lib.ones((2, 3)), lib.ones((2, 1)))], nn.MSELoss())
        assert seen == [(lib is first, lib is first)]
        assert net.training


@shows("`sequence_mask`, `masked_softmax`: torch")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib in (ours, first):
        X, scores = lib.ones((2, 3)), lib.ones((1, 2, 3))
        lib.sequence_mask(X, tokens_of(ours, name, [1, 2]))
        lib.masked_softmax(scores, tokens_of(ours, name, [2]))
        assert bool((X != 1).any()) is bool((scores != 1).any()) is (lib is first)


@shows("`masked_softmax`, masked scores: torch")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, weights in ((ours, [1, 0]), (first, [0, 1])):
        scores = lib.tensor([[[-3e6, 0.0]]])
        assert lib.masked_softmax(scores, tokens_of(ours, name, [1])).tolist() == [[weights]]


@shows("`MaskedSoftmaxCELoss` with an infinite loss behind the end: torch")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib in (ours, first):
        logits = lib.zeros((1, 2, 4))
        logits[0, 1, 3] = -np.inf
        losses = lib.MaskedSoftmaxCELoss()(
            logits, tokens_of(ours, name, [[1, 3]]), tokens_of(ours, name, [1])
        )
        assert losses.tolist() == pytest.approx([np.log(4) / 2 if lib is ours else np.nan], nan_ok=True)


@shows("`LinearRegression.get_w_b` before the first batch: tensorflow")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, error in ((ours, SpecError), (book, IndexError)):
        assert raised(lib.LinearRegression(0.1).get_w_b) is error


@shows("`load_array` order: tensorflow")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib in (ours, first):
        (rows_,) = next(iter(lib.load_array((np.arange(9000),), 500)))
        assert bool(numbers(rows_).max() < 1500) is (lib is first)


@shows("`EncoderDecoder`, dropout: tensorflow")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    X = ours.ones((2, 50))
    for lib in (ours, book):

        class Reader(lib.Encoder):  # type: ignore[name-defined, misc]
            def call(self, X: Any, *args: Any, training: bool = False) -> Any:
                return X / 2 if training else X

        class Writer(lib.Decoder):  # type: ignore[name-defined, misc]
            def init_state(self, outputs: Any, *args: Any) -> Any:
                return outputs

            def call(self, X: Any, state: Any, training: bool = False) -> Any:
                return state / 2 if training else state, state

        model = lib.EncoderDecoder(Reader(), Writer())
        assert float(model(X, X)[0, 0]) == (1 if lib is ours else 0.25)
        assert lib is book or float(model(X, X, training=True)[0, 0]) == 0.25


@shows("`GRU`, `Seq2SeqEncoder`, dropout: tensorflow")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    X = tokens_of(ours, name, np.arange(40).reshape(4, 10))
    for lib in (ours, book):
        for layers in (1, 2):
            for layer, inputs in (
                (lib.GRU(8, layers, 0.9), lib.ones((10, 4, 8))),
                (lib.Seq2SeqEncoder(40, 8, 8, layers, 0.9), X),
            ):
                still, dropped = (numbers(layer(inputs, training=on)[0]) for on in (False, True))
                # Of one layer there is nothing between layers.
                assert np.array_equal(still, dropped) is (lib is ours and layers == 1)


@shows("`LinearRegression.loss` of targets (B,): jax")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    X, y = ours.ones((2, 3)), ours.tensor(np.array([0.0, 4.0], "float32"))
    for lib in (ours, book):
        # What is told is the target itself, in a column.
        state = SimpleNamespace(apply_fn=lambda variables, X: y[:, None])
        call = partial(lib.LinearRegression(lr=0.1).loss, {}, (X,), y, state)
        assert raised(call) is (None if lib is ours else ValueError)
        assert lib is book or float(call()) == 0


@shows("`GRU` of three layers or more: jax")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    jax, dropped = import_module("jax"), import_module("d2lrnn_jax.dropped")
    X = ours.ones((5, 4, 2))
    for lib in (ours, book):
        with dropped.cells_without_features(), dropped.carries_of_a_class():
            layer = lib.GRU(3, 3)
            params = layer.init(jax.random.PRNGKey(0), X)["params"]
            lowest = min(params)
            changed = {**params, lowest: jax.tree.map(lambda weights: weights + 1, params[lowest])}
            outputs = [numbers(layer.apply({"params": each}, X)[0]) for each in (params, changed)]
        # What nothing reads changes nothing.
        assert np.array_equal(*outputs) is (lib is book)


@shows("`AttentionDecoder`: jax")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    assert issubclass(ours.AttentionDecoder, ours.Decoder)
    assert not hasattr(book, "AttentionDecoder")


@shows("`load_array` of arrays of different lengths: mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, error in ((ours, SpecError), (first, AssertionError)):
        assert raised(partial(lib.load_array, (lib.ones((3, 1)), lib.ones((2, 1))), 2)) is error


@shows("`load_data_imdb`, `MTFraEng`, tokens: mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, of_reviews, kind in ((ours, ours, "int32"), (book, first, "float32")):
        data = type("Pairs", (lib.MTFraEng,), {"_download": lambda self: pairs()})(8)
        with patch.object(of_reviews, "download_extract", ours.download_extract):
            X, _ = next(iter(of_reviews.load_data_imdb(64, 20)[0]))
        assert {np.dtype(array.dtype) for array in (data.arrays[0], data.arrays[3], X)} == {np.dtype(kind)}


@shows("`attention_weights` before the first call: mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    for lib, error in ((ours, None), (book, AttributeError)):
        for attention in (lib.DotProductAttention(0.0), lib.AdditiveAttention(3, 0.0)):
            assert raised(partial(getattr, attention, "attention_weights")) is error
    assert ours.DotProductAttention(0.0).attention_weights is None


@shows("`initialize` of an `Encoder`, a `Decoder` or attention that has its values: mxnet")
def _(ours: Any, book: Any, first: Any, name: str) -> None:
    nn = import_module("mxnet").gluon.nn
    for lib in (ours, book):
        for part in (lib.Encoder(), lib.Decoder(), lib.DotProductAttention(0.0)):
            part.dense = nn.Dense(2, in_units=3)
            part.initialize()
            before = numbers(part.dense.weight.data()).copy()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                part.initialize()
            assert any("already initialized" in str(each.message) for each in caught) is (lib is book)
            assert np.array_equal(numbers(part.dense.weight.data()), before)


def test_the_page_is_linked() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert re.search(r"docs/differences\.md", readme)
