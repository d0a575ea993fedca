"""The names of the chapters on sequences and translation on TensorFlow, beside those of the book."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from agreement import agree, compares, few, numbers
from hypothesis import given
from hypothesis import strategies as st
from small_data import pairs

keras = pytest.importorskip("keras", reason="this environment has no Keras")
tf = pytest.importorskip("tensorflow", reason="this environment has no TensorFlow")

from d2lrnn.errors import DivergedError, SpecError  # noqa: E402
from d2lrnn.registry import BackendEntry  # noqa: E402

pytestmark = [
    # Keras about layers that make their weights without a `build`, as the book's do.
    pytest.mark.filterwarnings("ignore:Layer .* looks like it has unbuilt state"),
    pytest.mark.filterwarnings("ignore:`build.*` was called on layer"),
    pytest.mark.filterwarnings("ignore:::book_(current|first)_.*"),
]

#: The number of words of each language; the first two of them are in no sentence here.
V = 9
PAD = 1

seeds = st.integers(0, 999)


@pytest.fixture(autouse=True)
def _only_tensorflow(entry: BackendEntry, d2l: ModuleType) -> None:
    if entry.name != "tensorflow":
        pytest.skip("these tests are written in TensorFlow")
    d2l.seed_everything(0)


def array(shape: tuple[int, ...], seed: int) -> Any:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def sentences(rows: int, steps: int, seed: int) -> Any:
    """Tokens without padding."""
    return tf.constant(np.random.default_rng(seed).integers(2, V, (rows, steps)).astype("int32"))


def lengths(rows: int, longest: int, seed: int) -> Any:
    return tf.constant(np.random.default_rng(seed).integers(2, longest + 1, rows).astype("int32"))


def layers_of(lib: Any) -> Any:
    """The layers of the Keras that the library is on."""
    return getattr(lib, "tf", tf).keras.layers


def adopt(ours: Any, theirs: Any) -> None:
    """Gives ours their weights; both have run once."""
    for part in ("encoder", "decoder") if hasattr(theirs, "encoder") else ():
        adopt(getattr(ours, part), getattr(theirs, part))
    if not hasattr(theirs, "encoder"):
        ours.set_weights(theirs.get_weights())


def close(ours: Any, theirs: Any) -> None:
    """After some steps of training."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(numbers(one), numbers(other), rtol=1e-4, atol=1e-5)


def parameters_of(thing: Any) -> list[str]:
    function = thing.__init__ if isinstance(thing, type) else thing
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind not in variable]


