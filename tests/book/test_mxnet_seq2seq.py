"""Regression, encoder and decoder, attention and sentences on MXNet, beside the book's own packages."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from agreement import agree, compares, few, numbers
from hypothesis import given
from hypothesis import strategies as st
from small_data import pairs

from d2lrnn.errors import DivergedError, SpecError
from d2lrnn.registry import BackendEntry

pytestmark = [
    pytest.mark.usefixtures("numpy_semantics"),
    pytest.mark.filterwarnings("ignore:::book_(current|first)_.*"),
]

V, E, H, L = 11, 5, 6, 2
sizes = st.fixed_dictionaries({"B": st.integers(1, 3), "Q": st.integers(1, 3), "K": st.integers(1, 5)})
seeds = st.integers(0, 999)


@pytest.fixture(autouse=True)
def _only_mxnet(entry: BackendEntry, d2l: ModuleType) -> Iterator[None]:
    if entry.name != "mxnet":
        pytest.skip("these tests are written in MXNet")
    d2l.seed_everything(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # Gluon's loaders shuffle by it
    yield
    d2l.plt.close("all")


@pytest.fixture
def edition(request: pytest.FixtureRequest, d2l: ModuleType) -> Any:
    """From the name of one to the book's package, and to what our names stand for in it."""

    def pick(name: str) -> tuple[Any, Callable[[str], Any]]:
        meant = d2l.FIRST_EDITION if name == "first" else {}
        return request.getfixturevalue(name), lambda each: meant.get(each, getattr(d2l, each))

    return pick


