"""What has no model in it, beside the book's own packages: text, batches, figures, times, tensors.

The arguments are drawn from those that the book's own code takes. Where a result is meant to differ, it is in
docs/differences.md; `test_book_differences` holds that it does.
"""

from __future__ import annotations

import os
import random
import shutil
import string
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from agreement import agree, compares, few, fewest, numbers
from hypothesis import given
from hypothesis import strategies as st

from d2lrnn.registry import BackendEntry

pytestmark = pytest.mark.usefixtures("numpy_semantics")

needs_novel = pytest.mark.skipif("D2LRNN_DATA" not in os.environ, reason="D2LRNN_DATA names no folder")

words = st.text("abcX é,", max_size=6)
tokens = st.one_of(
    st.lists(words, max_size=12), st.lists(st.lists(words, max_size=5), max_size=4), st.just([])
)
limits = st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(4, 9)).map(list))
labels = st.one_of(st.none(), st.sampled_from(["epoch", "x"]))
values = st.floats(0.125, 64, width=32)


# Text and vocabularies.


@compares("tokenize")
@few
@given(lines=st.lists(words, max_size=5), kind=st.sampled_from(["word", "char"]))
def test_lines_are_split_alike(d2l: ModuleType, book: Any, lines: list[str], kind: str) -> None:
    if hasattr(book, "tokenize"):
        agree(d2l.tokenize(lines, kind), book.tokenize(lines, kind))
        agree(d2l.tokenize(lines), book.tokenize(lines))


@compares("count_corpus")
@few
@given(corpus=tokens)
def test_tokens_are_counted_alike(d2l: ModuleType, first: Any, corpus: Any) -> None:
    ours, theirs = d2l.count_corpus(corpus), first.count_corpus(corpus)
    agree(ours, theirs)
    assert type(ours) is type(theirs)


sentences = st.lists(st.sampled_from(["go", "va", "!", "hi", "he"]), min_size=1, max_size=6).map(" ".join)


@compares("preprocess_nmt tokenize_nmt truncate_pad")
@few
@given(
    lines=st.lists(st.text("aB .,!?\t\u202f\xa0", max_size=9), max_size=5),
    most=st.one_of(st.none(), st.integers(0, 4)),
    num_steps=st.integers(0, 5),
)
def test_pairs_are_read_alike(
    d2l: ModuleType, book: Any, lines: list[str], most: int | None, num_steps: int
) -> None:
    if not hasattr(book, "preprocess_nmt"):
        return
    text = "\n".join(lines)
    agree(d2l.preprocess_nmt(text), book.preprocess_nmt(text))
    agree(d2l.tokenize_nmt(text, most), book.tokenize_nmt(text, most))
    agree(d2l.truncate_pad(list(text), num_steps, "-"), book.truncate_pad(list(text), num_steps, "-"))


@compares("bleu")
@few
@given(predicted=sentences, right=sentences, k=st.integers(1, 4))
def test_scores_agree(d2l: ModuleType, current: Any, predicted: str, right: str, k: int) -> None:
    assert d2l.bleu(predicted, right, k) == pytest.approx(current.bleu(predicted, right, k), rel=1e-12)


@compares("extract")
def test_archives_are_unpacked_alike(d2l: ModuleType, current: Any, tmp_path: Path) -> None:
    for lib in (d2l, current):
        folder = tmp_path / lib.__name__
        folder.mkdir()
        with ZipFile(folder / "set.zip", "w") as archive:
            archive.writestr("set/a.txt", "a")
        lib.extract(str(folder / "set.zip"))
        lib.extract(str(folder / "set.zip"), str(folder / "inner"))
        assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.txt")) == [
            "inner/set/a.txt", "set/a.txt",
        ]  # fmt: skip