NAMES = """
    LinearRegression load_array evaluate_loss Encoder Decoder Seq2SeqEncoder Seq2Seq MTFraEng
    AdditiveAttention DotProductAttention AttentionDecoder masked_softmax sequence_mask
    MaskedSoftmaxCELoss train_seq2seq predict_seq2seq build_array_nmt load_data_nmt EncoderDecoder
    EncoderDecoder.predict_step LinearRegression.loss LinearRegression.get_w_b MTFraEng.build
    MTFraEng.get_dataloader Seq2Seq.validation_step AdditiveAttention.call DotProductAttention.call
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_the_books(d2l: ModuleType, current: Any, book: Any, name: str) -> None:
    whole, *parts = name.split(".")
    ours = getattr(d2l, whole) if book is current else d2l.FIRST_EDITION.get(whole, getattr(d2l, whole))
    theirs = getattr(book, whole, None)
    for part in parts:
        theirs, ours = getattr(theirs, part, None), getattr(ours, part, None)
    if theirs is not None:
        names = parameters_of(theirs)
        assert parameters_of(ours)[: len(names)] == names
        assert inspect.getdoc(ours) or not ours.__module__.startswith("d2lrnn")


# Regression.


def trained(lib: Any, model: Any, batches: list[Any], **options: Any) -> Any:
    class Data(lib.DataModule):  # type: ignore[name-defined, misc]
        def get_dataloader(self, train: bool) -> Any:
            return batches if train else batches[:1]

    model.board.display = False
    trainer = lib.Trainer(**options)
    trainer.fit(model, Data())
    return trainer


@compares("LinearRegression")
@pytest.mark.parametrize("lr", [0.1, 1])
def test_linear_regression_agrees(d2l: ModuleType, current: Any, lr: float) -> None:
    batches = [(array((4, 3), n), array((4, 1), n + 9)) for n in range(3)]
    ours, theirs = (lib.LinearRegression(lr) for lib in (d2l, current))
    with pytest.raises(SpecError, match="call it with a batch"):
        ours.get_w_b()
    for model in (ours, theirs):
        model(batches[0][0])
    spread = np.std([numbers(d2l.LinearRegression(lr).net(array((1, 400), 0)) / 20) for _ in range(30)])
    assert 0.005 < spread < 0.02
    adopt(ours, theirs)
    y_hat = ours(batches[0][0])
    agree(y_hat, theirs(batches[0][0]))
    agree(*(model.loss(y_hat, batches[0][1]) for model in (ours, theirs)))
    for lib, model in ((d2l, ours), (current, theirs)):
        trained(lib, model, batches, max_epochs=3)
    agree(ours.get_w_b(), theirs.get_w_b())
    assert ours.hparams == theirs.hparams == {"lr": lr}
    assert list(ours.board.data) == list(theirs.board.data) == ["train_loss", "val_loss"]


@compares("load_array evaluate_loss")
@few
@given(rows=st.integers(1, 7), batch_size=st.integers(1, 4), seed=seeds, mean=st.booleans())
def test_batches_and_their_losses_agree(
    d2l: ModuleType, book: Any, rows: int, batch_size: int, seed: int, mean: bool
) -> None:
    X, y = array((rows, 3), seed), array((rows, 1), seed + 1)

    def loss(y_hat: Any, y: Any) -> Any:
        losses = (y_hat - y) ** 2
        return tf.reduce_mean(losses) if mean else losses

    found, means = [], []
    for lib in (d2l, book):
        in_order = lib.load_array((X, y), batch_size, is_train=False)
        assert isinstance(in_order, tf.data.Dataset)
        shuffled = lib.load_array((X, y), batch_size)
        found.append((in_order.element_spec, list(in_order), len(shuffled)))
        batches = list(shuffled)
        for column, whole in enumerate((X, y)):
            met = np.concatenate([numbers(batch[column]) for batch in batches])
            np.testing.assert_array_equal(np.sort(met, axis=0), np.sort(numbers(whole), axis=0))
        means.append(lib.evaluate_loss(lambda X: 2 * X[:, :1], in_order, loss))
    agree(found[0][1:], found[1][1:])
    assert found[0][0] == found[1][0]
    agree(*means)


def test_every_epoch_has_an_order_of_its_own(d2l: ModuleType) -> None:
    loader = d2l.load_array((tf.range(2000),), 100)
    first, second = (np.concatenate([rows.numpy() for (rows,) in loader]) for _ in range(2))
    assert not np.array_equal(first, second)
    assert first[:100].max() > 1200  # a buffer of fewer rows would leave the last ones to the end
    assert not list(d2l.load_array((tf.range(0),), 100))


# The pairs.


def sorted_rows(batches: Any) -> list[list[int]]:
    rows = [np.concatenate([numbers(a).reshape(len(a), -1) for a in batch], axis=1) for batch in batches]
    return sorted(np.concatenate(rows).tolist())


@compares("MTFraEng")
def test_the_data_set_of_pairs_agrees(
    d2l: ModuleType, current: Any, small_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current.MTFraEng, "_download", lambda self: pairs())
    ours, theirs = (
        lib.MTFraEng(batch_size=3, num_steps=5, num_train=20, num_val=7) for lib in (d2l, current)
    )
    agree(ours.arrays, theirs.arrays)
    for vocab in ("src_vocab", "tgt_vocab"):
        assert getattr(ours, vocab).idx_to_token == getattr(theirs, vocab).idx_to_token
    agree(*(list(data.val_dataloader()) for data in (ours, theirs)))
    agree(*(data.build(["I go.", "who?"], ["je va .", "qui ?"]) for data in (ours, theirs)))
    found = [sorted_rows(data.train_dataloader()) for data in (ours, ours, theirs)]
    assert found[0] == found[1] == found[2]
    epochs = [np.concatenate([numbers(batch[0]) for batch in ours.train_dataloader()]) for _ in range(2)]
    assert not np.array_equal(*epochs)
    assert ours.hparams == theirs.hparams
    assert (len(d2l.MTFraEng(64).train_dataloader()), d2l.MTFraEng(64).num_steps) == (8, 9)


@compares("build_array_nmt load_data_nmt")
def test_the_first_editions_pairs_agree(
    d2l: ModuleType, book: Any, first: Any, small_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "read_data_nmt", pairs)
    _, *vocabs = d2l.load_data_nmt(4, 6, num_examples=50)
    lines = [["i", "go", "."], ["who", "?"], ["cats", "sleep", "here", ",", "too", "."]]
    agree(*(lib.build_array_nmt(lines, vocabs[0], 5) for lib in (d2l, book)))
    ours, theirs = (lib.load_data_nmt(4, 6, num_examples=50) for lib in (d2l, book))
    assert ours[0].element_spec == theirs[0].element_spec
    assert len(ours[0]) == len(theirs[0])
    if book is first:  # the other edition's vocabulary has another order
        assert [vocab.idx_to_token for vocab in ours[1:]] == [vocab.idx_to_token for vocab in theirs[1:]]
        assert sorted_rows(ours[0]) == sorted_rows(theirs[0])
    assert sum(len(batch[0]) for batch in d2l.load_data_nmt(64, 10)[0]) == 601


# Masks and attention.


@compares("sequence_mask")
@few
@given(
    rows=st.integers(1, 3),
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple),
    value=st.sampled_from([0, -1, -1e6]),
    seed=seeds,
)
def test_sequences_are_masked_alike(
    d2l: ModuleType, book: Any, rows: int, shape: tuple[int, ...], value: float, seed: int
) -> None:
    if not hasattr(book, "sequence_mask"):
        return
    valid = tf.constant(np.random.default_rng(seed).integers(0, 4, rows).astype("int32"))
    X = array((rows, *shape), seed)
    agree(*(lib.sequence_mask(X, valid, value=value) for lib in (d2l, book)))
    agree(*(lib.sequence_mask(X, valid) for lib in (d2l, book)))
    agree(
        numbers(d2l.sequence_mask(X.numpy(), valid.numpy(), value)),
        numbers(d2l.sequence_mask(X, valid, value)),
    )


@compares("masked_softmax")
@few
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
    form=st.sampled_from([None, "rows", "queries"]),
    seed=seeds,
)
def test_masked_softmaxes_agree(
    d2l: ModuleType, book: Any, sizes: tuple[int, int, int], form: str | None, seed: int
) -> None:
    B, Q, K = sizes
    X, generator = array(sizes, seed), np.random.default_rng(seed)
    shape = {None: None, "rows": (B,), "queries": (B, Q)}[form]
    valid = None if shape is None else tf.constant(generator.integers(0, K + 1, shape).astype("int32"))
    agree(*(lib.masked_softmax(X, valid) for lib in (d2l, book)))


@compares("MaskedSoftmaxCELoss")
@few
@given(rows=st.integers(1, 3), steps=st.integers(1, 4), seed=seeds)
def test_masked_losses_agree(d2l: ModuleType, book: Any, rows: int, steps: int, seed: int) -> None:
    label, pred = sentences(rows, steps, seed), array((rows, steps, V), seed)
    valid = tf.constant(np.random.default_rng(seed).integers(0, steps + 1, rows).astype("int32"))
    agree(*(lib.MaskedSoftmaxCELoss(valid)(label, pred) for lib in (d2l, book)))


@compares("DotProductAttention AdditiveAttention")
@few
@given(kind=st.sampled_from(["dot", "additive"]), form=st.sampled_from([None, "rows", "queries"]), seed=seeds)
def test_attentions_agree(d2l: ModuleType, book: Any, kind: str, form: str | None, seed: int) -> None:
    B, Q, K, key_size = 2, 3, 4, 5
    query_size = key_size if kind == "dot" else 6
    inputs = array((B, Q, query_size), seed), array((B, K, key_size), seed + 1), array((B, K, 2), seed + 2)
    valid = {"rows": tf.constant([1, 3]), "queries": tf.constant([[1, 2, 4], [3, 4, 1]])}.get(form)
    ours, theirs = (
        lib.DotProductAttention(dropout=0.5)
        if kind == "dot"
        else lib.AdditiveAttention(key_size=key_size, query_size=query_size, num_hiddens=8, dropout=0.5)
        for lib in (d2l, book)
    )
    for attention in (ours, theirs):
        attention(*inputs, valid, training=False)
    adopt(ours, theirs)
    agree(*(attention(*inputs, valid, training=False) for attention in (ours, theirs)))
    agree(ours.attention_weights, theirs.attention_weights)
    dropped = ours(*inputs, valid, training=True)
    agree(ours.attention_weights, theirs.attention_weights)
    assert not np.allclose(dropped, ours(*inputs, valid))
    outputs = ours(*inputs)
    agree(outputs, ours(*inputs, None))


# Encoder and decoder.


@compares("Encoder Decoder AttentionDecoder")
def test_an_interface_does_nothing_itself(d2l: ModuleType, book: Any) -> None:
    for lib in (d2l, book):
        layer = layers_of(lib).Layer
        assert issubclass(lib.AttentionDecoder, lib.Decoder)
        assert issubclass(lib.Decoder, layer)
        assert issubclass(lib.Encoder, layer)
        calls = [
            lambda lib=lib: lib.Encoder().call(tf.zeros((1, 1))),
            lambda lib=lib: lib.Decoder().init_state(tf.zeros((1, 1)), None),
            lambda lib=lib: lib.Decoder().call(tf.zeros((1, 1)), None),
            lambda lib=lib: lib.AttentionDecoder().attention_weights,
        ]
        for call in calls:
            with pytest.raises(NotImplementedError):
                call()
    with pytest.raises(NotImplementedError, match="Own needs a method call"):
        type("Own", (d2l.Encoder,), {})()(tf.zeros((1, 1)))
    assert d2l.AttentionDecoder(name="writer").name == "writer"


@compares("Seq2SeqEncoder")
@pytest.mark.parametrize("num_layers", [1, 2])
def test_encoders_agree(d2l: ModuleType, current: Any, first: Any, num_layers: int) -> None:
    X = sentences(3, 4, 0)
    for ours, theirs in (
        (d2l.Seq2SeqEncoder, current.Seq2SeqEncoder),
        (d2l.FIRST_EDITION["Seq2SeqEncoder"], first.Seq2SeqEncoder),
    ):
        pair = [encoder(V, 5, 6, num_layers, dropout=0.3) for encoder in (ours, theirs)]
        for encoder in pair:
            encoder(X)
        adopt(*pair)
        agree(*(encoder(X, lengths(3, 4, 0), training=False) for encoder in pair))
        assert not np.allclose(pair[0](X)[0], pair[0](X, training=True)[0]) or num_layers == 1


def test_the_decoder_goes_on_where_it_was(d2l: ModuleType) -> None:
    encoder, decoder = d2l.Seq2SeqEncoder(V, 5, 6, 2), d2l.Seq2SeqDecoder(V, 5, 6, 2)
    X, Y = sentences(3, 4, 0), sentences(3, 5, 1)
    whole, (_, final) = decoder(Y, decoder.init_state(encoder(X)))
    state, parts = decoder.init_state(encoder(X), lengths(3, 4, 0)), []
    for t in range(5):
        logits, state = decoder(Y[:, t : t + 1], state)
        parts.append(logits)
    np.testing.assert_allclose(tf.concat(parts, axis=1), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tf.stack(state[1]), tf.stack(final), rtol=1e-5, atol=1e-6)


def decoder_on(lib: Any, num_layers: int) -> Any:
    """A decoder of an embedding, a GRU and a dense layer on the book's package, which has none."""
    layers = layers_of(lib)

    class Writer(lib.Decoder):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = layers.Embedding(V, 5)
            self.rnn = lib.GRU(6, num_layers)
            self.dense = layers.Dense(V)

        def call(self, X: Any, state: Any) -> Any:
            read, hidden = state
            vectors = tf.unstack(self.embedding(X), axis=1)
            inputs = tf.stack([tf.concat([vector, read[-1]], -1) for vector in vectors])
            outputs, hidden = self.rnn(inputs, hidden)
            return tf.transpose(self.dense(outputs), (1, 0, 2)), [read, list(hidden)]

    return Writer()


