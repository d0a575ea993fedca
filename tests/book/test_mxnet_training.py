"""What chapters do with the MXNet tab, and the silent errors of the book's package there."""

from __future__ import annotations

import copy
import math
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from d2lrnn.errors import DivergedError, PromptError, TextError
from d2lrnn.registry import BackendEntry


@pytest.fixture(autouse=True)
def _only_mxnet(entry: BackendEntry, d2l: ModuleType) -> Iterator[None]:
    if entry.name != "mxnet":
        pytest.skip("these tests are written in MXNet")
    import mxnet as mx

    d2l.seed_everything(0)
    random.seed(0)
    # As after npx.set_np() in the book's cells.
    with mx.util.np_shape(True), mx.util.np_array(True):
        yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture
def data(d2l: ModuleType) -> Any:
    return d2l.TimeMachine(batch_size=64, num_steps=8, num_train=300, num_val=100)


def language_model(d2l: ModuleType, data: Any, **options: Any) -> Any:
    return d2l.RNNLMScratch(d2l.RNNScratch(len(data.vocab), 16, **options), len(data.vocab), lr=1.0)


def chapters_layer(d2l: ModuleType) -> Any:
    """The scratch layer as a chapter writes it: plain arrays, and a list of outputs."""

    class Layer(d2l.Module):  # type: ignore[name-defined, misc]
        def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.W_xh = d2l.randn(num_inputs, num_hiddens) * sigma
            self.W_hh = d2l.randn(num_hiddens, num_hiddens) * sigma
            self.b_h = d2l.zeros(num_hiddens)

        def forward(self, inputs: Any, state: Any = None) -> Any:
            H = d2l.zeros((inputs.shape[1], self.num_hiddens), ctx=inputs.ctx) if state is None else state
            outputs = []
            for X in inputs:
                H = d2l.tanh(d2l.matmul(X, self.W_xh) + d2l.matmul(H, self.W_hh) + self.b_h)
                outputs.append(H)
            return outputs, H

    return Layer


def chapters_head(d2l: ModuleType) -> Any:
    """A head of plain arrays, with steps of its own."""
    from mxnet import npx

    class Head(d2l.Classifier):  # type: ignore[name-defined, misc]
        def __init__(self, rnn: Any, vocab_size: int, lr: float = 1.0) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.W_hq = d2l.randn(self.rnn.num_hiddens, self.vocab_size) * self.rnn.sigma
            self.b_q = d2l.zeros(self.vocab_size)
            for param in self.get_scratch_params():
                param.attach_grad()

        def training_step(self, batch: Any) -> Any:
            loss = self.loss(self(*batch[:-1]), batch[-1])
            self.plot("ppl", d2l.exp(loss), train=True)
            return loss

        def validation_step(self, batch: Any) -> None:
            loss = self.loss(self(*batch[:-1]), batch[-1])
            self.plot("ppl", d2l.exp(loss), train=False)

        def forward(self, X: Any, state: Any = None) -> Any:
            outputs, _ = self.rnn(npx.one_hot(X.T, self.vocab_size), state)
            return d2l.stack([d2l.matmul(H, self.W_hq) + self.b_q for H in outputs], 1)

    return Head


def values_of(model: Any) -> list[Any]:
    arrays = [*model.get_scratch_params(), *(p.data() for p in model.collect_params().values())]
    return [array.asnumpy() for array in arrays]


def copy_values(one: Any, other: Any) -> None:
    for p, q in zip(one.collect_params().values(), other.collect_params().values(), strict=True):
        q.set_data(p.data())