@compares("Vocab FrequencyVocab")
@few
@given(
    corpus=tokens,
    min_freq=st.integers(0, 3),
    reserved=st.lists(st.sampled_from(["<pad>", "<bos>", "a"]), unique=True),
    data=st.data(),
)
def test_vocabularies_agree(
    d2l: ModuleType, book: Any, corpus: Any, min_freq: int, reserved: list[str], data: st.DataObject
) -> None:
    # Of the first edition only its package has a class `RNNModelScratch`.
    own = d2l.FrequencyVocab if hasattr(book, "RNNModelScratch") else d2l.Vocab
    ours, theirs = (kind(corpus, min_freq, reserved) for kind in (own, book.Vocab))
    for name in ("idx_to_token", "token_to_idx", "token_freqs", "unk"):
        agree(getattr(ours, name), getattr(theirs, name))
    assert len(ours) == len(theirs)
    known = st.sampled_from([*theirs.idx_to_token, "unknown"])
    for asked in (data.draw(known), data.draw(st.lists(known)), tuple(data.draw(st.lists(known)))):
        agree(ours[asked], theirs[asked])
    index = st.integers(0, len(theirs) - 1)
    several = data.draw(st.lists(index, min_size=2, max_size=5))
    for indices in (several[0], several, tuple(several)):
        agree(ours.to_tokens(indices), theirs.to_tokens(indices))


# The novel.


@pytest.fixture(scope="module")
def beside_the_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, with the book's own folder of data beside it: nothing is fetched."""
    data = tmp_path_factory.mktemp("novel") / "data"
    data.mkdir()
    (data.parent / "work").mkdir()
    shutil.copy(Path(os.environ["D2LRNN_DATA"]) / "timemachine.txt", data)
    before = Path.cwd()
    os.chdir(data.parent / "work")
    yield data
    os.chdir(before)


@needs_novel
@compares("download DATA_URL DATA_HUB")
def test_the_file_is_where_the_book_says(
    d2l: ModuleType, current: Any, beside_the_data: Path, entry: BackendEntry, load_book: Any
) -> None:
    assert d2l.DATA_URL == current.DATA_URL
    address, checksum = d2l.DATA_URL + "timemachine.txt", d2l.DATA_HUB["time_machine"][1]
    folder = str(beside_the_data)
    assert d2l.download(address, folder, checksum) == current.download(address, folder, checksum)
    assert d2l.download(address, folder=folder, sha1_hash=checksum) == os.path.join(folder, "timemachine.txt")
    if entry.name != "jax":
        first = load_book("first")
        assert d2l.DATA_HUB["time_machine"] == first.DATA_HUB["time_machine"]
        for given_as in ({"cache_dir": folder}, {"cache_dir": folder + "/"}):
            theirs = first.download("time_machine", **given_as)
            assert d2l.download("time_machine", **given_as) == theirs
        assert d2l.download("time_machine", folder) == first.download("time_machine", folder)


@needs_novel
@compares("read_time_machine load_corpus_time_machine")
def test_the_first_editions_novel(d2l: ModuleType, first: Any, beside_the_data: Path) -> None:
    agree(d2l.read_time_machine(), first.read_time_machine())
    for most in (-1, 0, 1000):
        (corpus, vocab), (theirs, their_vocab) = (lib.load_corpus_time_machine(most) for lib in (d2l, first))
        agree(corpus, theirs)
        agree(vocab.idx_to_token, their_vocab.idx_to_token)
        agree(vocab.token_freqs, their_vocab.token_freqs)


@needs_novel
@compares("load_data_time_machine SeqDataLoader")
@pytest.mark.parametrize("use_random_iter", [False, True])
def test_the_first_editions_loader(
    d2l: ModuleType, first: Any, beside_the_data: Path, entry: BackendEntry, use_random_iter: bool
) -> None:
    walked = []
    for lib in (d2l, first):
        random.seed(5)
        loader, vocab = lib.load_data_time_machine(4, 7, use_random_iter, max_tokens=300)
        assert vocab is loader.vocab
        assert (loader.batch_size, loader.num_steps) == (4, 7)
        again = lib.SeqDataLoader(4, 7, use_random_iter, 300)
        assert again.corpus == loader.corpus
        walked.append([[list(batch) for batch in each] for each in (loader, loader, again)])
    agree(*walked, exact_types=entry.name != "mxnet")


