"""Regression, encoder and decoder, and attention on JAX beside the book's own package."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from agreement import agree, compares, few, numbers, of_models
from hypothesis import given
from hypothesis import strategies as st
from small_data import pairs

jax = pytest.importorskip("jax", reason="this environment has no JAX")
nn = pytest.importorskip("flax.linen", reason="this environment has no flax")

from d2lrnn_jax.dropped import carries_of_a_class, cells_without_features  # noqa: E402

from d2lrnn.errors import SpecError  # noqa: E402
from d2lrnn.registry import BackendEntry  # noqa: E402

jnp = jax.numpy

PAD = 2
KEY = jax.random.PRNGKey(3)

seeds = st.integers(0, 999)
#: How many entries count: of each row, of each query, or all.
lengths = st.sampled_from(["rows", "queries", None])


@pytest.fixture(autouse=True)
def _only_jax(entry: BackendEntry, d2l: ModuleType) -> None:
    if entry.name != "jax":
        pytest.skip("these tests are written in JAX")
    d2l.seed_everything(0)


@pytest.fixture
def old_cells() -> Iterator[None]:
    """What the book's own GRU needs of the flax of its day."""
    with ExitStack() as stack:
        stack.enter_context(cells_without_features())
        stack.enter_context(carries_of_a_class())
        yield


def array(shape: tuple[int, ...], seed: int) -> Any:
    return jnp.array(np.random.default_rng(seed).standard_normal(shape), "float32")


def tokens(shape: tuple[int, ...], size: int, seed: int) -> Any:
    return jnp.array(np.random.default_rng(seed).integers(0, size, shape), "int32")


def batch_of(seed: int, rows: int = 3) -> list[Any]:
    """What is read, what is written, the lengths of the first, and what is written a token later."""
    written = np.array(tokens((rows, 6), 13, seed + 1))
    written[:, 1], written[0, 3:] = 5, PAD
    valid_lens = np.random.default_rng(seed).integers(1, 5, rows).astype("int32")
    return [tokens((rows, 4), 11, seed), written[:, :-1], jnp.array(valid_lens), jnp.array(written[:, 1:])]


def trained(lib: Any, model: Any, batches: list[Any], epochs: int = 2) -> Any:
    class Data(lib.DataModule):
        def get_dataloader(self, train: bool) -> Any:
            return batches if train else batches[:1]

    model.board.display = False
    trainer = lib.Trainer(max_epochs=epochs)
    trainer.fit(model, Data(), key=KEY)
    return trainer


def curves(trainer: Any) -> Any:
    drawn = trainer.model.board.data
    return {label: [(float(p.x), float(p.y)) for p in points] for label, points in drawn.items()}