def floats(*shape: int, seed: int = 0) -> Any:
    from mxnet import np as mnp

    return mnp.array(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def tokens(*shape: int, seed: int = 0, size: int = V) -> Any:
    from mxnet import np as mnp

    return mnp.array(np.random.default_rng(seed).integers(1, size, shape), dtype="int32")


def values(block: Any) -> dict[str, Any]:
    """By the names that ``save_parameters`` writes."""
    return {name: p.data().asnumpy() for name, p in block._collect_params_with_prefix().items()}


def adopt(ours: Any, theirs: Any) -> None:
    """Gives ours their parameters, which have the same names; both have run once."""
    mine = ours._collect_params_with_prefix()
    assert mine.keys() == values(theirs).keys()
    for name, value in values(theirs).items():
        mine[name].set_data(value)


def parts(lib: Any, module: Any, **options: Any) -> tuple[Any, Any]:
    """An encoder and a decoder with attention, as a chapter writes them on the base classes of `lib`."""
    from mxnet import np as mnp
    from mxnet.gluon import nn, rnn

    class Reader(lib("Encoder")):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(**options)
            self.embedding = nn.Embedding(V, E)
            self.rnn = rnn.GRU(H, 1)

        def forward(self, X: Any, *args: Any) -> Any:
            X = self.embedding(X).swapaxes(0, 1)
            return self.rnn(X, self.rnn.begin_state(batch_size=X.shape[1], ctx=X.ctx))

    class Writer(lib("AttentionDecoder")):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(**options)
            self.attention = lib("AdditiveAttention")(H, 0)
            self.embedding = nn.Embedding(V, E)
            self.rnn = rnn.GRU(H, 1)
            self.dense = nn.Dense(V, flatten=False)

        def init_state(self, enc_outputs: Any, enc_valid_lens: Any) -> Any:
            outputs, state = enc_outputs
            return outputs.swapaxes(0, 1), state, enc_valid_lens

        def forward(self, X: Any, state: Any) -> Any:
            read, hidden, lengths = state
            outputs, self._weights = [], []
            for x in self.embedding(X).swapaxes(0, 1):
                context = self.attention(mnp.expand_dims(hidden[0][-1], 1), read, read, lengths)
                x = mnp.concatenate([context, mnp.expand_dims(x, 1)], -1)
                out, hidden = self.rnn(x.swapaxes(0, 1), hidden)
                outputs.append(out)
                self._weights.append(self.attention.attention_weights)
            outputs = self.dense(mnp.concatenate(outputs, 0))
            return outputs.swapaxes(0, 1), [read, hidden, lengths]

        @property
        def attention_weights(self) -> Any:
            return self._weights

    return Reader(), Writer()


def batch(seed: int = 0, rows: int = 4) -> list[Any]:
    """Sources, targets one step late, lengths of the sources, targets; padding is 0, ``<bos>`` is 1."""
    from mxnet import np as mnp

    source, written = tokens(rows, 7, seed=seed), tokens(rows, 6, seed=seed + 1)
    lengths = mnp.array([3, 7, 5, 4][:rows], dtype="int32")
    written[0, 3:] = 0
    written[:, 0] = 1
    return [source, written[:, :-1], lengths, written[:, 1:]]


def fit(lib: Any, model: Any, batches: list[Any], **options: Any) -> Any:
    class Data(lib.DataModule):  # type: ignore[name-defined, misc]
        def get_dataloader(self, train: bool) -> Any:
            return batches if train else batches[:1]

    model.board.display = False
    trainer = lib.Trainer(**options)
    trainer.fit(model, Data())
    return trainer


def curves(model: Any) -> dict[str, Any]:
    return {name: [(float(p.x), float(p.y)) for p in points] for name, points in model.board.data.items()}


# Regression.


@compares("LinearRegression")
@pytest.mark.parametrize("clip", [0, 0.1])
def test_linear_regressions_agree(d2l: ModuleType, current: Any, clip: float) -> None:
    batches = [[floats(4, 3, seed=n), floats(4, 1, seed=n + 9)] for n in range(3)]
    models = [lib.LinearRegression(lr=0.1) for lib in (d2l, current)]
    for model in models:
        model(batches[0][0])
    adopt(*models)
    X, y = batches[0]
    agree(*(model(X) for model in models))
    agree(*(model.loss(model(X), y) for model in models))
    for lib, model in zip((d2l, current), models, strict=True):
        fit(lib, model, batches, max_epochs=3, gradient_clip_val=clip)
    agree(*(model.get_w_b() for model in models))
    agree(*map(curves, models))
    agree(*(model.hparams for model in models))


@compares("load_array")
@pytest.mark.parametrize("kind", ["arrays", "NumPy's", "lists", "one array"])
def test_batches_of_rows_agree(d2l: ModuleType, book: Any, kind: str) -> None:
    X, y = floats(7, 3), floats(7, 1, seed=1)
    data = {
        "arrays": (X, y), "NumPy's": (X.asnumpy(), y.asnumpy().astype("float64")),
        "lists": (X, list(range(7))), "one array": (X, y[:, 0]),
    }[kind]  # fmt: skip
    ours, theirs = (lib.load_array(data, 3, is_train=False) for lib in (d2l, book))
    assert len(ours) == len(theirs) == 3
    agree(list(ours), list(theirs))
    agree(list(ours), list(theirs))
    ours, theirs = (lib.load_array(data, 3) for lib in (d2l, book))
    seen = [sorted(numbers(row).tolist() for X, _ in rows for row in X) for rows in (ours, theirs)]
    assert seen[0] == seen[1]
    orders = [[numbers(X).tolist() for X, _ in ours] for _ in range(4)]
    assert any(order != orders[0] for order in orders)


def test_rows_that_do_not_belong_together(d2l: ModuleType) -> None:
    with pytest.raises(SpecError, match="the same number of rows, not 7, 6"):
        d2l.load_array((floats(7, 3), floats(6, 1)), 3)
    with pytest.raises(SpecError, match="not none"):
        d2l.load_array((), 3)


@compares("evaluate_loss")
def test_losses_over_data_agree(d2l: ModuleType, book: Any) -> None:
    from mxnet import gluon

    data = [(floats(4, 3), floats(4, 1)), (floats(2, 3, seed=1), floats(2, 1))]
    loss = gluon.loss.L2Loss()
    agree(*(lib.evaluate_loss(lambda X: X[:, :1] * 2, data, loss) for lib in (d2l, book)))


# Encoder, decoder and attention.


@compares("masked_softmax")
@few
@given(size=sizes, seed=seeds, form=st.sampled_from([None, 1, 2]), whole=st.booleans())
def test_masked_softmaxes_agree(
    d2l: ModuleType, book: Any, size: dict[str, int], seed: int, form: int | None, whole: bool
) -> None:
    B, Q, K = size.values()
    lengths = None if form is None else tokens(*(B, Q)[:form], seed=seed, size=K + 1)
    if lengths is not None and not whole:
        lengths = lengths.astype("float32")
    X = floats(B, Q, K, seed=seed)
    agree(*(lib.masked_softmax(X, lengths) for lib in (d2l, book)))
    if lengths is not None:
        agree(*(lib.masked_softmax(X, lengths * 0) for lib in (d2l, book)))


@compares("AdditiveAttention DotProductAttention")
@few
@given(size=sizes, seed=seeds, form=st.sampled_from([None, 1, 2]))
def test_attentions_agree(
    d2l: ModuleType, book: Any, size: dict[str, int], seed: int, form: int | None
) -> None:
    from mxnet import autograd

    B, Q, K = size.values()
    lengths = None if form is None else tokens(*(B, Q)[:form], seed=seed, size=K + 1)
    for name, arguments, width in (("AdditiveAttention", (7, 0.0), 3), ("DotProductAttention", (0.0,), 4)):
        queries, keys = floats(B, Q, width, seed=seed), floats(B, K, 4, seed=seed + 1)
        outcomes, made = [], [getattr(lib, name)(*arguments) for lib in (d2l, book)]
        for attention in made:
            attention.initialize()
            attention(queries, keys, floats(B, K, 2, seed=seed), lengths)
        adopt(*made)
        for attention in made:
            for array in (queries, keys):
                array.attach_grad()
            with autograd.record():
                means = attention(queries, keys, floats(B, K, 2, seed=seed), lengths)
            means.backward()
            outcomes.append((means, attention.attention_weights, queries.grad.copy(), keys.grad.copy()))
        agree(*outcomes)


def test_attention_without_lengths_and_with_dropout(d2l: ModuleType) -> None:
    from mxnet import autograd

    attention = d2l.DotProductAttention(0.5)
    assert attention.attention_weights is None
    queries, keys = floats(2, 3, 4), floats(2, 9, 4, seed=1)
    calm = attention(queries, keys, keys)
    with autograd.record():
        dropped = attention(queries, keys, keys)
    assert not np.allclose(calm.asnumpy(), dropped.asnumpy())
    np.testing.assert_allclose(attention.attention_weights.asnumpy().sum(-1), 1, rtol=1e-5)


@compares("Encoder Decoder AttentionDecoder")
@pytest.mark.parametrize("name", ["current", "first"])
def test_base_classes_agree(edition: Any, name: str) -> None:
    book, ours = edition(name)
    options = {"prefix": "part_"} if name == "first" else {}
    for lib in (ours, lambda each: getattr(book, each)):
        for part, method, arguments in (
            ("Encoder", "forward", (1, 2)), ("Decoder", "forward", (1, 2)), ("Decoder", "init_state", (1, 2)),
            ("AttentionDecoder", "init_state", (1,)),
        ):  # fmt: skip
            made = lib(part)(**options)
            assert not options or made.prefix == "part_"
            with pytest.raises(NotImplementedError):
                getattr(made, method)(*arguments)
        with pytest.raises(NotImplementedError):
            lib("AttentionDecoder")().attention_weights  # noqa: B018
        assert issubclass(lib("AttentionDecoder"), lib("Decoder"))


@compares("EncoderDecoder")
@pytest.mark.parametrize("name", ["current", "first"])
def test_encoders_and_decoders_agree(edition: Any, name: str) -> None:
    book, ours = edition(name)
    nets = []
    for lib in (ours, lambda each: getattr(book, each)):
        nets.append(lib("EncoderDecoder")(*parts(lib, book)))
        nets[-1].initialize()
        nets[-1](*batch()[:-1])
    adopt(*nets)
    results = [net(*batch()[:-1]) for net in nets]
    agree(*results)
    assert isinstance(results[0], tuple) == (name == "first")
    if name == "current":
        mine, theirs = (net.predict_step(batch(), net.encoder.embedding.weight.list_ctx()[0], 5, True)
                        for net in nets)  # fmt: skip
        agree(mine, theirs, exact_types=False)
        assert str(mine[0].dtype) == "int32"
        agree(nets[0].predict_step(batch(), None, 3)[0], mine[0][:, :3])
        assert nets[0].predict_step(batch(), None, 3)[1] == []


@compares("Seq2SeqEncoder")
@pytest.mark.parametrize("name", ["current", "first"])
def test_encoders_agree(edition: Any, name: str) -> None:
    from mxnet import autograd

    book, ours = edition(name)
    encoders = [make(V, E, H, L, 0, **({"prefix": "reader_"} if name == "first" else {}))
                for make in (ours("Seq2SeqEncoder"), book.Seq2SeqEncoder)]  # fmt: skip
    X, gradients = tokens(4, 7), []
    for encoder in encoders:
        if name == "first":
            encoder.initialize()
        encoder(X)
    adopt(*encoders)
    agree(*(encoder(X, tokens(4)) for encoder in encoders))
    for encoder in encoders:
        with autograd.record():
            outputs, state = encoder(X)
            total = (outputs**2).sum() + (state[0] ** 2).sum()
        total.backward()
        found = encoder._collect_params_with_prefix()
        gradients.append({each: p.grad().asnumpy() for each, p in found.items() if "h2h_bias" not in each})
    for each, gradient in gradients[1].items():
        np.testing.assert_allclose(gradients[0][each], gradient, rtol=1e-4, atol=1e-6)


def test_an_initializer_reaches_the_layers_of_the_library(d2l: ModuleType) -> None:
    from mxnet import init

    class Reader(d2l.Encoder):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = d2l.GRU(H, L)
            self.initialize(init.Constant(0.5))

    reader = Reader()
    weights = reader.rnn.rnn.l1_h2h_weight
    assert (weights.data() == 0.5).all()
    reader.initialize(init.Constant(0.25))  # it has its values by now
    assert (weights.data() == 0.5).all()
    reader.rnn(floats(3, 2, E))
    assert (reader.rnn.rnn.l0_i2h_weight.data() == 0.5).all()
    reader.initialize(init.Constant(0.25), force_reinit=True)
    assert (weights.data() == 0.25).all()
    trained = d2l.GRU(H, num_inputs=E)
    trained(floats(3, 2, E))
    before = trained.rnn.l0_h2h_weight.data().copy()
    reader.rnn = trained
    reader.initialize(init.Constant(0.5))
    assert (trained.rnn.l0_h2h_weight.data() == before).all()


def test_the_decoder_takes_over_from_both_encoders(d2l: ModuleType) -> None:
    for encoder in (d2l.Seq2SeqEncoder(V, E, H, L), d2l.FIRST_EDITION["Seq2SeqEncoder"](V, E, H, L)):
        encoder.initialize()
        decoder = d2l.Seq2SeqDecoder(V, E, H, L)
        read = encoder(tokens(4, 7))
        at_once, (_, state) = decoder(tokens(4, 5), decoder.init_state(read))
        assert at_once.shape == (4, 5, V)
        assert state.shape == (L, 4, H)
        stepwise, after = [], decoder.init_state(read)
        for t in range(5):
            logits, after = decoder(tokens(4, 5)[:, t : t + 1], after)
            stepwise.append(logits.asnumpy())
        np.testing.assert_allclose(at_once.asnumpy(), np.concatenate(stepwise, 1), rtol=1e-5, atol=1e-6)


# Training.


def masked(model_of: Any) -> Any:
    """A package's `Seq2Seq` with the loss that its chapter adds, which the package left out."""

    class Masked(model_of):  # type: ignore[misc]
        def loss(self, Y_hat: Any, Y: Any) -> Any:
            losses = super().loss(Y_hat, Y, averaged=False)
            counts = (Y.reshape(-1) != self.tgt_pad).astype("float32")
            return (losses * counts).sum() / counts.sum()

    return Masked


@compares("Seq2Seq EncoderDecoder AttentionDecoder")
def test_trained_models_agree(edition: Any, d2l: ModuleType) -> None:
    book, ours = edition("current")
    batches = [batch(seed) for seed in range(3)]
    models = []
    for lib, package in ((ours, d2l), (lambda each: getattr(book, each), book)):
        of = ours("Seq2Seq") if package is d2l else masked(book.Seq2Seq)
        models.append(of(*parts(lib, book), tgt_pad=0, lr=0.01))
        models[-1].initialize()
        models[-1](*batches[0][:-1])
    adopt(*models)
    Y_hat, Y = models[0](*batches[0][:-1]), batches[0][-1]
    agree(*(model.loss(Y_hat, Y) for model in models))
    for package, model in zip((d2l, book), models, strict=True):
        fit(package, model, batches, max_epochs=3, gradient_clip_val=1)
    mine, theirs = map(values, models)
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, rtol=1e-4, atol=1e-5)
    agree(*map(curves, models))
    assert models[0].hparams.keys() == models[1].hparams.keys()