@needs_novel
@compares("seq_data_iter_random seq_data_iter_sequential")
@few
@given(
    rows=st.integers(1, 4),
    steps=st.integers(1, 5),
    extra=st.integers(0, 40),
    seed=st.integers(0, 99),
    name=st.sampled_from(["seq_data_iter_random", "seq_data_iter_sequential"]),
    kind=st.sampled_from([list, range]),
)
def test_batches_agree(
    d2l: ModuleType,
    first: Any,
    entry: BackendEntry,
    rows: int,
    steps: int,
    extra: int,
    seed: int,
    name: str,
    kind: Any,
) -> None:
    corpus = range(1 + steps + rows + extra)
    walked = []
    for lib in (d2l, first):
        random.seed(seed)
        asked = list(corpus) if kind is list else corpus
        walked.append([list(batch) for batch in getattr(lib, name)(asked, batch_size=rows, num_steps=steps)])
    agree(*walked, exact_types=entry.name != "mxnet")


@compares("TimeMachine DataModule")
@fewest
@given(
    text=st.text(string.ascii_letters + " ,\n", min_size=60, max_size=200),
    batch_size=st.integers(1, 9),
    num_steps=st.integers(1, 4),
    num_train=st.integers(1, 12),
    num_val=st.integers(1, 6),
)
def test_windows_agree(
    d2l: ModuleType,
    current: Any,
    entry: BackendEntry,
    text: str,
    batch_size: int,
    num_steps: int,
    num_train: int,
    num_val: int,
) -> None:
    made = []
    text = text + "the time machine " * 5
    for lib in (d2l, current):
        short = type("Short", (lib.TimeMachine,), {"_download": lambda self: text})
        made.append(short(batch_size, num_steps=num_steps, num_train=num_train, num_val=num_val))
    ours, theirs = made
    agree(ours.hparams, theirs.hparams)
    for method, argument in (("_preprocess", text), ("_tokenize", text), ("build", text)):
        a, b = (getattr(each, method)(argument) for each in made)
        if method == "build":
            agree(a[0], b[0])
            a, b = (vocab.idx_to_token for _, vocab in (a, b))
        agree(a, b)
    agree(ours.build("the end", ours.vocab)[0], theirs.build("the end", theirs.vocab)[0])
    assert tuple(ours.X.shape) == tuple(theirs.X.shape)
    for name in ("X", "Y"):
        agree(numbers(getattr(ours, name)[:20]), numbers(getattr(theirs, name)[:20]), exact_types=False)
    if entry.name == "jax":
        return  # the book's loader there is TensorFlow's
    loaders = [(each.train_dataloader(), each.get_dataloader(False)) for each in made]
    assert [len(loader) for loader in loaders[0]] == [len(loader) for loader in loaders[1]]
    for a, b in zip(*loaders, strict=True):
        X, Y = (next(iter(loader)) for loader in (a, b))
        assert len(X) == len(Y) == 2
        assert type(X) is type(Y)
        assert [tuple(part.shape) for part in X] == [tuple(part.shape) for part in Y]


@compares("DataModule")
@few
@given(
    rows=st.integers(1, 12),
    batch_size=st.integers(1, 5),
    train=st.booleans(),
    indices=st.sampled_from([slice(0, None), slice(1, 5), slice(2, None)]),
    seed=st.integers(0, 99),
)
def test_loaders_agree(
    d2l: ModuleType,
    current: Any,
    entry: BackendEntry,
    rows: int,
    batch_size: int,
    train: bool,
    indices: slice,
    seed: int,
) -> None:
    if entry.name == "jax" or len(range(rows)[indices]) == 0:
        return
    X, Y = np.arange(2 * rows, dtype="float32").reshape(rows, 2), np.arange(rows, dtype="float32")
    walked = []
    for lib in (d2l, current):
        data = lib.DataModule()
        data.batch_size = batch_size
        tensors = [lib.tensor(X), lib.tensor(Y)]
        if entry.name == "torch":
            d2l.seed_everything(seed)
        loader = data.get_tensorloader(tensors, train, indices)
        walked.append(list(loader))
        assert len(loader) == len(walked[-1])
        assert [len(y) for _, y in walked[-1]] == [len(y) for _, y in walked[0]]
    if train and entry.name != "torch":  # these shuffle by other random numbers
        walked = [sorted(float(y) for _, part in batches for y in numbers(part)) for batches in walked]
    agree(*walked)