@pytest.mark.parametrize("num_layers", [1, 2])
def test_decoders_agree(d2l: ModuleType, current: Any, num_layers: int) -> None:
    ours, theirs = d2l.Seq2SeqDecoder(V, 5, 6, num_layers), decoder_on(current, num_layers)
    state = [array((4, 3, 6), 0), [array((3, 6), n) for n in range(num_layers)]]
    Y = sentences(3, 5, 1)
    for decoder in (ours, theirs):
        decoder(Y, state)
    adopt(ours, theirs)
    agree(*(decoder(Y, state) for decoder in (ours, theirs)))
    assert ours.init_state(state, None) is state


def parts_of(lib: Any, h: int = 6, dropout: float = 0) -> tuple[Any, Any]:
    """A chapter's own encoder and decoder with attention, the same code on either library."""
    layers = layers_of(lib)

    class Reader(lib.Encoder):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = layers.Embedding(V, 5)
            self.rnn = layers.SimpleRNN(h, return_sequences=True, return_state=True)

        def call(self, X: Any, *args: Any, **kwargs: Any) -> Any:
            outputs, state = self.rnn(self.embedding(X))
            return outputs, state

    class Writer(lib.AttentionDecoder):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = layers.Embedding(V, 5)
            self.attention = lib.AdditiveAttention(h, h, h, dropout)
            self.rnn = layers.SimpleRNN(h, return_sequences=True, return_state=True)
            self.dense = layers.Dense(V)

        def init_state(self, enc_outputs: Any, valid_lens: Any, *args: Any) -> Any:
            return (*enc_outputs, valid_lens)

        def call(self, X: Any, state: Any, **kwargs: Any) -> Any:
            memory, hidden, valid_lens = state
            written, self._kept = [], []
            for x in tf.unstack(self.embedding(X), axis=1):
                context = self.attention(hidden[:, None], memory, memory, valid_lens, **kwargs)
                output, hidden = self.rnn(tf.concat([context, x[:, None]], -1), hidden)
                written.append(output)
                self._kept.append(self.attention.attention_weights)
            return self.dense(tf.concat(written, axis=1)), [memory, hidden, valid_lens]

        @property
        def attention_weights(self) -> Any:
            return list(self._kept)  # Keras has its own kinds of lists

    return Reader(), Writer()