def close(ours: Any, theirs: Any, atol: float = 1e-5) -> None:
    """Two trees of parameters."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(numbers(mine), numbers(other), atol=atol)


# Signatures.

NAMES = (
    "LinearRegression EncoderDecoder Seq2SeqEncoder Seq2Seq MTFraEng masked_softmax DotProductAttention "
    "AdditiveAttention LinearRegression.loss LinearRegression.get_w_b Decoder.init_state Decoder.__call__ "
    "EncoderDecoder.predict_step DotProductAttention.__call__ AdditiveAttention.__call__"
)


@pytest.mark.parametrize("name", NAMES.split())
def test_signatures_are_the_books(d2l: ModuleType, current: Any, name: str) -> None:
    signatures = []
    for thing in (d2l, current):
        for part in name.split("."):
            thing = getattr(thing, part)
        parameters = inspect.signature(thing).parameters.values()
        signatures.append([(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD])
    ours, theirs = signatures
    assert [each for each, _ in ours[: len(theirs)]] == [each for each, _ in theirs]
    for (_, mine), (_, other) in zip(ours, theirs, strict=False):
        # What they leave out may be left out here.
        assert other is inspect.Parameter.empty or mine == other
    assert all(default is not inspect.Parameter.empty for _, default in ours[len(theirs) :])


# Linear regression.


@compares("LinearRegression")
@of_models
@given(seed=seeds, rows=st.integers(1, 5), lr=st.sampled_from([0.03, 0.5]))
def test_linear_regressions_agree(d2l: ModuleType, current: Any, seed: int, rows: int, lr: float) -> None:
    X, y = array((rows, 4), seed), array((rows, 1), seed + 1)
    results = []
    for lib in (d2l, current):
        model = lib.LinearRegression(lr=lr)
        params = model.init(KEY, X)["params"]
        state = SimpleNamespace(apply_fn=model.apply, params=params)
        after = trained(lib, model, [[X, y], [2 * X, y]])
        w, b = model.get_w_b(after.state)
        assert (w.shape, b.shape) == ((4, 1), (1,))
        results.append(
            (params, model.apply({"params": params}, X), model.loss(params, (X,), y, state), (w, b),
             list(model.get_w_b(state)), curves(after))
        )  # fmt: skip
    agree(*results)


def test_targets_of_a_regression_may_be_a_row(d2l: ModuleType) -> None:
    model, X, y = d2l.LinearRegression(lr=0.1), array((5, 4), 0), array((5,), 1)
    params = model.init(KEY, X)["params"]
    state = SimpleNamespace(apply_fn=model.apply)
    agree(model.loss(params, (X,), y, state), model.loss(params, (X,), y[:, None], state))


# Pairs of sentences.


@compares("MTFraEng")
@pytest.mark.parametrize("sizes", [(3, 9, 40, 10), (2, 3, 5, 2), (4, 7, 700, 300)])
def test_pairs_of_sentences_agree(d2l: ModuleType, current: Any, sizes: tuple[int, ...]) -> None:
    results = []
    for lib in (d2l, current):

        class Pairs(lib.MTFraEng):
            def _download(self) -> str:
                return pairs()

            def get_tensorloader(self, tensors: Any, train: bool, indices: Any = None) -> Any:
                return tensors, train, [indices.start, indices.stop]

        data = Pairs(*sizes)
        results.append(
            (data.arrays, data.src_vocab.idx_to_token, data.tgt_vocab.idx_to_token, data.train_dataloader(),
             data.val_dataloader(), data.build(["I go .", "Who ?"], ["je va .", "qui ?"]),
             [getattr(data, name) for name in ("batch_size", "num_steps", "num_train", "num_val")],
             data._tokenize(data._preprocess(pairs()), 3))
        )  # fmt: skip
    agree(*results)


def test_batches_of_pairs(d2l: ModuleType, small_data: Path) -> None:
    data = d2l.MTFraEng(batch_size=16, num_train=40, num_val=10)
    assert [len(data.train_dataloader()), len(data.val_dataloader())] == [3, 1]
    source, target, source_lengths, label = next(iter(data.train_dataloader()))
    assert source.shape == target.shape == label.shape == (16, 9)
    assert (source_lengths == (source != data.src_vocab["<pad>"]).sum(1)).all()
    assert (target[:, 0] == data.tgt_vocab["<bos>"]).all()
    assert (target[:, 1:] == label[:, :-1]).all()


# Encoder and decoder.


def networks(lib: Any) -> tuple[Any, Any]:
    """An encoder and a decoder that keep their attention, as a chapter defines them."""

    class Reader(lib.Encoder):
        def setup(self) -> None:
            self.embedding = nn.Embed(11, 6)

        def __call__(self, X: Any, valid_lens: Any, training: bool = False) -> Any:
            vectors = self.embedding(X)
            self.sow("intermediates", "enc_attention_weights", [vectors.mean(-1)])
            return vectors

    class Writer(lib.Decoder):
        def setup(self) -> None:
            self.embedding, self.begin = nn.Embed(13, 6), nn.Dense(6)
            self.attention, self.dense = lib.AdditiveAttention(8, 0.0), nn.Dense(13)

        def init_state(self, enc_all_outputs: Any, valid_lens: Any) -> Any:
            return enc_all_outputs, valid_lens, jnp.zeros((len(valid_lens), 6))

        def __call__(self, X: Any, state: Any, training: bool = False) -> Any:
            keys, valid_lens, hidden = state
            outputs, weights = [], []
            for x in self.embedding(X).swapaxes(0, 1):
                context, each = self.attention(hidden[:, None], keys, keys, valid_lens, training=training)
                hidden = nn.tanh(self.begin(jnp.concatenate((context[:, 0], x, hidden), -1)))
                outputs.append(hidden)
                weights.append(each)
            self.sow("intermediates", "dec_attention_weights", weights)
            return self.dense(jnp.stack(outputs, 1)), [keys, valid_lens, hidden]

    return Reader(), Writer()


@compares("Encoder Decoder EncoderDecoder")
@pytest.mark.parametrize("saves", [False, True])
def test_encoders_and_decoders_agree(d2l: ModuleType, current: Any, saves: bool) -> None:
    batch = batch_of(0)
    results = []
    for lib in (d2l, current):
        model = lib.EncoderDecoder(*networks(lib), training=False)
        params = model.init(KEY, *batch[:-1])["params"]
        results.append(
            (params, model.apply({"params": params}, *batch[:-1]),
             model.predict_step(params, batch, 5, save_attention_weights=saves))
        )  # fmt: skip
    agree(*results)
    _, logits, (written, (decoders, encoders)) = results[0]
    assert logits.shape == (3, 5, 13)
    assert written.shape == (3, 5)
    assert len(decoders) == (5 if saves else 0)
    assert len(encoders) == (1 if saves else 0)


@compares("Encoder Decoder")
def test_bare_encoders_and_decoders_say_what_is_missing(d2l: ModuleType, current: Any) -> None:
    for lib in (d2l, current):
        for call in (
            lambda lib: lib.Encoder().apply({}, jnp.ones((2, 3))),
            lambda lib: lib.Decoder().apply({}, jnp.ones((2, 3)), None),
            lambda lib: lib.Decoder().apply({}, None, method="init_state"),
        ):
            with pytest.raises(NotImplementedError):
                call(lib)
    with pytest.raises(NotImplementedError, match="Encoder needs a method __call__"):
        d2l.Encoder().apply({}, jnp.ones((2, 3)))


def test_a_decoder_without_attention_has_no_weights_to_save(d2l: ModuleType) -> None:
    model, batch = translator(d2l, d2l.Seq2Seq), batch_of(0)
    params = model.init(KEY, *batch[:-1])["params"]
    with pytest.raises(SpecError, match="Seq2SeqDecoder has no attention weights"):
        model.predict_step(params, batch, 2, save_attention_weights=True)
    with pytest.raises(SpecError, match="num_steps is 0"):
        model.predict_step(params, batch, 0)


# Sequence to sequence.


def translator(d2l: ModuleType, kind: Callable[..., Any], dropout: float = 0) -> Any:
    encoder, decoder = d2l.Seq2SeqEncoder(11, 4, 5, 2, dropout), d2l.Seq2SeqDecoder(13, 4, 5, 2, dropout)
    return kind(encoder, decoder, tgt_pad=PAD, lr=0.01, training=True)


def from_old_cells(params: Any) -> Any:
    """The book's parameters of an encoder, by the names that our layers have."""
    layers = enumerate(params["rnn"].values())
    return {**params, "rnn": {f"cells_{l}": layer for l, layer in layers}}