# Classes that others are made of.


@compares("HyperParameters add_to_class")
@few
@given(
    number=st.integers(),
    ignored=st.lists(st.sampled_from(["a", "b", "made", "more", "rest"]), unique=True),
    rest=st.lists(st.integers(), max_size=2),
    more=st.dictionaries(st.sampled_from(["c", "d"]), st.integers()),
)
def test_hyperparameters_are_arguments_and_locals(
    d2l: ModuleType, current: Any, number: int, ignored: list[str], rest: list[int], more: dict[str, int]
) -> None:
    saved = []
    for lib in (d2l, current):

        class A(lib.HyperParameters):
            def __init__(self, a: int, *rest: int, b: int = 2, _hidden: int = 3, **more: int) -> None:
                made = [a, b]
                self.save_hyperparameters(ignore=ignored)
                made.append(_hidden)

        a = A(number, *rest, **more)

        @lib.add_to_class(A)
        def answer(self: Any) -> Any:
            return self.hparams

        saved.append((a.hparams, vars(a), A.answer(a)))
    for ours, theirs in zip(*saved, strict=True):
        assert ours == theirs


@compares("Timer Accumulator")
@few
@given(rows=st.lists(st.tuples(values, values), min_size=1, max_size=5))
def test_sums_and_times_agree(d2l: ModuleType, book: Any, rows: list[tuple[float, float]]) -> None:
    if hasattr(book, "Accumulator"):
        ours, theirs = (lib.Accumulator(2) for lib in (d2l, book))
        for a, b in rows:
            for metric in (ours, theirs):
                metric.add(np.float32(a), d2l.tensor(b))
            agree(ours.data, theirs.data)
            agree(ours[1], theirs[1])
        ours.reset()
        theirs.reset()
        agree(ours.data, theirs.data)
    if hasattr(book, "Timer"):
        timers = [lib.Timer() for lib in (d2l, book)]
        for timer in timers:
            timer.start()
            assert timer.stop() >= 0
            assert timer.tik > 0
            timer.times = [a for a, _ in rows]
        for method in ("avg", "sum", "cumsum"):
            agree(*(getattr(timer, method)() for timer in timers))


@compares("check_len check_shape")
@few
@given(shape=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), asked=st.data())
def test_checks_agree(d2l: ModuleType, current: Any, shape: tuple[int, ...], asked: st.DataObject) -> None:
    array = d2l.ones(shape)
    for name, expected in (
        ("check_shape", asked.draw(st.sampled_from([shape, shape[:1], (*shape, 1)]))),
        ("check_len", asked.draw(st.integers(1, 3))),
    ):
        outcomes = []
        for lib in (d2l, current):
            try:
                outcomes.append(getattr(lib, name)(array, expected))
            except AssertionError:
                outcomes.append(AssertionError)
        assert outcomes[0] is outcomes[1]


# Figures.


@pytest.fixture(scope="module")
def pyplot() -> Iterator[Any]:
    import_module("matplotlib").use("Agg")
    module = import_module("matplotlib.pyplot")
    with module.rc_context(), warnings.catch_warnings():
        module.close("all")
        yield module
        module.close("all")


def drawn(axes: Any, curves: int | None = None) -> dict[str, Any]:
    """What can be seen in axes: of the lines the last ones, where a board draws the same curves again."""
    lines = axes.lines if curves is None else axes.lines[-curves:]
    legend = axes.get_legend()
    return {
        "curves": [numbers(line.get_xydata()).tolist() for line in lines],
        "looks": [(line.get_linestyle(), line.get_color()) for line in lines] if curves else len(lines),
        "labels": (axes.get_xlabel(), axes.get_ylabel()),
        "scales": (axes.get_xscale(), axes.get_yscale()),
        "legend": legend and [text.get_text() for text in legend.get_texts()],
    }