def batch(seed: int, rows: int = 3) -> tuple[Any, ...]:
    """A batch of the current edition, without padding."""
    written = sentences(rows, 5, seed + 1)
    return sentences(rows, 4, seed), written[:, :-1], lengths(rows, 4, seed), written[:, 1:]


def translators(d2l: ModuleType, current: Any) -> list[Any]:
    models = [lib.Seq2Seq(*parts_of(lib), tgt_pad=PAD, lr=0.01) for lib in (d2l, current)]
    for model in models:
        model(*batch(0)[:-1])
    adopt(*models)
    return models


@compares("EncoderDecoder Seq2Seq")
def test_translators_agree(d2l: ModuleType, current: Any) -> None:
    ours, theirs = translators(d2l, current)
    *inputs, label = batch(3)
    logits = ours(*inputs)
    agree(logits, theirs(*inputs))
    agree(*(model.loss(logits, label) for model in (ours, theirs)))
    agree(*(model.predict_step(batch(3), d2l.cpu(), 5) for model in (ours, theirs)))
    agree(*(model.predict_step(batch(3), d2l.cpu(), 5, True) for model in (ours, theirs)))
    for device in (None, "/CPU:0"):
        agree(ours.predict_step(batch(3), device, 5), theirs.predict_step(batch(3), device, 5))
    for lib, model in ((d2l, ours), (current, theirs)):
        assert isinstance(model, lib.EncoderDecoder)
        assert isinstance(lib.EncoderDecoder(model.encoder, model.decoder), lib.Classifier)
        plain = lib.EncoderDecoder(model.encoder, model.decoder)
        agree(plain(*inputs), logits)
        agree(plain.predict_step(batch(3), None, 2)[0], ours.predict_step(batch(3), None, 2)[0])
        assert {name: model.hparams[name] for name in ("tgt_pad", "lr")} == {"tgt_pad": PAD, "lr": 0.01}