def test_a_chapters_model_trains_as_the_librarys(d2l: ModuleType, data: Any) -> None:
    V = len(data.vocab)
    theirs = chapters_head(d2l)(chapters_layer(d2l)(V, 16, sigma=0.1), V, lr=1.0)
    ours = language_model(d2l, data, sigma=0.1)
    mixed = d2l.RNNLMScratch(chapters_layer(d2l)(V, 16, sigma=0.1), V, lr=1.0)
    for name in ("W_xh", "W_hh"):
        getattr(ours.rnn, name).set_data(getattr(theirs.rnn, name))
        getattr(mixed.rnn, name)[:] = getattr(theirs.rnn, name)
    for model in (ours, mixed):
        model.W_hq.set_data(theirs.W_hq)
    seen = []
    for model in (theirs, ours, mixed):
        d2l.seed_everything(1)
        trainer = d2l.Trainer(max_epochs=2, gradient_clip_val=0.3)
        trainer.fit(model, data)
        seen.append([(r.train_perplexity, r.val_perplexity) for r in trainer.history])
    for other in seen[1:]:
        assert other == [pytest.approx(pair, rel=1e-5) for pair in seen[0]]
    assert seen[0][1][1] < seen[0][0][1] < 28
    for label in ("train_ppl", "val_ppl"):
        points = [[p.y for p in model.board.data[label]] for model in (theirs, ours)]
        assert points[0] == pytest.approx(points[1], rel=1e-5)
    # Validation on the board is what the history has: of all tokens, not a mean of batches.
    assert [p.y for p in ours.board.data["val_ppl"]] == pytest.approx([v for _, v in seen[1]], rel=1e-5)