def test_padding_is_not_learned(d2l: ModuleType) -> None:
    model = d2l.Seq2Seq(d2l.Seq2SeqEncoder(V, E, H, L), d2l.Seq2SeqDecoder(V, E, H, L), tgt_pad=0, lr=0.01)
    Y, Y_hat = batch()[-1], floats(4, 5, V)
    losses = model.loss(Y_hat, Y, averaged=False).asnumpy().reshape(4, 5)
    assert (losses[Y.asnumpy() == 0] == 0).all()
    assert (losses[Y.asnumpy() != 0] > 0).all()
    mean = losses.sum() / (Y.asnumpy() != 0).sum()
    assert math.isclose(float(model.loss(Y_hat, Y)), mean, rel_tol=1e-5)


def test_a_sequence_is_learned(d2l: ModuleType) -> None:
    encoder, decoder = d2l.Seq2SeqEncoder(V, 16, 32, L), d2l.Seq2SeqDecoder(V, 16, 32, L)
    model = d2l.Seq2Seq(encoder, decoder, tgt_pad=0, lr=0.02)
    source, begun, lengths, target = batch()
    fit(d2l, model, [[source, begun, lengths, target]] * 4, max_epochs=20, gradient_clip_val=1)
    told, _ = model.predict_step([source, begun, lengths, target], d2l.cpu(), 5)
    right = (told == target).asnumpy() | (target == 0).asnumpy()
    assert right.all()