@compares("Seq2Seq")
@pytest.mark.parametrize("clip", [0, 0.5])
def test_trainings_of_translators_agree(d2l: ModuleType, current: Any, clip: float) -> None:
    models = translators(d2l, current)
    before = models[0].get_weights()
    for lib, model in zip((d2l, current), models, strict=True):
        trainer = trained(lib, model, [batch(n) for n in range(3)], max_epochs=2, gradient_clip_val=clip)
        assert float(trainer.optim.learning_rate) == pytest.approx(0.01)
        assert "Adam" in type(trainer.optim).__name__
    close(*(model.get_weights() for model in models))
    for old, new in zip(before, models[0].get_weights(), strict=True):
        assert (old != new).any()
    curves = [
        {label: [(float(p.x), float(p.y)) for p in points] for label, points in model.board.data.items()}
        for model in models
    ]
    assert list(curves[0]) == list(curves[1]) == ["train_loss", "val_loss"]
    for label, points in curves[0].items():
        np.testing.assert_allclose(points, curves[1][label], rtol=1e-4)


def test_padding_counts_nothing(d2l: ModuleType) -> None:
    model = d2l.Seq2Seq(*parts_of(d2l), tgt_pad=PAD, lr=1)
    logits, label = array((2, 3, V), 0), tf.constant([[4, 5, PAD], [6, PAD, PAD]])
    each = numbers(d2l.Classifier().loss(logits, label, averaged=False)).reshape(2, 3)
    wanted = (each[0, 0] + each[0, 1] + each[1, 0]) / 3
    assert float(model.loss(logits, label)) == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(
        model.loss(logits, label, averaged=False), [each[0, 0], each[0, 1], 0, each[1, 0], 0, 0], rtol=1e-6
    )
    assert float(model.configure_optimizers().learning_rate) == 1.0


