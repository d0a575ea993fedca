"""What chapters do with the TensorFlow tab, and the silent errors of the book's package there."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="this environment has no Keras")
tf = pytest.importorskip("tensorflow", reason="this environment has no TensorFlow")

from d2lrnn.errors import DivergedError, PromptError, TextError  # noqa: E402
from d2lrnn.registry import BackendEntry  # noqa: E402


@pytest.fixture(autouse=True)
def _only_tensorflow(entry: BackendEntry, d2l: ModuleType) -> None:
    if entry.name != "tensorflow":
        pytest.skip("these tests are written in TensorFlow")
    d2l.seed_everything(0)
    random.seed(0)


@pytest.fixture
def data(d2l: ModuleType) -> Any:
    return d2l.TimeMachine(batch_size=64, num_steps=8, num_train=300, num_val=100)


def language_model(d2l: ModuleType, data: Any, **options: Any) -> Any:
    return d2l.RNNLMScratch(d2l.RNNScratch(len(data.vocab), 16, **options), len(data.vocab), lr=1)


def values(variables: Any) -> list[Any]:
    return [variable.numpy() for variable in variables]


def copy_into(target: Any, source: Any) -> None:
    """The two scratch models have the same weights, in one order or another."""
    for name in ("W_hq", "b_q"):
        getattr(target, name).assign(getattr(source, name).numpy())
    for name in ("W_xh", "W_hh", "b_h"):
        getattr(target.rnn, name).assign(getattr(source.rnn, name).numpy())


def chapters_model(d2l: ModuleType, V: int) -> Any:
    """The scratch model as a chapter writes it: plain variables, layers that return a list, own steps."""

    class Layers(d2l.Module):  # type: ignore[name-defined, misc]
        def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.W_xh = tf.Variable(d2l.normal((num_inputs, num_hiddens)) * sigma)
            self.W_hh = tf.Variable(d2l.normal((num_hiddens, num_hiddens)) * sigma)
            self.b_h = tf.Variable(d2l.zeros(num_hiddens))

        def forward(self, inputs: Any, state: Any = None) -> Any:
            H = d2l.zeros((inputs.shape[1], self.num_hiddens)) if state is None else state
            outputs = []
            for X in inputs:
                H = d2l.tanh(d2l.matmul(X, self.W_xh) + d2l.matmul(H, self.W_hh) + self.b_h)
                outputs.append(H)
            return outputs, H

    class Head(d2l.Classifier):  # type: ignore[name-defined, misc]
        def __init__(self, rnn: Any, vocab_size: int, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.num_steps_taken = 0
            self.W_hq = tf.Variable(d2l.normal((self.rnn.num_hiddens, self.vocab_size)) * self.rnn.sigma)
            self.b_q = tf.Variable(d2l.zeros(self.vocab_size))

        def training_step(self, batch: Any) -> Any:
            self.num_steps_taken += 1
            loss = self.loss(self(*batch[:-1]), batch[-1])
            self.plot("ppl", d2l.exp(loss), train=True)
            return loss

        def validation_step(self, batch: Any) -> None:
            loss = self.loss(self(*batch[:-1]), batch[-1])
            self.plot("ppl", d2l.exp(loss), train=False)

        def forward(self, X: Any, state: Any = None) -> Any:
            outputs, _ = self.rnn(tf.one_hot(tf.transpose(X), self.vocab_size), state)
            return d2l.stack([d2l.matmul(H, self.W_hq) + self.b_q for H in outputs], 1)

    return Head(Layers(V, 16, sigma=0.1), V, lr=1.0)


def test_a_chapters_model_trains_as_the_librarys(d2l: ModuleType, data: Any) -> None:
    theirs = chapters_model(d2l, len(data.vocab))
    ours = language_model(d2l, data, sigma=0.1)
    copy_into(ours, theirs)
    assert len(theirs.trainable_variables) == 5, "plain variables are trained, also those of the layers"
    seen = []
    for model in (theirs, ours):
        d2l.seed_everything(1)
        trainer = d2l.Trainer(max_epochs=2, gradient_clip_val=0.3)
        trainer.fit(model, data)
        seen.append([(r.train_perplexity, r.val_perplexity) for r in trainer.history])
    assert seen[0] == [pytest.approx(pair, rel=1e-5) for pair in seen[1]]
    assert seen[0][1][1] < seen[0][0][1] < 28
    for label in ("train_ppl", "val_ppl"):
        points = [model.board.data[label] for model in (theirs, ours)]
        assert [p.x for p in points[0]] == [p.x for p in points[1]]
        assert [p.y for p in points[0]] == pytest.approx([p.y for p in points[1]], rel=1e-5)
    # Validation on the board is what the history has: of all tokens, not a mean of batches.
    assert [p.y for p in ours.board.data["val_ppl"]] == pytest.approx([v for _, v in seen[1]], rel=1e-5)
    assert theirs.num_steps_taken == 10, "a step that a cell wrote runs for every batch"


def test_the_librarys_steps_are_compiled_and_traced_once_a_shape(
    d2l: ModuleType, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[Any] = []
    plain = d2l.RNN.forward

    def forward(self: Any, inputs: Any, state: Any = None) -> Any:
        if not tf.executing_eagerly():
            shapes.append(inputs.shape)
        return plain(self, inputs, state)

    monkeypatch.setattr(d2l.RNN, "forward", forward)
    model = d2l.RNNLM(d2l.RNN(16), len(data.vocab), lr=1)
    d2l.Trainer(max_epochs=3).fit(model, data)
    # Batches of 64 and the 44 and 36 that are left, of training and of validation; one-hot, as it is no
    # longer the library's own.
    assert sorted(shape[1] for shape in shapes) == [36, 44, 64, 64]
    assert {tuple(shape)[2] for shape in shapes} == {28}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_is_clipped(d2l: ModuleType, data: Any, dtype: str) -> None:
    random_numbers = np.random.default_rng(0)
    gradients = [tf.constant(random_numbers.normal(size=(3, n)), dtype) for n in (2, 4)]
    sparse = tf.IndexedSlices(gradients[0], tf.constant([0, 2, 5]), tf.constant([6, 2]))
    norm = math.sqrt(sum(float(tf.reduce_sum(g**2)) for g in gradients))
    trainer = d2l.Trainer(1)
    kept = trainer.clip_gradients(2 * norm, gradients)
    for clip in (trainer.clip_gradients, lambda theta, grads: d2l.grad_clipping(grads, theta)):
        clipped = clip(norm / 4, [sparse, gradients[1]])
        assert float(tf.linalg.global_norm(clipped)) == pytest.approx(norm / 4)
        np.testing.assert_allclose(clipped[0][5], gradients[0][2] / 4, rtol=1e-5)
    for one, other in zip(kept, gradients, strict=True):
        np.testing.assert_array_equal(one, other)
    # And the trainer does so in its steps: with a tiny norm a step goes nowhere.
    model = language_model(d2l, data, sigma=0.5)
    before = values(model.variables)
    d2l.Trainer(max_epochs=1, gradient_clip_val=1e-9).fit(model, data)
    for value, old in zip(values(model.variables), before, strict=True):
        np.testing.assert_allclose(value, old, rtol=0, atol=1e-7)


def test_an_epoch_that_a_chapter_writes(d2l: ModuleType, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit_epoch(self: Any) -> None:
        self.model.training = True
        for batch in self.train_dataloader:
            with tf.GradientTape() as tape:
                loss = self.model.training_step(self.prepare_batch(batch))
            grads = tape.gradient(loss, self.model.trainable_variables)
            if self.gradient_clip_val > 0:
                grads = self.clip_gradients(self.gradient_clip_val, grads)
            self.optim.apply_gradients(zip(grads, self.model.trainable_variables, strict=True))
            self.train_batch_idx += 1
        self.model.training = False
        for batch in self.val_dataloader:
            self.model.validation_step(self.prepare_batch(batch))
            self.val_batch_idx += 1

    own, theirs = language_model(d2l, data), language_model(d2l, data)
    copy_into(theirs, own)
    d2l.seed_everything(1)
    d2l.Trainer(max_epochs=2, gradient_clip_val=0.05).fit(own, data)
    monkeypatch.setattr(d2l.Trainer, "fit_epoch", fit_epoch)
    d2l.seed_everything(1)
    d2l.Trainer(max_epochs=2, gradient_clip_val=0.05).fit(theirs, data)
    for ours, other in zip(own.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), other.numpy(), rtol=0, atol=1e-6)
    assert len(theirs.board.data["val_ppl"]) == 2


def test_layers_of_keras_learn_their_sizes_and_train(d2l: ModuleType, data: Any) -> None:
    class LM(d2l.RNNLMScratch):  # type: ignore[name-defined, misc]
        def init_params(self) -> None:
            self.linear = keras.layers.Dense(self.vocab_size)

        def output_layer(self, hiddens: Any) -> Any:
            return d2l.transpose(self.linear(hiddens), (1, 0, 2))

    class GRU(d2l.RNN):  # type: ignore[name-defined, misc]
        def __init__(self, num_hiddens: int, num_layers: int, dropout: float = 0) -> None:
            d2l.Module.__init__(self)
            self.save_hyperparameters()
            cells = [keras.layers.GRUCell(num_hiddens, dropout=dropout) for _ in range(num_layers)]
            self.rnn = keras.layers.RNN(cells, return_sequences=True, return_state=True)

        def forward(self, X: Any, state: Any = None) -> Any:
            outputs, *state = self.rnn(d2l.transpose(X, (1, 0, 2)), state)
            return d2l.transpose(outputs, (1, 0, 2)), state

    model = LM(GRU(16, 2, dropout=0.1), len(data.vocab), lr=1)
    trainer = d2l.Trainer(max_epochs=3, gradient_clip_val=1, num_gpus=0)
    trainer.fit(model, data)
    assert len(model.trainable_variables) == 8
    assert trainer.history[-1].val_perplexity < trainer.history[0].val_perplexity


def test_every_layer_of_a_stack_in_a_list_trains(d2l: ModuleType, data: Any) -> None:
    class Stack(d2l.Module):  # type: ignore[name-defined, misc]
        def __init__(self, num_inputs: int, num_hiddens: int, num_layers: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            sizes = [num_inputs] + [num_hiddens] * (num_layers - 1)
            self.rnns = [d2l.RNNScratch(size, num_hiddens, 0.1) for size in sizes]

        def forward(self, inputs: Any, Hs: Any = None) -> Any:
            outputs = inputs
            if Hs is None:
                Hs = [None] * self.num_layers
            for i in range(self.num_layers):
                outputs, Hs[i] = self.rnns[i](outputs, Hs[i])
                outputs = d2l.stack(outputs, 0)
            return outputs, Hs

    layers = Stack(len(data.vocab), 16, 3)
    model = d2l.RNNLMScratch(layers, len(data.vocab), lr=1)
    before = values(model.trainable_variables)
    assert len(before) == 11
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(model, data)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert (variable.numpy() != old).any(), variable.name
    # The state goes back in, for more than one row, and the caller's list stays as it is.
    X = d2l.rand((8, 3, len(data.vocab)))
    whole, _ = layers(X)
    first, state = layers(X[:4])
    handed = list(state)
    second, _ = layers(X[4:], handed)
    np.testing.assert_allclose(d2l.concat([first, second], 0), whole, atol=1e-6)
    assert all(one is other for one, other in zip(handed, state, strict=True))


def test_validation_has_no_dropout_and_training_has(d2l: ModuleType, data: Any) -> None:
    model = d2l.RNNLM(d2l.GRU(32, num_layers=2, dropout=0.9), len(data.vocab), lr=1)
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(model, data)
    batch = next(iter(data.val_dataloader()))
    assert float(trainer.evaluate(batch)) == float(trainer.evaluate(batch))
    trainer.optim.learning_rate = 0.0
    losses = {float(trainer.update(batch)) for _ in range(3)}
    assert len(losses) == 3
    # What comes back after a divergence has the same masks before it.
    kept = trainer.copy_parameters()
    again = []
    for _ in range(2):
        trainer.put_back_parameters(kept)
        again.append(float(trainer.update(batch)))
    assert again[0] == again[1]


def test_predictions_have_no_dropout(d2l: ModuleType, data: Any) -> None:
    model = d2l.RNNLM(d2l.GRU(64, num_layers=2, dropout=0.9), len(data.vocab), lr=1)
    model.training = model.rnn.training = True
    written = model.predict("it has", 30, data.vocab)
    assert written.startswith("it has")
    assert len(written) == 36
    assert model.rnn.training
    assert {model.predict("it has", 30, data.vocab) for _ in range(3)} == {written}
    assert model.predict("It has", 0, data.vocab, d2l.cpu()) == "it has"
    with pytest.raises(PromptError):
        model.predict("", 3, data.vocab)


def test_predictions_are_the_likeliest_of_the_whole_text(d2l: ModuleType, data: Any) -> None:
    model = language_model(d2l, data, sigma=0.5)
    bias = model.b_q.numpy()
    bias[data.vocab.unk] = -100.0  # it is written as five characters
    model.b_q.assign(bias)
    written = model.predict("it has", 12, data.vocab)
    likeliest = d2l.argmax(model(d2l.tensor([data.vocab[list(written)]])), axis=-1)[0]
    assert data.vocab.to_tokens(likeliest[5:-1].numpy()) == list(written[6:])


def test_windows_are_views_and_do_not_overlap(d2l: ModuleType) -> None:
    data = d2l.TimeMachine(batch_size=100, num_steps=32)
    assert data.X.base is not None
    assert data.X.strides == (4, 4)
    assert data.X.__array_interface__["data"][0] + 4 == data.Y.__array_interface__["data"][0]
    assert (len(data.train_dataloader()), len(data.val_dataloader())) == (100, 50)
    epochs = [np.concatenate([X[:, :8] for X, _ in data.train_dataloader()]) for _ in range(2)]
    assert epochs[0].shape == epochs[1].shape == (10_000, 8)
    assert not np.array_equal(*epochs)
    assert np.array_equal(*(np.sort(epoch, axis=0) for epoch in epochs))
    X, _ = next(iter(data.val_dataloader()))
    assert X.dtype == tf.int32
    np.testing.assert_array_equal(X, data.X[10_032:10_132])
    with pytest.raises(TextError, match="do not fit"):
        d2l.TimeMachine(1024, 32, num_train=180_000)


def test_a_loss_that_is_no_number_puts_the_parameters_back(d2l: ModuleType, data: Any) -> None:
    model = language_model(d2l, data)

    def training_step(batch: Any) -> Any:
        return model.loss(model(batch[0]), batch[1]) * math.nan

    model.training_step = training_step
    kept = values(model.variables)
    with pytest.raises(DivergedError, match="epoch 1"):
        d2l.Trainer(max_epochs=1).fit(model, data)
    for value, old in zip(values(model.variables), kept, strict=True):
        np.testing.assert_array_equal(value, old)


def test_a_subclass_with_vectors_of_its_own(d2l: ModuleType, data: Any) -> None:
    class Shouting(d2l.RNNLMScratch):  # type: ignore[name-defined, misc]
        def one_hot(self, tokens: Any) -> Any:
            return 2 * super().one_hot(tokens)

    plain = language_model(d2l, data, sigma=0.5)
    loud = Shouting(plain.rnn, len(data.vocab))
    copy_into(loud, plain)
    assert np.abs(loud(data.X[:2]) - plain(data.X[:2])).max() > 0.1


def test_a_model_of_the_library_is_still_kerass(d2l: ModuleType, data: Any) -> None:
    model = language_model(d2l, data)
    logits, classes = model(data.X[:3]), data.Y[:3]
    assert model.loss(logits, classes).shape == ()  # Keras would put None in its place
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert model.evaluate(data.X[:64], data.Y[:64], verbose=0) == pytest.approx(math.log(28), rel=0.01)


def first_edition_net(d2l: ModuleType, vocab: Any, kind: str) -> Any:
    if kind == "deep":
        cells = keras.layers.StackedRNNCells([keras.layers.LSTMCell(16) for _ in range(2)])
        layer = keras.layers.RNN(cells, return_sequences=True, return_state=True)
        return d2l.RNNModel(layer, len(vocab))
    if kind != "functions":
        layer = {"RNN": keras.layers.SimpleRNN, "GRU": keras.layers.GRU, "LSTM": keras.layers.LSTM}[kind]
        return d2l.RNNModel(layer(16, return_sequences=True, return_state=True), len(vocab))

    def params(vocab_size: int, h: int) -> list[Any]:
        shapes = [(vocab_size, h), (h, h), (h,), (h, vocab_size), (vocab_size,)]
        return [tf.Variable(d2l.normal(shape, stddev=0.1)) for shape in shapes]

    def state(batch_size: int, h: int) -> Any:
        return (d2l.zeros((batch_size, h)),)

    def forward(inputs: Any, state: Any, params: list[Any]) -> Any:
        W_xh, W_hh, b_h, W_hq, b_q = params
        (H,) = state
        outputs = []
        for X in inputs:
            H = d2l.tanh(X @ W_xh + H @ W_hh + b_h)
            outputs.append(H @ W_hq + b_q)
        return d2l.concat(outputs, 0), (H,)

    return d2l.RNNModelScratch(len(vocab), 16, state, forward, params)


@pytest.mark.parametrize("kind", ["functions", "RNN", "GRU", "LSTM", "deep"])
@pytest.mark.parametrize("use_random_iter", [False, True])
def test_the_first_editions_training(
    d2l: ModuleType, capsys: pytest.CaptureFixture[str], kind: str, use_random_iter: bool
) -> None:
    train_iter, vocab = d2l.load_data_time_machine(8, 10, use_random_iter, max_tokens=2000)
    strategy = tf.distribute.OneDeviceStrategy(d2l.try_gpu()._device_name)
    with strategy.scope():
        net = first_edition_net(d2l, vocab, kind)
    before = values(net.trainable_variables)
    d2l.train_ch8(net, train_iter, vocab, 1, 3, strategy, use_random_iter)
    for value, old in zip(values(net.trainable_variables), before, strict=True):
        assert (value != old).any()
    first, *written = capsys.readouterr().out.splitlines()
    assert float(first.split()[1].rstrip(",")) < 25
    assert [line[:9] for line in written] == ["time trav", "traveller"]
    assert [len(line) for line in written] == [len("time traveller") + 50, len("traveller") + 50]


def test_the_first_editions_model_reads_step_by_step(d2l: ModuleType) -> None:
    _, vocab = d2l.load_data_time_machine(2, 3, max_tokens=300)
    net = first_edition_net(d2l, vocab, "LSTM")
    tokens = tf.constant([[1, 2, 3], [4, 5, 6]])
    logits, _ = net(tokens, net.begin_state(batch_size=2))
    state = net.begin_state(batch_size=2)
    for t in range(3):
        one, state = net(tokens[:, t : t + 1], state)
        np.testing.assert_allclose(one, logits[2 * t : 2 * t + 2], atol=1e-6)


def test_the_first_edition_carries_the_state_and_clips(d2l: ModuleType) -> None:
    train_iter, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300)
    net = first_edition_net(d2l, vocab, "functions")
    states, norms = [], []
    plain = net.forward_fn

    def forward(inputs: Any, state: Any, params: Any) -> Any:
        outputs, after = plain(inputs, state, params)
        if tf.executing_eagerly():
            states.append((state, after))
        return outputs, after

    def updater(batch_size: int, grads: Any) -> None:
        assert batch_size == 1
        norms.append(float(tf.linalg.global_norm(grads)))

    def loss(targets: Any, outputs: Any) -> Any:
        return 100 * keras.losses.sparse_categorical_crossentropy(targets, outputs, from_logits=True)

    net.forward_fn = forward
    for use_random_iter in (False, True):
        states.clear()
        d2l.train_epoch_ch8(net, train_iter, loss, updater, use_random_iter)
        for (_, (before,)), ((begun,), _) in pairwise(states):
            assert np.array_equal(begun, before) is not use_random_iter
            assert begun.numpy().any() is np.bool_(not use_random_iter)
    assert len(norms) > 10
    assert norms == [pytest.approx(1.0, rel=1e-4)] * len(norms)


def test_sgd_divides(d2l: ModuleType) -> None:
    p = tf.Variable(tf.ones(3))
    d2l.sgd([p], [tf.range(3.0)], lr=0.5, batch_size=2)
    assert p.numpy().tolist() == [1.0, 0.75, 0.5]


def test_a_classifier_counts_what_is_right(d2l: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    classifier = d2l.Classifier()
    logits, classes = d2l.tensor([[1.0, 2.0], [3.0, 0.0]]), d2l.tensor([1, 1])
    assert float(classifier.accuracy(logits, classes)) == 0.5
    assert classifier.accuracy(logits, classes, averaged=False).numpy().tolist() == [1, 0]
    assert classifier.loss(logits, classes, averaged=False).shape == (2,)

    class Net(d2l.Classifier):  # type: ignore[name-defined, misc]
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)])

    class Points(d2l.DataModule):  # type: ignore[name-defined, misc]
        def __init__(self, batch_size: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.X = d2l.normal((64, 3))
            self.Y = tf.cast(self.X[:, 0] > 0, tf.int32)

        def get_dataloader(self, train: bool) -> Any:
            return self.get_tensorloader((self.X, self.Y), train)

    net = Net(lr=0.5)
    net.layer_summary((1, 3))
    assert capsys.readouterr().out.count("output shape:") == 2
    d2l.Trainer(max_epochs=20).fit(net, Points(16))
    assert net.board.data["val_acc"][-1].y > 0.9


def test_what_has_no_gradient_stays(d2l: ModuleType, data: Any) -> None:
    model = language_model(d2l, data)
    model.unused = tf.Variable(tf.ones(3))
    assert len(model.trainable_variables) == 6
    trainer = d2l.Trainer(max_epochs=1, gradient_clip_val=1)
    trainer.fit(model, data)
    assert trainer.history[0].train_perplexity < 28
    assert model.unused.numpy().tolist() == [1, 1, 1]


def test_a_seed_decides(d2l: ModuleType, data: Any) -> None:
    seen = []
    for _ in range(2):
        d2l.seed_everything(3)
        model = language_model(d2l, data, sigma=0.1)
        order = next(iter(data.train_dataloader()))[0].numpy()
        seen.append((model.W_hq.numpy(), order, d2l.normal((2,)).numpy()))
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tensor_helpers(d2l: ModuleType) -> None:
    x = d2l.reshape(d2l.arange(6), (2, 3))
    np.testing.assert_array_equal(d2l.stack(x, 0), x)
    np.testing.assert_array_equal(d2l.stack(x, 1), d2l.transpose(x))
    np.testing.assert_array_equal(d2l.stack([x[0], x[1]], 1), d2l.transpose(x))
    assert d2l.tensor([np.arange(3), np.arange(3)]).numpy().tolist() == [[0, 1, 2]] * 2
    assert d2l.tensor(3.0).shape == ()
    assert d2l.size(x) == 6
    assert d2l.numpy(x).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert d2l.astype(x, d2l.float32).dtype == tf.float32
    assert d2l.randn(2, 3).shape == (2, 3)
    assert len(d2l.try_all_gpus()) == max(1, d2l.num_gpus())
    assert d2l.gpu(1)._device_name == "/GPU:1"