@compares("ProgressBoard")
@few
@given(
    look=st.fixed_dictionaries(
        {"xlabel": st.just("epoch"), "ylabel": labels, "xlim": limits, "ylim": limits},
        optional={"xscale": st.just("log"), "yscale": st.just("log"), "figsize": st.just((5, 4)),
                  "display": st.booleans(), "ls": st.just(["--", ":"]), "colors": st.just(["r", "b", "g"])},
    ),
    points=st.lists(st.tuples(values, values, st.sampled_from(["train", "val"])), min_size=1, max_size=8),
    every_n=st.integers(1, 3),
)  # fmt: skip
def test_boards_agree(
    d2l: ModuleType,
    current: Any,
    pyplot: Any,
    look: dict[str, Any],
    points: list[tuple[float, float, str]],
    every_n: int,
) -> None:
    seen = []
    for lib in (d2l, current):
        board = lib.ProgressBoard(**look)
        for x, y, label in points:
            board.draw(x, y, label, every_n=every_n)
        data = [(label, [(float(p.x), float(p.y)) for p in line]) for label, line in board.data.items()]
        picture = None
        if board.fig is not None:
            (axes,) = board.fig.axes
            picture = drawn(axes, len(board.data)), board.fig.get_size_inches().tolist()
            for limit, get in (("xlim", axes.get_xlim), ("ylim", axes.get_ylim)):
                assert look[limit] is None or list(get()) == look[limit]
        attributes = {name: getattr(board, name) for name in look}
        seen.append((data, picture, attributes, board.axes, board.display, board.xscale))
        pyplot.close("all")
    assert seen[0] == seen[1]


@compares("Animator")
@few
@given(
    look=st.fixed_dictionaries(
        {},
        optional={
            "xlabel": labels, "ylabel": labels, "xlim": limits, "ylim": limits, "figsize": st.just((5, 4)),
            "xscale": st.just("log"), "legend": st.sampled_from([None, ["train"], ["train", "test"]]),
            "fmts": st.just(("-", "g--", "r:")), "nrows": st.integers(1, 2),
        },
    ),
    rows=st.lists(
        st.tuples(st.integers(1, 30), st.tuples(values, st.one_of(st.none(), values))), max_size=4
    ),
    form=st.sampled_from([list, tuple, "single", "own x"]),
)  # fmt: skip
def test_animators_agree(
    d2l: ModuleType,
    book: Any,
    pyplot: Any,
    look: dict[str, Any],
    rows: list[tuple[int, tuple[float, float | None]]],
    form: Any,
) -> None:
    if not hasattr(book, "Animator"):
        return
    seen = []
    for lib in (d2l, book):
        animator = lib.Animator(**look)
        assert animator.fig in map(pyplot.figure, pyplot.get_fignums())
        for x, ys in rows:
            if form == "single":
                animator.add(x, ys[0])
            elif form == "own x":
                animator.add([x, x + 1], list(ys))
            else:
                animator.add(x, form(ys))
        picture = drawn(animator.axes[0]) if rows else None
        seen.append((animator.X or [], animator.Y or [], animator.fmts, picture, len(animator.axes),
                     type(animator.axes), animator.fig.get_size_inches().tolist()))  # fmt: skip
        pyplot.close("all")
    assert seen[0] == seen[1]


@compares("plot set_figsize")
@few
@given(
    shape=st.sampled_from(["y", "x and y", "x and rows", "rows", "rows and rows", "tensors"]),
    look=st.fixed_dictionaries(
        {},
        optional={
            "xlabel": labels, "ylabel": labels, "xlim": limits, "ylim": limits, "xscale": st.just("log"),
            "yscale": st.just("log"), "legend": st.sampled_from([["a"], ["a", "b"]]),
            "fmts": st.just(("g-.", "r:", "b")), "figsize": st.just((4.5, 2.5)),
        },
    ),
    numbers_=st.lists(values, min_size=3, max_size=3),
    has_axes=st.booleans(),
)  # fmt: skip
def test_plots_agree(
    d2l: ModuleType,
    book: Any,
    entry: BackendEntry,
    pyplot: Any,
    shape: str,
    look: dict[str, Any],
    numbers_: list[float],
    has_axes: bool,
) -> None:
    v, w = numbers_, [2 * each for each in numbers_]
    made = d2l.tensor(v) if entry.name != "mxnet" else np.array(v)
    arguments: list[Any] = {
        "y": [v], "x and y": [v, np.array(w)], "x and rows": [np.arange(3.0), [v, w]], "rows": [[v, w[:2]]],
        "rows and rows": [[v, w], np.array([w, v])], "tensors": [made, [made, made]],
    }[shape]  # fmt: skip
    seen = []
    for lib in (d2l, book):
        given_axes = {"axes": pyplot.subplots()[1]} if has_axes else {}
        assert lib.plot(*arguments, **look, **given_axes) is None
        axes = given_axes.get("axes", pyplot.gca())
        seen.append((drawn(axes), [list(get()) for get in (axes.get_xlim, axes.get_ylim)]))
        pyplot.close("all")
        lib.set_figsize((6.5, 3.5))
        seen[-1] += (list(pyplot.rcParams["figure.figsize"]),)
        lib.set_figsize()
    assert seen[0] == seen[1]