def test_dropout_is_for_training_alone(d2l: ModuleType) -> None:
    encoder, decoder = (part(V, 5, 32, 2, dropout=0.8) for part in (d2l.Seq2SeqEncoder, d2l.Seq2SeqDecoder))
    model = d2l.Seq2Seq(encoder, decoder, PAD, lr=0.01)
    trainer = trained(d2l, model, [batch(0)], max_epochs=1)
    assert trainer._differentiate.is_graph
    trainer.optim.learning_rate = 0.0
    assert float(trainer.evaluate(batch(0))) == float(trainer.evaluate(batch(0)))
    assert len({float(trainer.update(batch(0))) for _ in range(3)}) == 3
    model.training = True
    tokens = [numbers(model.predict_step(batch(0), None, 6)[0]).tolist() for _ in range(3)]
    assert tokens[0] == tokens[1] == tokens[2]


def test_a_translator_learns(d2l: ModuleType, small_data: Any) -> None:
    data = d2l.MTFraEng(batch_size=64)
    encoder = d2l.Seq2SeqEncoder(len(data.src_vocab), 16, 32, 1)
    decoder = d2l.Seq2SeqDecoder(len(data.tgt_vocab), 16, 32, 1)
    model = d2l.Seq2Seq(encoder, decoder, data.tgt_vocab["<pad>"], lr=0.02)
    model.board.display = False
    trainer = d2l.Trainer(max_epochs=12, gradient_clip_val=1)
    trainer.fit(model, data)
    losses = [point.y for point in model.board.data["val_loss"]]
    assert losses[-1] < 0.2 * losses[0]
    tokens, _ = model.predict_step(data.build(["cats sleep .", "i run !"], ["?", "?"]), d2l.try_gpu(), 9)
    for row, wanted in zip(tokens, ["les chats dort .", "je court !"], strict=True):
        words = " ".join(data.tgt_vocab.to_tokens(row)).partition(" <eos>")[0]
        assert d2l.bleu(words, wanted, k=2) > 0.5


