"""Every row of docs/deviations.md is true: the book's own package does one thing, this library another."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from agreement import numbers

from d2lrnn.errors import DivergedError, PromptError, SpecError, TextError
from d2lrnn.generation import UnknownTokenWarning
from d2lrnn.registry import BackendEntry

pytestmark = [
    pytest.mark.usefixtures("numpy_semantics"),
    pytest.mark.filterwarnings("ignore:Layer .* looks like it has unbuilt state"),
    pytest.mark.filterwarnings("ignore:`build.*` was called on layer"),
    pytest.mark.filterwarnings("ignore:::book_(current|first)_.*"),
]

PAGE = Path(__file__).parents[2] / "docs" / "deviations.md"

#: What shows a row: from ours, the book's current edition, its first one (None with JAX) and the backend.
Shown = Callable[[Any, Any, Any, str], None]

#: By the row's first column, and on one tab its second.
SHOWN: dict[str, Shown] = {}


def shows(row: str) -> Callable[[Shown], Shown]:
    def mark(test: Shown) -> Shown:
        assert row not in SHOWN
        SHOWN[row] = test
        return test

    return mark


def rows() -> Iterator[tuple[str, list[str]]]:
    """Of the page: the key of a row, and the tabs that it is about."""
    for part, names in (("## On every tab", 1), ("## On one tab", 2)):
        text = PAGE.read_text(encoding="utf-8").split(part)[1].split("\n## ")[0]
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
            if line.startswith("|") and cells[0] != "Name" and not line.startswith("|---"):
                tabs = cells[1].split(", ") if names == 2 else ["torch", "tensorflow", "jax", "mxnet"]
                yield ": ".join(cells[:names]), tabs


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


def test_the_page_is_linked() -> None:
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert re.search(r"docs/deviations\.md", readme)