@pytest.mark.parametrize("kind", ["arrays", "blocks"])
def test_layers_in_a_list_train(d2l: ModuleType, data: Any, kind: str) -> None:
    class Stacked(d2l.Module):  # type: ignore[name-defined, misc]
        def __init__(self, layer: Any, num_inputs: int, num_hiddens: int, num_layers: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.sigma = 0.5
            self.rnns = [layer(num_inputs, num_hiddens, 0.5)]
            self.rnns += [layer(num_hiddens, num_hiddens, 0.5) for _ in range(num_layers - 1)]

        def forward(self, inputs: Any, Hs: Any = None) -> Any:
            outputs = inputs
            if Hs is None:
                Hs = [None] * self.num_layers
            for i in range(self.num_layers):
                outputs, Hs[i] = self.rnns[i](outputs, Hs[i])
                outputs = d2l.stack(outputs, 0)
            return outputs, Hs

    layer = chapters_layer(d2l) if kind == "arrays" else d2l.RNNScratch
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Gluon warns of blocks in lists
        model = d2l.RNNLMScratch(Stacked(layer, len(data.vocab), 8, 3), len(data.vocab), lr=1)
        before = values_of(model)
        assert len(before) == 3 * 3 + 2
        d2l.Trainer(max_epochs=1).fit(model, data)
    for value, kept in zip(values_of(model), before, strict=True):
        assert (value != kept).mean() > 0.8  # some letters are not in this text
    assert len(model.predict("it has", 5, data.vocab)) == 11


def test_the_gradient_is_clipped(d2l: ModuleType, data: Any) -> None:
    from mxnet import autograd

    V = len(data.vocab)
    for model in (language_model(d2l, data, sigma=0.5), d2l.RNNLM(d2l.GRU(8, 2), V, lr=1.0),
                  d2l.RNNLMScratch(chapters_layer(d2l)(V, 16, 0.5), V, lr=1.0)):  # fmt: skip
        with autograd.record():
            loss = model.loss(model(data.X[:64]), data.Y[:64])
        loss.backward()
        params = model.parameters()
        gradients = [p.grad if isinstance(params, list) else p.grad()
                     for p in (params if isinstance(params, list) else params.values())]  # fmt: skip
        before = [g.asnumpy() for g in gradients]
        norm = math.sqrt(sum((g.astype(float) ** 2).sum() for g in before))
        trainer = d2l.Trainer(1)
        trainer.clip_gradients(2 * norm, model)
        for g, kept in zip(gradients, before, strict=True):
            assert_array_equal(g.asnumpy(), kept)
        trainer.clip_gradients(norm / 4, model)
        for g, kept in zip(gradients, before, strict=True):
            assert_allclose(g.asnumpy(), kept / 4, rtol=1e-5)
        # And the trainer does so in its steps: with a tiny norm a step goes nowhere.
        kept = values_of(model)
        d2l.Trainer(max_epochs=1, gradient_clip_val=1e-9).fit(model, data)
        for one, two in zip(values_of(model), kept, strict=True):
            assert_allclose(one, two, rtol=0, atol=1e-7)


def test_an_epoch_that_a_chapter_writes(d2l: ModuleType, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mxnet import autograd

    def fit_epoch(self: Any) -> None:
        for batch in self.train_dataloader:
            with autograd.record():
                loss = self.model.training_step(self.prepare_batch(batch))
            loss.backward()
            if self.gradient_clip_val > 0:
                self.clip_gradients(self.gradient_clip_val, self.model)
            self.optim.step(1)
            self.train_batch_idx += 1
        for batch in self.val_dataloader:
            self.model.validation_step(self.prepare_batch(batch))
            self.val_batch_idx += 1

    own, theirs = (language_model(d2l, data) for _ in range(2))
    copy_values(own, theirs)
    d2l.seed_everything(1)
    d2l.Trainer(max_epochs=2, gradient_clip_val=1).fit(own, data)
    monkeypatch.setattr(d2l.Trainer, "fit_epoch", fit_epoch)
    d2l.seed_everything(1)
    d2l.Trainer(max_epochs=2, gradient_clip_val=1).fit(theirs, data)
    for ours, other in zip(values_of(own), values_of(theirs), strict=True):
        assert_allclose(ours, other, atol=1e-6)


def test_gluons_layers_learn_their_sizes(d2l: ModuleType, data: Any) -> None:
    from mxnet.gluon import nn, rnn

    class LM(d2l.RNNLMScratch):  # type: ignore[name-defined, misc]
        def init_params(self) -> None:
            self.linear = nn.Dense(self.vocab_size, flatten=False)
            self.initialize()

        def output_layer(self, hiddens: Any) -> Any:
            return d2l.swapaxes(self.linear(hiddens), 0, 1)

    class GRU(d2l.RNN):  # type: ignore[name-defined, misc]
        def __init__(self, num_hiddens: int, num_layers: int, dropout: float = 0) -> None:
            d2l.Module.__init__(self)
            self.save_hyperparameters()
            self.rnn = rnn.GRU(num_hiddens, num_layers, dropout=dropout)

    class Nameless(d2l.RNN):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            d2l.Module.__init__(self)
            self.rnn = rnn.GRU(16)

    for model in (LM(GRU(16, 2, dropout=0.5), len(data.vocab), lr=1), d2l.RNNLM(Nameless(), 28, lr=1)):
        trainer = d2l.Trainer(max_epochs=3, gradient_clip_val=1, num_gpus=0)
        trainer.fit(model, data)
        assert trainer.history[-1].val_perplexity < trainer.history[0].val_perplexity


def test_values_are_given_once_and_without_a_warning(d2l: ModuleType, data: Any) -> None:
    from mxnet import init

    rnn = d2l.RNN(8, num_inputs=len(data.vocab))
    before = values_of(rnn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = d2l.RNNLM(rnn, len(data.vocab))
        model.initialize()
        for value, kept in zip(values_of(rnn), before, strict=True):
            assert_array_equal(value, kept)
        model.initialize(force_reinit=True, init=init.One())
    assert (model.linear.weight.data().asnumpy() == 1).all()


def test_validation_has_no_dropout_and_training_has(d2l: ModuleType, data: Any) -> None:
    model = d2l.RNNLM(d2l.GRU(32, num_layers=2, dropout=0.9), len(data.vocab), lr=1)
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(model, data)
    batch = next(iter(data.val_dataloader()))
    assert float(trainer.evaluate(batch)) == float(trainer.evaluate(batch))
    losses = []
    for _ in range(2):
        kept = trainer.copy_parameters()
        losses.append(float(trainer.update(batch)))
        trainer.put_back_parameters(kept)
    assert losses[0] != losses[1]


def test_predictions_have_no_dropout_and_no_graph(d2l: ModuleType, data: Any) -> None:
    from mxnet import autograd

    rnn = d2l.GRU(64, num_layers=2, dropout=0.9)
    model = d2l.RNNLM(rnn, len(data.vocab), lr=1)
    graphs: list[bool] = []
    rnn.register_forward_hook(lambda *_: graphs.append(autograd.is_recording() or autograd.is_training()))
    written = model.predict("it has", 30, data.vocab)
    assert written.startswith("it has")
    assert len(written) == 36
    with autograd.record():
        assert {model.predict("it has", 30, data.vocab) for _ in range(3)} == {written}
    assert graphs
    assert not any(graphs)
    assert model.predict("It has", 0, data.vocab, d2l.cpu()) == "it has"
    with pytest.raises(PromptError):
        model.predict("", 3, data.vocab)


def test_predictions_are_the_likeliest_of_the_whole_text(d2l: ModuleType, data: Any) -> None:
    model = language_model(d2l, data, sigma=0.5)
    bias = d2l.zeros(len(data.vocab))
    bias[data.vocab.unk] = -100.0  # it is written as five characters
    model.b_q.set_data(bias)
    written = model.predict("it has", 12, data.vocab)
    tokens = d2l.tensor([data.vocab[list(written)]])
    likeliest = model(tokens).argmax(-1)[0].asnumpy().astype(int)
    assert data.vocab.to_tokens(likeliest[5:-1]) == list(written[6:])


def test_windows_are_cut_when_asked_for_and_do_not_overlap(d2l: ModuleType) -> None:
    data = d2l.TimeMachine(batch_size=100, num_steps=32)
    assert data.X.shape == data.Y.shape == (len(data.X), 32)
    # Views of the text: nothing is written out.
    assert data.X._rows.base is not None
    assert numpy.shares_memory(data.X._rows, data.Y._rows)
    assert_array_equal(data.X[5:7, 1:].asnumpy(), data.Y[5:7, :-1].asnumpy())
    assert (len(data.train_dataloader()), len(data.val_dataloader())) == (100, 50)
    epochs = [numpy.concatenate([X.asnumpy()[:, :8] for X, _ in data.train_dataloader()]) for _ in range(2)]
    assert epochs[0].shape == epochs[1].shape == (10_000, 8)
    assert not numpy.array_equal(*epochs)
    rows = [sorted(map(tuple, epoch.tolist())) for epoch in epochs]
    assert rows[0] == rows[1] == sorted(map(tuple, data.X[:10_000].asnumpy()[:, :8].tolist()))
    X, _ = next(iter(data.val_dataloader()))
    assert_array_equal(X.asnumpy(), data.X[10_032:10_132].asnumpy())
    with pytest.raises(TextError, match="do not fit"):
        d2l.TimeMachine(1024, 32, num_train=180_000)


def test_the_seed_decides_order_and_values(d2l: ModuleType, data: Any) -> None:
    def drawn() -> list[Any]:
        first = next(iter(data.train_dataloader()))[0].asnumpy()
        return [first, d2l.randn(3).asnumpy(), d2l.RNNScratch(4, 4).W_xh.data().asnumpy()]

    seen = []
    for seed in (3, 3, 4):
        d2l.seed_everything(seed)
        seen.append(drawn())
    for one, two, other in zip(*seen, strict=True):
        assert_array_equal(one, two)
        assert not numpy.array_equal(one, other)


def test_a_chapters_constructor_of_the_data(d2l: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(self: Any, batch_size: int, num_steps: int, num_train: int = 100, num_val: int = 50) -> None:
        super(d2l.TimeMachine, self).__init__()
        self.save_hyperparameters()
        corpus, self.vocab = self.build(self._download())
        array = d2l.tensor([corpus[i : i + num_steps + 1] for i in range(1000)])
        self.X, self.Y = array[:, :-1], array[:, 1:]

    monkeypatch.setattr(d2l.TimeMachine, "__init__", init)
    data = d2l.TimeMachine(batch_size=2, num_steps=10)
    X, Y = next(iter(data.train_dataloader()))
    assert X.shape == Y.shape == (2, 10)
    assert bool((X[:, 1:] == Y[:, :-1]).all())
    d2l.Trainer(max_epochs=1).fit(language_model(d2l, data), data)


def test_a_loss_that_is_no_number_puts_the_parameters_back(d2l: ModuleType, data: Any) -> None:
    V = len(data.vocab)
    for model in (language_model(d2l, data), chapters_head(d2l)(chapters_layer(d2l)(V, 8), V)):
        model.training_step = lambda batch, m=model: m.loss(m(batch[0]), batch[1]) * math.nan
        kept = values_of(model)
        with pytest.raises(DivergedError, match="epoch 1"):
            d2l.Trainer(max_epochs=1).fit(model, data)
        for value, before in zip(values_of(model), kept, strict=True):
            assert_array_equal(value, before)


def test_a_subclass_with_vectors_of_its_own(d2l: ModuleType, data: Any) -> None:
    class Shouting(d2l.RNNLMScratch):  # type: ignore[name-defined, misc]
        def one_hot(self, tokens: Any) -> Any:
            return 2 * super().one_hot(tokens)

    plain = language_model(d2l, data, sigma=0.5)
    loud = Shouting(plain.rnn, len(data.vocab))
    copy_values(plain, loud)
    assert float(abs(loud(data.X[:2]) - plain(data.X[:2])).max()) > 1e-3


def test_what_a_chapter_adds_to_a_class_its_subclasses_have(
    d2l: ModuleType, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy semantics, put on by MXNet's own decorator, would leave copies of the methods in every class."""
    seen = []
    plain = d2l.RNNLMScratch.one_hot
    monkeypatch.setattr(d2l.RNNLMScratch, "one_hot", lambda self, X: seen.append(1) or plain(self, X))
    monkeypatch.setattr(d2l.Module, "configure_optimizers", lambda self: seen.append(2))
    model = d2l.RNNLM(d2l.LSTM(8), len(data.vocab))
    model(data.X[:2])
    model.configure_optimizers()
    assert seen == [1, 2]
    assert d2l.LSTM(8, 2).hparams == {"num_hiddens": 8, "num_layers": 2, "dropout": 0, "num_inputs": 0}


def test_parameters_move_with_their_gradients(d2l: ModuleType, data: Any) -> None:
    """Between two CPU contexts, as between any two devices."""
    import mxnet as mx

    V = len(data.vocab)
    model = d2l.RNNLMScratch(chapters_layer(d2l)(V, 8), V, lr=1)
    model.constants = {"list": [d2l.ones(2)]}
    model.shared = [model.rnn.W_hh]
    first = model.predict("it", 5, data.vocab)
    assert model.predict("it", 5, data.vocab, mx.cpu(1)) == first
    arrays = model.get_scratch_params()
    assert len(arrays) == 4
    assert (
        {a.ctx for a in arrays} == {p.list_ctx()[0] for p in model.collect_params().values()} == {mx.cpu(1)}
    )
    assert model.shared[0] is model.rnn.W_hh
    assert model.rnn.W_hh.grad.ctx == mx.cpu(1)
    assert model.constants["list"][0].grad is None
    before = values_of(model)
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(model, data)  # and back
    assert model.rnn.W_xh.ctx == mx.cpu(0)
    changed = [not numpy.array_equal(a, b) for a, b in zip(values_of(model), before, strict=True)]
    assert sum(changed) == 5, "all but the constant"


def test_without_the_books_set_np() -> None:
    code = """
from d2lrnn import mxnet as d2l
data = d2l.TimeMachine(batch_size=64, num_steps=8, num_train=300, num_val=100)
for head, rnn in ((d2l.RNNLMScratch, d2l.StackedRNNScratch(28, 8, 2)), (d2l.RNNLM, d2l.GRU(8, 2))):
    model, trainer = head(rnn, 28, lr=1), d2l.Trainer(max_epochs=1, gradient_clip_val=1)
    trainer.fit(model, data)
    print(trainer.history[0].val_perplexity < 28, len(model.predict("it has", 3, data.vocab)))
from mxnet.gluon import rnn
train_iter, vocab = d2l.load_data_time_machine(8, 10, max_tokens=500)
d2l.train_ch8(d2l.RNNModel(rnn.LSTM(8, 2), 28), train_iter, vocab, 1, 1, d2l.cpu())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["True 9", "True 9"]
    assert lines[2].startswith("perplexity 2")


def first_edition_net(d2l: ModuleType, vocab: Any, kind: str) -> Any:
    from mxnet import np
    from mxnet.gluon import rnn

    if kind != "functions":
        layers = {"RNN": rnn.RNN(16), "GRU": rnn.GRU(16, 2), "LSTM": rnn.LSTM(16, 2, bidirectional=True)}
        return d2l.RNNModel(layers[kind], len(vocab))

    def params(vocab_size: int, h: int, device: Any) -> list[Any]:
        shapes = [(vocab_size, h), (h, h), (h,), (h, vocab_size), (vocab_size,)]
        params = [np.random.normal(scale=0.1, size=shape, ctx=device) for shape in shapes]
        for param in params:
            param.attach_grad()
        return params

    def state(batch_size: int, h: int, device: Any) -> Any:
        return (d2l.zeros((batch_size, h), ctx=device),)

    def forward(inputs: Any, state: Any, params: list[Any]) -> Any:
        W_xh, W_hh, b_h, W_hq, b_q = params
        (H,) = state
        outputs = []
        for X in inputs:
            H = np.tanh(np.dot(X, W_xh) + np.dot(H, W_hh) + b_h)
            outputs.append(np.dot(H, W_hq) + b_q)
        return np.concatenate(outputs, axis=0), (H,)

    return d2l.RNNModelScratch(len(vocab), 16, d2l.try_gpu(), params, state, forward)


@pytest.mark.parametrize("kind", ["functions", "RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("use_random_iter", [False, True])
def test_the_first_editions_training(
    d2l: ModuleType, capsys: pytest.CaptureFixture[str], kind: str, use_random_iter: bool
) -> None:
    train_iter, vocab = d2l.load_data_time_machine(8, 10, use_random_iter, max_tokens=2000)
    net = first_edition_net(d2l, vocab, kind)
    d2l.train_ch8(net, train_iter, vocab, 1.0, 3, d2l.cpu(), use_random_iter)
    first, *written = capsys.readouterr().out.splitlines()
    assert float(first.split()[1].rstrip(",")) < 25
    assert [line[:9] for line in written] == ["time trav", "traveller"]
    assert [len(line) for line in written] == [len("time traveller") + 50, len("traveller") + 50]


def test_the_first_edition_carries_the_state_and_clips(d2l: ModuleType) -> None:
    from mxnet import gluon
    from mxnet.base import MXNetError

    train_iter, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300)
    net = first_edition_net(d2l, vocab, "functions")
    states: list[Any] = []
    norms = []
    plain = net.forward_fn

    def forward(inputs: Any, state: Any, params: Any) -> Any:
        outputs, after = plain(inputs, state, params)
        states.append((state[0], after[0]))
        return outputs, after

    def updater(batch_size: int) -> None:
        assert batch_size == 1
        norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in net.params)))

    def loss(outputs: Any, targets: Any) -> Any:
        return 100 * gluon.loss.SoftmaxCrossEntropyLoss()(outputs, targets)

    net.forward_fn = forward
    for use_random_iter in (False, True):
        states.clear()
        d2l.train_epoch_ch8(net, train_iter, loss, updater, d2l.cpu(), use_random_iter)
        for (_, before), (begun, _) in pairwise(states):
            assert numpy.array_equal(begun.asnumpy(), before.asnumpy()) is not use_random_iter
            assert begun is not before  # but detached from its graph
            assert begun.asnumpy().any() is not numpy.bool_(use_random_iter)
            with pytest.raises(MXNetError, match=r"not in a computational graph|without recording"):
                begun.backward()
    assert norms == [pytest.approx(1.0, rel=1e-4)] * len(norms)


def test_sgd_divides(d2l: ModuleType) -> None:
    from mxnet import autograd

    p = d2l.ones(3)
    p.attach_grad()
    with autograd.record():
        loss = (p * d2l.arange(3)).sum()
    loss.backward()
    d2l.sgd([p], lr=0.5, batch_size=2)
    assert p.asnumpy().tolist() == [1.0, 0.75, 0.5]
    d2l.SGD([p], lr=1).step(1)
    assert p.asnumpy().tolist() == [1.0, -0.25, -1.5]
    metric = d2l.Accumulator(2)
    metric.add(loss, d2l.size(p))
    assert (metric[0], metric[1]) == (3.0, 3.0)


def test_a_classifier_counts_what_is_right(d2l: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    from mxnet.gluon import nn

    classifier = d2l.Classifier()
    logits, classes = d2l.tensor([[1.0, 2.0], [3.0, 0.0]]), d2l.tensor([1, 1])
    assert float(classifier.accuracy(logits, classes)) == 0.5
    assert classifier.accuracy(logits, classes, averaged=False).asnumpy().tolist() == [1, 0]
    assert classifier.loss(logits, classes, averaged=False).shape == (2,)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2
    assert float(classifier.loss(logits, classes)) == pytest.approx(expected, rel=1e-5)

    class Net(d2l.Classifier):  # type: ignore[name-defined, misc]
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential()
            self.net.add(nn.Dense(4, activation="relu"), nn.Dense(2))
            self.initialize()

    class Points(d2l.DataModule):  # type: ignore[name-defined, misc]
        def __init__(self, batch_size: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.X = d2l.randn(64, 3)
            self.Y = (self.X[:, 0] > 0).astype("int32")

        def get_dataloader(self, train: bool) -> Any:
            return self.get_tensorloader((self.X, self.Y), train)

    net = Net(lr=0.5)
    net.layer_summary((1, 3))
    assert capsys.readouterr().out.count("output shape:") == 2
    d2l.Trainer(max_epochs=20).fit(net, Points(24))
    assert net.board.data["val_acc"][-1].y > 0.9


def test_tensor_helpers(d2l: ModuleType) -> None:
    x = d2l.reshape(d2l.arange(6), (2, 3))
    assert_array_equal(d2l.stack(x, 0).asnumpy(), x.asnumpy())
    assert_array_equal(d2l.stack(x, 1).asnumpy(), x.asnumpy().T)
    assert d2l.stack([x, x], axis=1).shape == (2, 2, 3)
    assert_array_equal(d2l.transpose(x).asnumpy(), d2l.numpy(x).T)
    assert (d2l.size(x), float(d2l.reduce_sum(x)), float(d2l.reduce_mean(x))) == (6, 15, 2.5)
    assert d2l.argmax(x, axis=1).asnumpy().tolist() == [2, 2]
    assert d2l.astype(x, d2l.int32).dtype == d2l.int32
    assert d2l.concat([x, x], 1).shape == (2, 6)
    assert d2l.swapaxes(d2l.expand_dims(x, 0), 0, 1).shape == (2, 1, 3)
    assert d2l.to(x, d2l.cpu()).ctx == d2l.cpu()
    assert d2l.tensor([numpy.arange(2), numpy.arange(2)]).shape == (2, 2)
    assert copy.deepcopy(d2l.repeat(x, 2, axis=0)).shape == (4, 3)
    assert [device.device_type for device in d2l.try_all_gpus()] in (["cpu"], ["gpu"] * d2l.num_gpus())