# The first edition's training.


def first_nets(d2l: ModuleType, first: Any) -> list[Any]:
    kinds = (d2l.FIRST_EDITION["EncoderDecoder"], first.EncoderDecoder)
    nets = [kind(*parts_of(lib)) for kind, lib in zip(kinds, (d2l, first), strict=True)]
    for net in nets:
        net(*batch(0)[:-1])
    adopt(*nets)
    return nets


def first_batches(count: int) -> list[tuple[Any, ...]]:
    """Source, its lengths, target and its lengths, padded."""
    return [
        (sentences(3, 4, n), lengths(3, 4, n), sentences(3, 5, n + 9), lengths(3, 5, n + 9))
        for n in range(count)
    ]


def vocab_of(first: Any) -> Any:
    """Five letters behind ``<unk>``, ``<pad>``, ``<bos>`` and ``<eos>``."""
    return first.Vocab(list("abcde"), reserved_tokens=["<pad>", "<bos>", "<eos>"])


@compares("EncoderDecoder predict_seq2seq")
def test_the_first_editions_translations_agree(d2l: ModuleType, first: Any) -> None:
    nets = first_nets(d2l, first)
    *inputs, _ = batch(4)
    agree(*(net(*inputs, training=False) for net in nets))
    assert isinstance(nets[0], keras.Model)
    vocab = vocab_of(first)
    ended = 0
    for seed in range(6):
        for net in nets:
            net.decoder.dense.set_weights([3 * numbers(array((6, V), seed)), np.zeros(V, "float32")])
        for sentence in ("A b", "c nobody e d", "b"):
            found = [
                lib.predict_seq2seq(net, sentence, vocab, vocab, 4, True)
                for lib, net in zip((d2l, first), nets, strict=True)
            ]
            agree(*found)
            ended += len(found[0][1]) < 4
            assert d2l.predict_seq2seq(nets[0], sentence, vocab, vocab, 4) == (found[0][0], [])
    assert 0 < ended < 18


@compares("train_seq2seq")
@pytest.mark.parametrize("num_epochs", [1, 10])
def test_the_first_editions_trainings_agree(
    d2l: ModuleType, first: Any, capsys: pytest.CaptureFixture[str], num_epochs: int
) -> None:
    nets, printed = first_nets(d2l, first), []
    for lib, net in zip((d2l, first), nets, strict=True):
        lib.train_seq2seq(net, first_batches(3), 0.005, num_epochs, vocab_of(first), lib.try_gpu())
        printed.append(capsys.readouterr().out.splitlines()[-1].split(","))
    close(*(net.get_weights() for net in nets))
    assert printed[0][0] == printed[1][0]
    assert printed[0][1].endswith("tokens/sec on /CPU:0") or d2l.num_gpus()


def test_a_training_that_diverges_puts_the_parameters_back(d2l: ModuleType, first: Any) -> None:
    made = []
    for _ in range(2):
        d2l.seed_everything(1)  # from here on Keras' initial values are settled
        made.append(d2l.FIRST_EDITION["EncoderDecoder"](*parts_of(d2l)))
    net, twin = made
    source, source_lens, target, _ = first_batches(1)[0]
    twin(source, target, source_lens)
    with pytest.raises(SpecError, match="at least 1"):
        d2l.train_seq2seq(net, first_batches(3), 0.005, 0, vocab_of(first), None)
    with pytest.raises(DivergedError, match="epoch 1"):
        d2l.train_seq2seq(net, first_batches(3), float("inf"), 2, vocab_of(first), "/CPU:0")
    for value, begun in zip(net.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(value, begun)


def test_dropout_while_the_first_edition_trains(d2l: ModuleType, first: Any) -> None:
    kind = d2l.FIRST_EDITION["EncoderDecoder"]
    net = kind(*parts_of(d2l, dropout=0.5))
    *inputs, _ = batch(0)
    agree(net(*inputs)[0], net(*inputs, training=False)[0])
    assert not np.allclose(net(*inputs, training=True)[0], net(*inputs)[0])