@compares("Seq2SeqEncoder")
@pytest.mark.usefixtures("old_cells")
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_recurrent_encoders_agree(d2l: ModuleType, current: Any, layers: int, kind: str) -> None:
    X, valid_lens = tokens((3, 4), 11, 0).astype(kind), jnp.array([4, 2, 1])
    theirs, ours = (lib.Seq2SeqEncoder(11, 4, 5, layers, 0.3) for lib in (current, d2l))
    params = theirs.init(KEY, X)["params"]
    expected = theirs.apply({"params": params}, X, valid_lens)
    agree(ours.apply({"params": from_old_cells(params)}, X, valid_lens), expected)
    begun = ours.init(KEY, X)["params"]
    assert jax.tree.map(jnp.shape, begun) == jax.tree.map(jnp.shape, from_old_cells(params))


def test_a_recurrent_decoder_reads_the_context_at_every_step(d2l: ModuleType) -> None:
    decoder, X = d2l.Seq2SeqDecoder(13, 4, 5, 1), tokens((3, 6), 13, 0)
    outputs, H = array((7, 3, 5), 1), array((1, 3, 5), 2)
    state = decoder.init_state((outputs, H), jnp.array([7, 2, 3]))
    (logits, (kept, after)), variables = decoder.init_with_output(KEY, X, state)
    params = variables["params"]
    cell, hidden = nn.GRUCell(5), H[0]
    for t in range(6):
        step = jnp.concatenate((params["embedding"]["embedding"][X[:, t]], outputs[-1]), -1)
        hidden, _ = cell.apply({"params": params["rnn"]["cells_0"]}, hidden, step)
        expected = hidden @ params["dense"]["kernel"] + params["dense"]["bias"]
        np.testing.assert_allclose(logits[:, t], expected, atol=1e-6)
    np.testing.assert_allclose(after[0], hidden, atol=1e-6)
    assert kept is outputs
    # And it goes on where it ended, whichever of a list and a tuple it gets.
    first, middle = decoder.apply(variables, X[:, :2], list(state))
    rest, _ = decoder.apply(variables, X[:, 2:], middle)
    np.testing.assert_allclose(jnp.concatenate((first, rest), 1), logits, atol=1e-6)