@compares("set_axes show_heatmaps show_list_len_pair_hist use_svg_display")
def test_pictures_agree(d2l: ModuleType, book: Any, entry: BackendEntry, pyplot: Any) -> None:
    weights = np.random.default_rng(0).random((2, 3, 4, 5)).astype("float32")
    seen: list[Any] = []
    for lib in (d2l, book):
        lib.use_svg_display()
        _, axes = pyplot.subplots()
        axes.plot([1, 2], [3, 4])
        lib.set_axes(axes, "x", "y", [1, 5], None, "linear", "log", ["curve"])
        seen.append([drawn(axes), axes.get_xlim(), axes.xaxis.get_gridlines()[0].get_visible()])
        lib.show_heatmaps(lib.tensor(weights), "keys", "queries", titles=["a", "b", "c"], figsize=(4, 3))
        *grid, _ = pyplot.gcf().axes
        seen[-1] += [
            (drawn(each)["labels"], each.get_title(), numbers(each.images[0].get_array()).tolist())
            for each in grid
        ]
        seen[-1].append(pyplot.gcf().get_size_inches().tolist())
        pyplot.close("all")
        lib.show_list_len_pair_hist(["a", "b"], "tokens", "count", [[1], [1, 2]], [[1, 2, 3]])
        axes = pyplot.gca()
        seen[-1] += [drawn(axes), [(bar.get_height(), bar.get_hatch()) for bar in axes.patches]]
        pyplot.close("all")
    assert seen[0] == seen[1]


# Data sets.