def test_a_block_that_keeps_its_results_can_diverge(d2l: ModuleType, current: Any) -> None:
    # Its attention keeps the weights as a public attribute.
    names = {"AdditiveAttention": current.AdditiveAttention}
    encoder, decoder = parts(lambda each: names.get(each, getattr(d2l, each)), d2l)
    model = d2l.Seq2Seq(encoder, decoder, tgt_pad=0, lr=0.01)
    model.initialize()
    model(*batch()[:-1])
    model.decoder.attention.attention_weights = None
    before = values(model)
    model.loss = lambda Y_hat, Y: Y_hat.sum() * math.nan
    with pytest.raises(DivergedError):
        fit(d2l, model, [batch()], max_epochs=1)
    after = values(model)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


@compares("MaskedSoftmaxCELoss")
def test_masked_losses_agree(d2l: ModuleType, book: Any) -> None:
    pred, label, lengths = floats(3, 4, V), tokens(3, 4), tokens(3, size=4)
    agree(*(lib.MaskedSoftmaxCELoss()(pred, label.astype("float32"), lengths) for lib in (d2l, book)))
    agree(d2l.MaskedSoftmaxCELoss()(pred, label, lengths * 0), pred[:, 0, 0] * 0)
    agree(d2l.MaskedSoftmaxCELoss()(pred, label, lengths),
          d2l.MaskedSoftmaxCELoss()(pred, label.astype("float32"), lengths))  # fmt: skip