def masked(current: Any) -> Any:
    """The book's class with the loss that its chapter adds: the package is without."""

    class Masked(current.Seq2Seq):
        def loss(self, params: Any, X: Any, Y: Any, state: Any, averaged: bool = True) -> Any:
            logits = state.apply_fn({"params": params}, *X, rngs={"dropout": state.dropout_rng})
            losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), Y[..., None], -1)[..., 0]
            counts = jnp.not_equal(Y, self.tgt_pad)
            return (losses * counts).sum() / counts.sum(), {}

    return Masked


@compares("Seq2Seq EncoderDecoder")
@pytest.mark.parametrize("dropout", [0, 0.5])
def test_training_agrees(d2l: ModuleType, current: Any, dropout: float) -> None:
    batches = [batch_of(seed) for seed in range(3)]
    results = []
    for lib, kind in ((d2l, d2l.Seq2Seq), (current, masked(current))):
        trainer = trained(lib, translator(d2l, kind, dropout), batches)
        written, _ = trainer.model.predict_step(trainer.state.params, batches[0], 5)
        results.append((trainer, written))
    (ours, written), (theirs, expected) = results
    close(ours.state.params, theirs.state.params, atol=5e-5)
    agree(written, expected)
    mine, other = curves(ours), curves(theirs)
    assert list(mine) == list(other) == ["train_loss", "val_loss"]
    for label, points in other.items():
        np.testing.assert_allclose(mine[label], points, rtol=1e-4)


def test_padding_counts_for_nothing(d2l: ModuleType) -> None:
    model, (*X, Y) = translator(d2l, d2l.Seq2Seq), batch_of(4)
    params = model.init({"params": KEY, "dropout": KEY}, *X)["params"]
    state = SimpleNamespace(apply_fn=model.apply, dropout_rng=KEY)
    (mean, auxiliary), (losses, _) = (model.loss(params, X, Y, state, averaged) for averaged in (True, False))
    counts = np.asarray(Y).reshape(-1) != PAD
    assert auxiliary == {}
    assert counts.any()
    assert not counts.all()
    assert (np.asarray(losses)[~counts] == 0).all()
    np.testing.assert_allclose(mean, losses.sum() / counts.sum(), rtol=1e-6)
    # Another batch of a shape: longer padding is the same loss.
    longer = [np.pad(part, ((0, 0), (0, 3)), constant_values=PAD) for part in (X[1], Y)]
    np.testing.assert_allclose(
        model.loss(params, [X[0], longer[0], X[2]], longer[1], state)[0], mean, rtol=1e-5
    )


def test_a_model_learns_to_copy(d2l: ModuleType) -> None:
    """The first token read is to be written, and then an end."""
    X = jnp.array([[3, 4, 5], [4, 3, 3], [5, 5, 3], [3, 3, 4]])
    end = jnp.full((4, 1), 6)
    batch = [X, jnp.concatenate((end, X[:, :1]), 1), jnp.full(4, 3), jnp.concatenate((X[:, :1], end), 1)]
    encoder, decoder = d2l.Seq2SeqEncoder(7, 8, 16, 1), d2l.Seq2SeqDecoder(7, 8, 16, 1)
    model = d2l.Seq2Seq(encoder, decoder, tgt_pad=0, lr=0.02, training=True)
    trainer = trained(d2l, model, [batch], epochs=60)
    written, (_, nothing) = model.predict_step(trainer.state.params, batch, 2)
    assert nothing == []
    assert (written == batch[-1]).all()


