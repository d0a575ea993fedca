"""What chapters do with the JAX tab, and the silent errors of the book's package there."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import optax  # noqa: E402
from flax import linen as nn  # noqa: E402
from jax import numpy as jnp  # noqa: E402

from d2lrnn import jax as d2l  # noqa: E402
from d2lrnn.chapters.runner import load_tab, run_chapter  # noqa: E402
from d2lrnn.chapters.source import Chapter  # noqa: E402
from d2lrnn.contract.clipping import clip_scale  # noqa: E402
from d2lrnn.errors import DivergedError, PromptError, SpecError  # noqa: E402

KEY = jax.random.key(0)
V = 6


class Letters(d2l.DataModule):
    """Windows of a small text, which is random but for every second letter."""

    def __init__(self, num_train: int = 40, num_val: int = 24, batch_size: int = 16) -> None:
        self.save_hyperparameters()
        tokens = np.random.default_rng(0).integers(1, V, num_train + num_val + 9).astype(np.int32)
        tokens[::2] = 0
        windows = np.lib.stride_tricks.sliding_window_view(tokens, 9)
        self.X, self.Y = windows[:, :-1], windows[:, 1:]
        self.vocab = d2l.Vocab(list("abcde"))

    def get_dataloader(self, train: bool) -> Any:
        rows = slice(0, self.num_train) if train else slice(self.num_train, self.num_train + self.num_val)
        return self.get_tensorloader([self.X, self.Y], train, rows)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    d2l.seed_everything(0)


@pytest.fixture
def data() -> Letters:
    return Letters()


def fitted(model: Any, data: Any, epochs: int = 2, clip: float = 1) -> Any:
    trainer = d2l.Trainer(max_epochs=epochs, gradient_clip_val=clip)
    trainer.fit(model, data, key=KEY)
    return trainer


def scratch(**options: Any) -> Any:
    return d2l.RNNLMScratch(d2l.RNNScratch(V, 7, sigma=0.3), V, lr=1, **options)


def assert_same(one: Any, other: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


# Models that a chapter defines


class Steps(nn.Module):
    """`RNNScratch` as a chapter writes it: step by step, a list of outputs."""

    num_inputs: int
    num_hiddens: int
    sigma: float = 0.01

    def setup(self) -> None:
        normal = nn.initializers.normal(self.sigma)
        self.W_xh = self.param("W_xh", normal, (self.num_inputs, self.num_hiddens))
        self.W_hh = self.param("W_hh", normal, (self.num_hiddens, self.num_hiddens))
        self.b_h = self.param("b_h", nn.initializers.zeros, (self.num_hiddens))

    def __call__(self, inputs: Any, state: Any = None) -> Any:
        outputs = []
        for X in inputs:
            before = 0 if state is None else d2l.matmul(state, self.W_hh)
            state = d2l.tanh(d2l.matmul(X, self.W_xh) + before + self.b_h)
            outputs.append(state)
        return outputs, state


class Head(d2l.Classifier):
    """`RNNLMScratch` as a chapter writes it."""

    rnn: nn.Module
    vocab_size: int
    lr: float

    def setup(self) -> None:
        normal = nn.initializers.normal(self.rnn.sigma)
        self.W_hq = self.param("W_hq", normal, (self.rnn.num_hiddens, self.vocab_size))
        self.b_q = self.param("b_q", nn.initializers.zeros, (self.vocab_size))

    def training_step(self, params: Any, batch: Any, state: Any) -> Any:
        value, grads = jax.value_and_grad(self.loss, has_aux=True)(params, batch[:-1], batch[-1], state)
        self.plot("ppl", d2l.exp(value[0]), train=True)
        return value, grads

    def validation_step(self, params: Any, batch: Any, state: Any) -> None:
        loss, _ = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("ppl", d2l.exp(loss), train=False)

    def forward(self, X: Any, state: Any = None) -> Any:
        hiddens, _ = self.rnn(jax.nn.one_hot(X.T, self.vocab_size), state)
        return d2l.stack([d2l.matmul(H, self.W_hq) + self.b_q for H in hiddens], 1)


def test_a_chapters_model_trains_as_the_librarys(data: Letters) -> None:
    seen = []
    for model in (Head(Steps(V, 7, 0.3), V, lr=1), scratch()):
        d2l.seed_everything(1)
        trainer = fitted(model, data, epochs=3, clip=0.3)
        seen.append([(r.train_perplexity, r.val_perplexity) for r in trainer.history])
        points = [p.y for p in model.board.data["val_ppl"]]
        # Of all tokens, not a mean of batches, the last of which is smaller.
        assert points == pytest.approx([record.val_perplexity for record in trainer.history], rel=1e-5)
    assert seen[0] == [pytest.approx(pair, rel=1e-5) for pair in seen[1]]
    assert seen[0][-1][1] < seen[0][0][1]


def test_the_perplexity_is_that_of_all_tokens(data: Letters) -> None:
    model = scratch()
    trainer = fitted(model, data, epochs=1)
    logits = model.apply({"params": trainer.state.params}, data.X[40:64])
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, data.Y[40:64]).mean()
    assert trainer.history[0].val_perplexity == pytest.approx(float(jnp.exp(nats)), rel=1e-5)


def test_methods_that_a_chapter_replaces_are_the_ones_that_train(
    data: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fitted(scratch(), data).history[0].train_perplexity
    monkeypatch.setattr(d2l.RNNLMScratch, "forward", d2l.RNNLMScratch.forward)

    @d2l.add_to_class(d2l.RNNLMScratch)
    def forward(self: Any, tokens: Any, state: Any = None) -> Any:
        return 0 * self.unroll(tokens, state)[0]

    assert fitted(scratch(), data).history[0].train_perplexity == pytest.approx(V, rel=1e-5)
    assert first != pytest.approx(V, rel=1e-2)


def test_the_steps_of_a_chapter_run_once_a_batch(data: Letters) -> None:
    seen: list[float] = []

    class Own(d2l.RNNLMScratch):
        def training_step(self, params: Any, batch: Any, state: Any) -> Any:
            value, grads = super().training_step(params, batch, state)
            seen.append(float(value[0]))  # what a compiled step could not do
            return value, grads

    trainer = fitted(Own(d2l.RNNScratch(V, 7), V, lr=1), data)
    assert len(seen) == trainer.train_batch_idx == 6


def test_a_step_that_gives_no_gradient_is_an_error(data: Letters) -> None:
    class LossAlone(d2l.RNNLMScratch):
        def training_step(self, params: Any, batch: Any, state: Any) -> Any:
            return self.loss(params, batch[:-1], batch[-1], state)[0]

    with pytest.raises(SpecError, match=r"LossAlone\.training_step must return a loss and the gradient"):
        fitted(LossAlone(d2l.RNNScratch(V, 7), V), data)


def test_a_model_without_a_loss_says_so(data: Letters) -> None:
    class Nothing(d2l.Module):
        def setup(self) -> None:
            self.net = nn.Embed(V, V)

        def configure_optimizers(self) -> Any:
            return optax.adam(0.1)

    with pytest.raises(
        NotImplementedError, match=r"Nothing needs a method loss\(self, params, X, y, state\)"
    ):
        fitted(Nothing(), data)


def test_parameters_are_made_with_any_ones_for_tokens() -> None:
    logits, _ = scratch().init_with_output(KEY, jnp.ones((2, 5)))
    assert logits.shape == (2, 5, V)


def test_layers_that_do_not_know_tokens_are_given_vectors() -> None:
    class Own(d2l.RNN):
        num_hiddens: int

        @nn.compact
        def __call__(self, inputs: Any, state: Any = None, training: bool = False) -> Any:
            assert inputs.shape == (4, 2, V)
            return nn.Dense(self.num_hiddens)(inputs), state

    model, tokens = d2l.RNNLM(Own(5), V), jnp.zeros((2, 4), int)
    assert model.apply(model.init(KEY, tokens), tokens).shape == (2, 4, V)


@pytest.mark.parametrize(
    "layers", [d2l.RNNScratch(V, 5), d2l.GRUScratch(V, 5), d2l.LSTMScratch(V, 5), d2l.GRU(5)]
)
def test_steps_may_come_one_by_one(layers: Any) -> None:
    X = jax.random.normal(KEY, (4, 2, V))
    variables = layers.init(KEY, X)
    assert_same(layers.apply(variables, list(X)), layers.apply(variables, X))
    assert_same(layers.apply(variables, reversed(X)), layers.apply(variables, X[::-1]))


def test_equal_models_are_equal_whatever_is_on_their_boards() -> None:
    one, other = scratch(), scratch()
    one.board.draw(1, 2, "seen")
    assert (one, hash(one)) == (other, hash(other))
    assert other.board.data == {}


# Training


def test_the_gradient_is_clipped(data: Letters) -> None:
    model = scratch()
    start = model.apply_init([data.X], key=KEY)["params"]
    norm = float(optax.tree.norm(start))
    for theta in (norm / 4, 2 * norm):
        clipped = d2l.Trainer(1).clip_gradients(theta, start)
        for a, b in zip(jax.tree.leaves(clipped), jax.tree.leaves(start), strict=True):
            np.testing.assert_allclose(a, b * clip_scale(norm, theta), rtol=1e-5)
    # And the trainer does so in its steps: with a tiny norm they go nowhere, with none they go somewhere.
    still, tiny, free = (fitted(model, data, clip=clip).state.params for clip in (1e-30, 1e-9, 0))
    distances = [optax.tree.norm(jax.tree.map(jnp.subtract, params, still)) for params in (tiny, free)]
    assert float(distances[0]) < 1e-6
    assert float(distances[1]) > 1e-2


def test_dropout_is_on_while_training_alone(data: Letters) -> None:
    model = d2l.RNNLM(d2l.GRU(8, 2, dropout=0.5), V, lr=1)
    trainer = fitted(model, data)
    batch = next(iter(trainer.val_dataloader))

    def training_loss(key: Any) -> float:
        trainer._set_training(True)
        state = trainer.state.replace(dropout_rng=key)
        return float(model.training_step(state.params, batch, state)[0][0])

    one, other = (training_loss(jax.random.key(seed)) for seed in (1, 2))
    assert one != other
    assert one == training_loss(jax.random.key(1))
    loss = model.loss(trainer.state.params, batch[:-1], batch[-1], trainer.state.replace(dropout_rng=KEY))[0]
    assert float(loss) != float(trainer.evaluate(batch))
    logits = model.apply({"params": trainer.state.params}, batch[0])  # no key: no dropout
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()
    assert float(trainer.evaluate(batch)) == pytest.approx(float(expected), rel=1e-5)


def test_every_step_has_a_dropout_of_its_own(data: Letters) -> None:
    keys = []

    class Watching(d2l.RNNLM):
        def training_step(self, params: Any, batch: Any, state: Any) -> Any:
            keys.append(tuple(jax.random.key_data(state.dropout_rng).tolist()))
            return super().training_step(params, batch, state)

    fitted(Watching(d2l.RNN(5), V, lr=1), data)
    assert len(set(keys)) == len(keys) == 6


def test_a_training_that_diverges_leaves_the_parameters_of_before(data: Letters) -> None:
    model = d2l.RNNLM(d2l.RNN(5), V, lr=float("inf"))
    trainer = d2l.Trainer(max_epochs=3)
    with pytest.raises(DivergedError, match="epoch 1"):
        trainer.fit(model, data, key=KEY)
    params_key, dropout_key = jax.random.split(KEY)
    start = model.apply_init([data.X], key={"params": params_key, "dropout": dropout_key})["params"]
    assert_same(trainer.state.params, start)


def test_the_same_seed_trains_the_same(data: Letters) -> None:
    runs = []
    for seed in (1, 1, 2):
        d2l.seed_everything(seed)
        trainer = d2l.Trainer(max_epochs=1)
        trainer.fit(scratch(), data)
        runs.append(trainer.history[0].train_perplexity)
    assert runs[0] == runs[1] != runs[2]


# Data


def test_batches_are_rows_in_a_new_order_each_time(data: Letters) -> None:
    loader = data.train_dataloader()
    epochs = [list(loader), list(loader)]
    assert [len(X) for X, _ in epochs[0]] == [16, 16, 8]
    assert len(loader) == 3
    rows = [np.concatenate([np.hstack(batch) for batch in epoch]) for epoch in epochs]
    assert not np.array_equal(rows[0], rows[1])
    expected = np.hstack([data.X[:40], data.Y[:40]])
    for found in rows:
        np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
    np.testing.assert_array_equal(np.concatenate([X for X, _ in data.val_dataloader()]), data.X[40:64])
    assert not any(np.shares_memory(X, data.X) for X, _ in epochs[0])


def test_a_loader_takes_arrays_of_jax_and_a_list_of_rows(data: Letters) -> None:
    (batch,) = data.get_tensorloader([jnp.arange(5), jnp.eye(5)], train=False, indices=[3, 1])
    np.testing.assert_array_equal(batch[0], [3, 1])
    np.testing.assert_array_equal(batch[1], np.eye(5)[[3, 1]])


# Classifiers


def test_loss_and_accuracy_of_every_prediction(data: Letters) -> None:
    model = scratch()
    state = fitted(model, data, epochs=1).state
    X, Y = data.X[:3], data.Y[:3]
    logits = model.apply({"params": state.params}, X)
    each = model.loss(state.params, [X], Y, state, averaged=False)[0]
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, Y).ravel()
    np.testing.assert_allclose(each, expected, rtol=1e-5)
    assert float(model.loss(state.params, [X], Y, state)[0]) == pytest.approx(float(each.mean()), rel=1e-6)
    right = model.accuracy(state.params, [X], Y, state, averaged=False)
    np.testing.assert_array_equal(right, (logits.argmax(-1) == Y).ravel())
    assert float(model.accuracy(state.params, [X], Y, state)) == pytest.approx(float(right.mean()))


def test_a_classifier_without_steps_of_its_own(data: Letters, capsys: pytest.CaptureFixture[str]) -> None:
    class Next(d2l.Classifier):
        lr: float = 1

        def setup(self) -> None:
            self.net = nn.Sequential([nn.Embed(V, 8), nn.Dense(V)])

        def forward(self, X: Any) -> Any:
            return self.net(X.astype(int))

    model = Next()
    trainer = fitted(model, data, epochs=3)
    assert set(model.board.data) == {"train_loss", "val_loss", "val_acc"}
    assert model.board.data["val_acc"][-1].y > 0.5  # every second letter is known
    assert trainer.history[-1].val_perplexity < trainer.history[0].val_perplexity
    capsys.readouterr()

    class Net(d2l.Classifier):
        def setup(self) -> None:
            self.net = nn.Sequential([nn.Dense(4), nn.Dense(3)])

    Net().layer_summary((2, 5))
    assert capsys.readouterr().out.split("\n")[:2] == [
        "Dense output shape:\t (2, 4)",
        "Dense output shape:\t (2, 3)",
    ]


# Generation


@pytest.mark.parametrize("number", [3, 30])
def test_generation_compiles_for_no_more_characters(data: Letters, number: int) -> None:
    traced = []

    class Counting(d2l.RNN):
        def __call__(self, inputs: Any, state: Any = None, training: bool = False) -> Any:
            traced.append(inputs.shape)
            return super().__call__(inputs, state, training)

    model = d2l.RNNLM(Counting(5), V)
    params = model.init(KEY, data.X)["params"]
    traced.clear()
    assert len(model.predict("ab", number, data.vocab, params)) == 2 + number
    # Layers with a call of their own begin without a state: one for the first character, one for the others.
    assert traced == [(1, 1, V)] * 2


def test_predictions_are_the_likeliest_characters(data: Letters) -> None:
    model = d2l.RNNLM(d2l.LSTM(5, 2, dropout=0.5), V, lr=1)
    params = fitted(model, data).state.params
    written = model.predict("ab", 6, data.vocab, params)
    assert written.startswith("ab")
    tokens = np.array([data.vocab[list(written)]])
    likeliest = model.apply({"params": params}, tokens)[0].argmax(-1)
    np.testing.assert_array_equal(likeliest[1:-1], tokens[0, 2:])
    with pytest.raises(PromptError, match="empty"):
        model.predict("", 3, data.vocab, params)


# What flax and NumPy dropped

OLD_CELLS = {
    "nn.GRUCell() and LSTM cells without features": "nn.GRUCell()",
    "nn.GRUCell.initialize_carry(rng, batch_dims, size) of a class": (
        "nn.OptimizedLSTMCell.initialize_carry(key, (2,), 3)"
    ),
    "int() of an array with one entry": "int(jnp.ones((1, 1)))",
}


def _restored() -> dict[str, Any]:
    return {what.name: what for what in load_tab("jax")[1]}


def test_all_that_is_restored_is_tested() -> None:
    assert set(_restored()) == set(OLD_CELLS)


@pytest.mark.parametrize("name", OLD_CELLS)
def test_what_was_dropped_is_back_within_and_gone_after(name: str) -> None:
    code, what = OLD_CELLS[name], _restored()[name]
    scope = {"nn": nn, "jnp": jnp, "key": KEY}
    assert what.needed_in(code)
    assert not any(other.needed_in(code) for other in _restored().values() if other is not what)
    for end in (None, RuntimeError):
        with pytest.raises(TypeError):
            eval(code, scope)
        try:
            with what.put_back():
                eval(code, scope)
                if end:
                    raise end
        except RuntimeError:
            pass
        with pytest.raises(TypeError):
            eval(code, scope)


def test_numbers_are_found_in_every_way_that_chapters_write_them() -> None:
    needed = _restored()["int() of an array with one entry"].needed_in
    for code in ("int(d2l.reshape(d2l.argmax(Y, axis=2), 1))", "int(Y.argmax(axis=2).reshape(1))"):
        assert needed(f"written.append({code})")


def test_todays_code_needs_nothing_restored() -> None:
    todays = "nn.GRUCell(32)\nnn.LSTMCell(features=8).initialize_carry(key, (2, 3))\nint(3.5)\nint(x.sum())"
    assert [what.name for what in _restored().values() if what.needed_in(todays)] == []


def test_a_cell_without_features_is_the_cell() -> None:
    X, H = jnp.ones((2, 3)), jnp.ones((2, 5))
    expected = nn.GRUCell(5).init_with_output(KEY, H, X)
    with _restored()["nn.GRUCell() and LSTM cells without features"].put_back():
        assert_same(nn.GRUCell().init_with_output(KEY, H, X), expected)
        assert_same(nn.GRUCell(5).init_with_output(KEY, H, X), expected)


def test_the_carry_of_a_class_and_of_a_cell() -> None:
    restored = _restored()
    what = restored["nn.GRUCell.initialize_carry(rng, batch_dims, size) of a class"]
    with restored["nn.GRUCell() and LSTM cells without features"].put_back(), what.put_back():
        assert nn.GRUCell.initialize_carry(KEY, (2,), 3).shape == (2, 3)
        c, h = nn.LSTMCell.initialize_carry(KEY, (2,), 3)
        assert c.shape == h.shape == (2, 3)
        # As `nn.RNN` asks.
        assert nn.GRUCell(4).initialize_carry(KEY, (2, 3)).shape == (2, 4)
        assert nn.RNN(nn.GRUCell(4)).init_with_output(KEY, jnp.ones((2, 5, 3)))[0].shape == (2, 5, 4)
    assert list(inspect.signature(nn.GRUCell.initialize_carry).parameters) == ["self", "rng", "input_shape"]


def test_a_number_of_one_entry_alone() -> None:
    with _restored()["int() of an array with one entry"].put_back():
        assert int(jnp.array([[7]])) == int(jnp.array(7)) == 7
        with pytest.raises(TypeError):
            int(jnp.ones(2))


def test_a_chapter_that_needs_nothing_gets_nothing(tmp_path: Path) -> None:
    file = tmp_path / "chapter.md"
    file.write_text("```{.python .input}\n#@tab jax\nfrom flax import linen as nn\nnn.GRUCell\n```\n")
    library, restored = load_tab("jax")
    (result,) = run_chapter(Chapter(file), "jax", library, restored=restored).results
    assert result.value == repr(nn.GRUCell)