class Fixed:
    """An initializer in place of Xavier's that gives an array values by its shape alone."""

    def __new__(cls) -> Any:
        import mxnet as mx

        class Made(mx.init.Initializer):  # type: ignore[misc]
            def _init_weight(self, name: str, array: Any) -> None:
                array[:] = floats(*array.shape, seed=sum(array.shape)) * 0.2

        return Made()


@compares("train_seq2seq predict_seq2seq EncoderDecoder Seq2SeqEncoder")
@pytest.mark.parametrize("name", ["current", "first"])
def test_the_first_editions_training_agrees(
    edition: Any, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mxnet

    book, _ = edition(name)
    _, ours = edition("first")
    theirs = edition("first")[0]
    monkeypatch.setattr(mxnet.init, "Xavier", Fixed)
    words = [f"w{n}" for n in range(V - 4)]
    vocab = theirs.Vocab(words, reserved_tokens=["<pad>", "<bos>", "<eos>"])
    batches = [[X, lengths, Y.astype("float32"), (Y != 0).sum(axis=1).astype("int32")]
               for X, _, lengths, Y in map(batch, range(3))]  # fmt: skip
    nets, said, told = [], [], []
    for lib, package in (
        (ours, ours),
        (lambda each: getattr(theirs, each), lambda each: getattr(book, each)),
    ):
        _, decoder = parts(lib, book)
        net = lib("EncoderDecoder")(lib("Seq2SeqEncoder")(V, E, H, 1), decoder)
        package("train_seq2seq")(net, batches, 0.01, 11, vocab, mxnet.cpu())
        nets.append(net)
        said.append(capsys.readouterr().out)
        predict = package("predict_seq2seq")
        asked = ("w1 W2", 4, True), ("w3 unheard", 6, False), ("w1 w2 w3", 2, True)
        told.append([predict(net, text, vocab, vocab, T, mxnet.cpu(), keep) for text, T, keep in asked])
    mine, theirs_ = map(values, nets)
    for each, value in theirs_.items():
        np.testing.assert_allclose(mine[each], value, rtol=1e-3, atol=2e-5)
    agree(*told)
    assert said[0].split(",")[0] == said[1].split(",")[0]
    assert said[0].endswith("tokens/sec on cpu(0)\n")


def test_a_first_editions_training_that_diverges(d2l: ModuleType) -> None:
    _, decoder = parts(lambda each: getattr(d2l, each), d2l)
    net = d2l.FIRST_EDITION["EncoderDecoder"](d2l.FIRST_EDITION["Seq2SeqEncoder"](V, E, H, 1), decoder)
    vocab = d2l.FrequencyVocab(["w"], reserved_tokens=["<pad>", "<bos>", "<eos>"])
    source, _, lengths, target = batch()
    with pytest.raises(DivergedError):
        d2l.train_seq2seq(net, [[source, lengths, target, lengths]] * 3, math.nan, 2, vocab, d2l.cpu())
    assert all(np.isfinite(value).all() for value in values(net).values())
    for epochs, batches in ((0, [batch()]), (1, [])):
        with pytest.raises(SpecError):
            d2l.train_seq2seq(net, batches, 0.1, epochs, vocab, d2l.cpu())


# Pairs of sentences.


def rows_of(batches: Any) -> list[list[float]]:
    """All rows of all batches, in an order that does not come from shuffling."""
    joined = [np.concatenate([numbers(part).reshape(len(part), -1) for part in each], 1) for each in batches]
    return sorted(np.concatenate(joined).tolist())


@compares("MTFraEng")
def test_data_of_pairs_agree(d2l: ModuleType, current: Any, small_data: Path) -> None:
    class Theirs(current.MTFraEng):  # type: ignore[name-defined, misc]
        def _download(self) -> str:
            return pairs()

    ours, theirs = (make(batch_size=50, num_steps=6, num_train=400, num_val=100)
                    for make in (d2l.MTFraEng, Theirs))  # fmt: skip
    agree(ours.arrays, theirs.arrays, exact_types=False)
    for side in ("src_vocab", "tgt_vocab"):
        assert getattr(ours, side).idx_to_token == getattr(theirs, side).idx_to_token
    assert ours.num_steps == 6
    agree(list(ours.val_dataloader()), list(theirs.val_dataloader()), exact_types=False)
    assert len(ours.train_dataloader()) == len(theirs.train_dataloader()) == 8
    sentences = ["i run .", "they sleep again !"], ["je court .", "ils dort encore !"]
    agree(ours.build(*sentences), theirs.build(*sentences), exact_types=False)
    assert {str(array.dtype) for array in ours.arrays} == {"int32"}
    assert d2l.MTFraEng(16).num_steps == 9


@compares("build_array_nmt load_data_nmt")
def test_arrays_of_pairs_agree(
    d2l: ModuleType, book: Any, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "read_data_nmt", pairs)
    lines = [["i", "run", "."], ["they"], ["birds", "sleep", "now", ".", "again"]]
    vocabs = [lib.Vocab(lines, reserved_tokens=["<pad>", "<bos>", "<eos>"]) for lib in (d2l, book)]
    ours, theirs = (lib.build_array_nmt(lines, vocabs[1], 4) for lib in (d2l, book))
    agree(ours, theirs)
    if book.__name__ == "book_current_mxnet":  # its vocabulary has the other edition's order
        monkeypatch.setattr(book, "Vocab", d2l.FrequencyVocab)
    loaded = [lib.load_data_nmt(64, 8, num_examples=200) for lib in (d2l, book)]
    assert [vocab.idx_to_token for vocab in loaded[0][1:]] == [vocab.idx_to_token for vocab in loaded[1][1:]]
    rows = []
    for batches, _, _ in loaded:
        assert len(batches) == 4
        rows.append(rows_of(batches))
    assert rows[0] == rows[1]


# Reviews.


@compares("load_data_imdb read_imdb")
def test_reviews_agree(d2l: ModuleType, book: Any, small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "download_extract", d2l.download_extract)
    monkeypatch.setattr(book, "Vocab", d2l.FrequencyVocab)
    loaded = [lib.load_data_imdb(64, 20) for lib in (d2l, book)]
    assert loaded[0][2].idx_to_token == loaded[1][2].idx_to_token
    for part in (0, 1):
        assert rows_of(loaded[0][part]) == rows_of(loaded[1][part])


@compares("TokenEmbedding")
def test_vectors_of_words_agree(
    d2l: ModuleType, book: Any, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "download_extract", d2l.download_extract)
    ours, theirs = (lib.TokenEmbedding("glove.6b.50d") for lib in (d2l, book))
    assert ours.idx_to_token == theirs.idx_to_token
    assert ours.token_to_idx == theirs.token_to_idx
    assert len(ours) == len(theirs) == 16
    agree(ours.idx_to_vec, theirs.idx_to_vec)
    agree(ours[["film", "unheard", "great"]], theirs[["film", "unheard", "great"]])


def classifier(weights: Any, rate: float = 0.1) -> tuple[Any, Any]:
    """A network from tokens to the scores of two classes, with its optimiser."""
    from mxnet import gluon
    from mxnet.gluon import nn

    net = nn.Sequential()
    net.add(nn.Embedding(V, 3), nn.Dense(2))
    net.initialize()
    net(tokens(2, 5))
    for parameter in net.collect_params().values():
        parameter.set_data(floats(*parameter.shape, seed=weights))
    return net, gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": rate})


@compares("accuracy split_batch evaluate_accuracy_gpus train_batch_ch13 train_ch13")
@pytest.mark.parametrize("kind", ["int32", "int64", "float32"])
def test_classifiers_agree(
    d2l: ModuleType, book: Any, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mxnet import gluon, np as mnp  # noqa: I001

    data = [(tokens(6, 5, seed=n), mnp.array([0, 1, 1, 0, 1, n % 2], dtype=kind)) for n in range(7)]
    scores, loss = floats(6, 2), gluon.loss.SoftmaxCrossEntropyLoss()
    agree(*(lib.accuracy(scores, data[0][1]) for lib in (d2l, book)))
    agree(*(lib.accuracy(data[1][1], data[0][1]) for lib in (d2l, book)))
    agree(*(lib.split_batch(*data[0], [d2l.cpu()]) for lib in (d2l, book)))
    outcomes = []
    for lib in (d2l, book):
        net, trainer = classifier(0)
        sums = lib.train_batch_ch13(net, *data[0], loss, trainer, [d2l.cpu()])
        lib.train_ch13(net, data, data[:2], loss, trainer, 2, [d2l.cpu()])
        said = capsys.readouterr().out.split("\n")
        points = [line.get_xydata().tolist() for line in d2l.plt.gcf().axes[0].lines]
        outcomes.append((sums, lib.evaluate_accuracy_gpus(net, data), points, said[0], values(net)))
        assert said[1].endswith("examples/sec on [cpu(0)]")
        d2l.plt.close("all")
    for ours, theirs in zip(*outcomes, strict=True):
        agree(ours, theirs, exact_types=False)


def test_classifiers_of_few_batches_and_of_none(d2l: ModuleType) -> None:
    from mxnet import gluon

    net, trainer = classifier(0)
    data, loss = [(tokens(4, 5), tokens(4, size=2))] * 2, gluon.loss.SoftmaxCrossEntropyLoss()
    d2l.train_ch13(net, data, data, loss, trainer, 1, d2l.try_all_gpus())
    for batches, epochs in ((data, 0), ([], 1)):
        with pytest.raises(SpecError, match="at least one of each"):
            d2l.train_ch13(net, batches, data, loss, trainer, epochs)
    with pytest.raises(SpecError, match="a batch of 4 inputs has 3 labels"):
        d2l.split_batch(tokens(4, 5), tokens(3), d2l.try_all_gpus())


def test_a_part_that_takes_no_part_in_a_step(d2l: ModuleType) -> None:
    from mxnet import gluon
    from mxnet.gluon import nn

    net, _ = classifier(0)
    idle = nn.Dense(1, in_units=1)
    idle.initialize()
    parameters = net.collect_params()
    parameters.update(idle.collect_params())
    trainer, loss = gluon.Trainer(parameters, "sgd"), gluon.loss.SoftmaxCrossEntropyLoss()
    for _ in range(2):
        d2l.train_batch_ch13(net, tokens(4, 5), tokens(4, size=2), loss, trainer, [d2l.cpu()])


@compares("predict_sentiment")
def test_judgements_agree(d2l: ModuleType, book: Any) -> None:
    vocab = d2l.FrequencyVocab(["a", "lovely", "awful", "film"])
    judged = set()
    for seed in range(6):
        net, _ = classifier(seed)
        net(tokens(1, 5))
        said = [lib.predict_sentiment(net, vocab, "a film so awful lovely") for lib in (d2l, book)]
        assert said[0] == said[1]
        judged.add(said[0])
    assert judged == {"positive", "negative"}
    with pytest.raises(SpecError, match="no word"):
        d2l.predict_sentiment(net, vocab, "  ")