# Attention.


def valid_lens_of(kind: str | None, rows: int, queries: int, keys: int, seed: int) -> Any:
    shape = {"rows": (rows,), "queries": (rows, queries), None: None}[kind]
    return None if shape is None else tokens(shape, keys + 1, seed)  # some are 0


@compares("masked_softmax")
@few
@given(kind=lengths, seed=seeds, keys=st.sampled_from([1, 4]))
def test_masked_softmaxes_agree(d2l: ModuleType, current: Any, kind: Any, seed: int, keys: int) -> None:
    X, valid_lens = array((2, 3, keys), seed), valid_lens_of(kind, 2, 3, keys, seed)
    agree(*(lib.masked_softmax(X, valid_lens) for lib in (d2l, current)))


@compares("DotProductAttention AdditiveAttention")
@of_models
@given(kind=lengths, seed=seeds, rows=st.integers(1, 3), queries=st.integers(1, 3), keys=st.integers(1, 4))
@pytest.mark.parametrize("name", ["DotProductAttention", "AdditiveAttention"])
def test_attentions_agree(
    d2l: ModuleType, current: Any, name: str, kind: Any, seed: int, rows: int, queries: int, keys: int
) -> None:
    sizes = {} if name == "DotProductAttention" else {"num_hiddens": 6}
    Q, V = array((rows, queries, 5), seed), array((rows, keys, 3), seed + 2)
    K = array((rows, keys, 5 if not sizes else 2), seed + 1)
    valid_lens = valid_lens_of(kind, rows, queries, keys, seed)
    results = []
    for lib in (d2l, current):
        attention = getattr(lib, name)(**sizes, dropout=0.5)
        (outputs, weights), variables = attention.init_with_output(KEY, Q, K, V, valid_lens)
        dropped, kept = attention.apply(variables, Q, K, V, valid_lens, training=True, rngs={"dropout": KEY})
        agree(kept, weights)
        results.append((variables, outputs, weights, dropped))
    (*ours, dropped), (*theirs, their_dropped) = results
    agree(ours, theirs)
    if not sizes:  # where the layer that drops has the same place among its parts
        agree(dropped, their_dropped)


def test_dropout_is_at_the_weights(d2l: ModuleType) -> None:
    """With ones as values an output is the sum of the weights: of those that stay, twice it."""
    Q, K, V = array((64, 1, 5), 0), array((64, 4, 5), 1), jnp.ones((64, 4, 1))
    attention = d2l.AdditiveAttention(num_hiddens=6, dropout=0.5)
    variables = attention.init(KEY, Q, K, V)
    outputs, weights = attention.apply(variables, Q, K, V, training=True, rngs={"dropout": KEY})
    sums = {round(float(outputs[0, 0, 0]), 4)}
    subsets = [
        2 * sum(w for k, w in enumerate(weights[0, 0].tolist()) if number >> k & 1) for number in range(16)
    ]
    assert sums <= {round(each, 4) for each in subsets}
    assert 0.8 < float(outputs.mean()) < 1.2
    assert float(outputs.std()) > 0.1


def test_a_decoder_shows_the_weights_of_its_last_call(d2l: ModuleType) -> None:
    class Writer(d2l.AttentionDecoder):
        @nn.compact
        def __call__(self, X: Any, state: Any, training: bool = False) -> Any:
            outputs, weights = d2l.DotProductAttention(0.0)(X, state, state)
            self.sow("intermediates", "dec_attention_weights", weights)
            return outputs, state

    X, state = array((2, 3, 5), 0), array((2, 4, 5), 1)
    (outputs, _), variables = Writer().apply({}, X, state, mutable="intermediates")
    weights = Writer().bind(variables).attention_weights
    np.testing.assert_allclose(weights @ state, outputs, atol=1e-6)
    for without in (Writer(), Writer().bind({})):
        with pytest.raises(SpecError, match="Writer has no attention weights"):
            _ = without.attention_weights