@compares("download_extract read_data_nmt read_imdb")
def test_data_sets_are_read_alike(
    d2l: ModuleType, book: Any, entry: BackendEntry, small_data: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    if not hasattr(book, "read_data_nmt"):
        pytest.skip(f"the book's tab for {entry.name} does not read them")
    # Where the book's package looks first: beside the folder that it runs in.
    (tmp_path / "work").mkdir()
    shutil.copytree(small_data, tmp_path / "data")
    monkeypatch.chdir(tmp_path / "work")
    for name in ("fra-eng", "aclImdb"):
        monkeypatch.setitem(book.DATA_HUB, name, d2l.DATA_HUB[name])
    assert d2l.read_data_nmt() == book.read_data_nmt()
    folders = [lib.download_extract("aclImdb", "aclImdb") for lib in (d2l, book)]
    for is_train in (True, False):
        (ours, our_labels), (theirs, their_labels) = (
            lib.read_imdb(folder, is_train) if hasattr(lib, "read_imdb") else d2l.read_imdb(folder, is_train)
            for lib, folder in zip((d2l, book), folders, strict=True)
        )
        # In the book in the order of the file system.
        assert sorted(zip(ours, our_labels, strict=True)) == sorted(zip(theirs, their_labels, strict=True))


# Devices and tensors.


@compares("cpu gpu num_gpus try_gpu try_all_gpus")
@fewest
@given(i=st.integers(0, 3))
def test_devices_agree(d2l: ModuleType, book: Any, i: int) -> None:
    for name, arguments in (("cpu", ()), ("gpu", (i,)), ("try_gpu", (i,)), ("num_gpus", ())):
        if not hasattr(book, name):
            continue
        outcomes = []
        for lib in (d2l, book):
            try:
                device = getattr(lib, name)(*arguments)
            except (RuntimeError, IndexError) as error:  # JAX, of a GPU that is not there
                outcomes.append(type(error).__name__)
            else:
                outcomes.append(getattr(device, "_device_name", str(device)))
        assert outcomes[0] == outcomes[1], name
    if d2l.num_gpus() or not hasattr(book, "cpu"):
        assert len(d2l.try_all_gpus()) == len(book.try_all_gpus())


#: How each helper is called: X is (2, 3), v is (3,), both positive.
HELPERS = {
    "ones": lambda f, X, v: f((2, 3)), "zeros": lambda f, X, v: f((2, 3)), "eye": lambda f, X, v: f(3),
    "ones_like": lambda f, X, v: f(X), "zeros_like": lambda f, X, v: f(X), "arange": lambda f, X, v: f(5),
    "linspace": lambda f, X, v: f(0.0, 1.0, 5), "meshgrid": lambda f, X, v: list(f(v, v)),
    "matmul": lambda f, X, v: f(X, X.reshape(3, 2) if hasattr(X, "reshape") else X.numpy().reshape(3, 2)),
    "concat": lambda f, X, v: f([X, X], 1), "stack": lambda f, X, v: f([X, X], 1),
    "reshape": lambda f, X, v: f(X, (3, 2)), "argmax": lambda f, X, v: f(X, 1),
    "reduce_sum": lambda f, X, v: f(X, 0), "reduce_mean": lambda f, X, v: f(X, 1),
    "expand_dims": lambda f, X, v: f(X, 1), "repeat": lambda f, X, v: f(X, 2, 1),
    "swapaxes": lambda f, X, v: f(X, 0, 1), "transpose": lambda f, X, v: f(X), "numpy": lambda f, X, v: f(X),
    "size": lambda f, X, v: int(f(X)), "tensor": lambda f, X, v: f([[1.0, 2.0], [3.0, 4.0]]),
    **dict.fromkeys(("sin", "sinh", "cos", "cosh", "tanh"), lambda f, X, v: f(X)),
    **dict.fromkeys(("exp", "log", "abs", "sigmoid"), lambda f, X, v: f(X)),
}  # fmt: skip


@compares(
    "ones ones_like zeros zeros_like arange linspace eye meshgrid sin sinh cos cosh tanh exp log abs sigmoid "
    "matmul batch_matmul concat stack reshape argmax astype to transpose swapaxes reduce_sum reduce_mean "
    "expand_dims repeat numpy tensor size float32 int32 int64 nn_Module rand randn normal one_hot"
)
@few
@given(entries=st.lists(values, min_size=6, max_size=6))
def test_tensor_helpers_agree(d2l: ModuleType, book: Any, entry: BackendEntry, entries: list[float]) -> None:
    X, v = (d2l.tensor(part) for part in (np.array(entries, "float32").reshape(2, 3), entries[:3]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `torch.meshgrid` asks for an argument
        for name, call in HELPERS.items():
            if hasattr(book, name) and hasattr(d2l, name):
                agree(call(getattr(d2l, name), X, v), call(getattr(book, name), X, v))
    agree(d2l.astype(X, d2l.int32), book.astype(X, book.int32))
    if hasattr(book, "to"):
        agree(d2l.to(X, d2l.cpu()), book.to(X, d2l.cpu()))
    if hasattr(book, "batch_matmul"):
        pair = d2l.stack([X, X], 0), d2l.stack([X, X], 0)
        left = pair[0], d2l.reshape(pair[1], (2, 3, 2))
        agree(d2l.batch_matmul(*left), book.batch_matmul(*left))
    # Random ones, types and the base of modules are the framework's own.
    own = "rand randn normal float32 int32 int64" + (" nn_Module" if entry.name != "tensorflow" else "")
    for name in own.split():
        if hasattr(book, name) and hasattr(d2l, name):
            assert getattr(d2l, name) is getattr(book, name)
    if entry.name != "tensorflow":
        array = np.array(entries, "float32").reshape(2, 3)
        for name, arguments in (("reshape", ((3, 2),)), ("argmax", (1,)), ("reduce_sum", (0,))):
            agree(getattr(d2l, name)(array, *arguments), getattr(book, name)(array, *arguments))
