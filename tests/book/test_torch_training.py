"""What chapters do with the torch tab, and the silent errors of the book's package there."""

from __future__ import annotations

import copy
import math
import random
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from d2lrnn.errors import DivergedError, PromptError, TextError
from d2lrnn.registry import BackendEntry


@pytest.fixture(autouse=True)
def _only_torch(entry: BackendEntry, d2l: ModuleType) -> None:
    if entry.name != "torch":
        pytest.skip("these tests are written in torch")
    d2l.seed_everything(0)
    random.seed(0)


@pytest.fixture
def data(d2l: ModuleType) -> Any:
    return d2l.TimeMachine(batch_size=64, num_steps=8, num_train=300, num_val=100)


def language_model(d2l: ModuleType, data: Any, **options: Any) -> Any:
    return d2l.RNNLMScratch(d2l.RNNScratch(len(data.vocab), 16, **options), len(data.vocab), lr=1.0)


def chapters_model(d2l: ModuleType) -> type:
    """The scratch model as a chapter writes it: layers that return a list, a head with a step of its own."""
    import torch
    from torch import nn

    class Layers(d2l.Module):
        def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.W_xh = nn.Parameter(d2l.randn(num_inputs, num_hiddens) * sigma)
            self.W_hh = nn.Parameter(d2l.randn(num_hiddens, num_hiddens) * sigma)
            self.b_h = nn.Parameter(d2l.zeros(num_hiddens))

        def forward(self, inputs: Any, state: Any = None) -> Any:
            H = d2l.zeros((inputs.shape[1], self.num_hiddens)) if state is None else state
            outputs = []
            for X in inputs:
                H = d2l.tanh(d2l.matmul(X, self.W_xh) + d2l.matmul(H, self.W_hh) + self.b_h)
                outputs.append(H)
            return outputs, H

    class Head(d2l.Classifier):
        def __init__(self, rnn: Any, vocab_size: int, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.W_hq = nn.Parameter(d2l.randn(self.rnn.num_hiddens, self.vocab_size) * self.rnn.sigma)
            self.b_q = nn.Parameter(d2l.zeros(self.vocab_size))

        def training_step(self, batch: Any) -> Any:
            loss = self.loss(self(*batch[:-1]), batch[-1])
            self.plot("ppl", d2l.exp(loss), train=True)
            return loss

        def validation_step(self, batch: Any) -> None:
            loss = self.loss(self(*batch[:-1]), batch[-1])
            self.plot("ppl", d2l.exp(loss), train=False)

        def forward(self, X: Any, state: Any = None) -> Any:
            vectors = nn.functional.one_hot(X.T, self.vocab_size).type(torch.float32)
            outputs, _ = self.rnn(vectors, state)
            return d2l.stack([d2l.matmul(H, self.W_hq) + self.b_q for H in outputs], 1)

    return type("Model", (Head,), {"layers": Layers})


def test_a_chapters_model_trains_as_the_librarys(d2l: ModuleType, data: Any) -> None:
    model_class: Any = chapters_model(d2l)
    V = len(data.vocab)
    theirs = model_class(model_class.layers(V, 16, sigma=0.1), V, lr=1.0)
    ours = language_model(d2l, data, sigma=0.1)
    ours.load_state_dict(theirs.state_dict())
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
        assert [p.y for p in points[0]] == pytest.approx([p.y for p in points[1]], rel=1e-5)
    # Validation on the board is what the history has: of all tokens, not a mean of batches.
    assert [p.y for p in ours.board.data["val_ppl"]] == pytest.approx([v for _, v in seen[1]], rel=1e-5)


def test_the_gradient_is_clipped(d2l: ModuleType, data: Any) -> None:
    import torch

    model = language_model(d2l, data, sigma=0.5)
    model.loss(model(data.X[:64]), data.Y[:64]).backward()
    parameters = list(model.parameters())
    before = [p.grad.clone() for p in parameters]
    norm = float(torch.cat([g.flatten() for g in before]).norm())
    trainer = d2l.Trainer(1)
    trainer.clip_gradients(2 * norm, model)
    assert all(torch.equal(p.grad, g) for p, g in zip(parameters, before, strict=True))
    trainer.clip_gradients(norm / 4, model)
    for p, g in zip(parameters, before, strict=True):
        torch.testing.assert_close(p.grad, g / 4)
    # And the trainer does so in its steps: with a tiny norm a step goes nowhere.
    kept = copy.deepcopy(model.state_dict())
    d2l.Trainer(max_epochs=1, gradient_clip_val=1e-9).fit(model, data)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, kept[name], atol=1e-7, rtol=0)


def test_an_epoch_that_a_chapter_writes(d2l: ModuleType, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def fit_epoch(self: Any) -> None:
        self.model.train()
        for batch in self.train_dataloader:
            loss = self.model.training_step(self.prepare_batch(batch))
            self.optim.zero_grad()
            with torch.no_grad():
                loss.backward()
                if self.gradient_clip_val > 0:
                    self.clip_gradients(self.gradient_clip_val, self.model)
                self.optim.step()
            self.train_batch_idx += 1
        self.model.eval()
        for batch in self.val_dataloader:
            with torch.no_grad():
                self.model.validation_step(self.prepare_batch(batch))
            self.val_batch_idx += 1

    own = language_model(d2l, data)
    theirs = copy.deepcopy(own)
    d2l.seed_everything(1)
    d2l.Trainer(max_epochs=2, gradient_clip_val=1).fit(own, data)
    monkeypatch.setattr(d2l.Trainer, "fit_epoch", fit_epoch)
    d2l.seed_everything(1)
    d2l.Trainer(max_epochs=2, gradient_clip_val=1).fit(theirs, data)
    for ours, other in zip(own.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, other)


def test_lazy_layers_learn_their_sizes(d2l: ModuleType, data: Any) -> None:
    from torch import nn

    class LM(d2l.RNNLMScratch):  # type: ignore[name-defined, misc]
        def init_params(self) -> None:
            self.linear = nn.LazyLinear(self.vocab_size)

        def output_layer(self, hiddens: Any) -> Any:
            return d2l.swapaxes(self.linear(hiddens), 0, 1)

    class GRU(d2l.RNN):  # type: ignore[name-defined, misc]
        def __init__(self, num_inputs: int, num_hiddens: int, num_layers: int, dropout: float = 0) -> None:
            d2l.Module.__init__(self)
            self.save_hyperparameters()
            self.rnn = nn.GRU(num_inputs, num_hiddens, num_layers, dropout=dropout)

    model = LM(GRU(len(data.vocab), 16, 2, dropout=0.5), len(data.vocab), lr=1)
    trainer = d2l.Trainer(max_epochs=3, gradient_clip_val=1, num_gpus=0)
    trainer.fit(model, data)
    assert trainer.history[-1].val_perplexity < trainer.history[0].val_perplexity


def test_validation_has_no_dropout_and_training_has(d2l: ModuleType, data: Any) -> None:
    model = d2l.RNNLM(d2l.GRU(len(data.vocab), 32, num_layers=2, dropout=0.9), len(data.vocab), lr=1)
    trainer = d2l.Trainer(max_epochs=1)
    trainer.fit(model, data)
    batch = next(iter(data.val_dataloader()))
    model.train()
    assert trainer.evaluate(batch) == trainer.evaluate(batch)
    losses = []
    for _ in range(2):
        kept = trainer.copy_parameters()
        losses.append(trainer.update(batch))
        trainer.put_back_parameters(kept)
    assert losses[0] != losses[1]


def test_predictions_have_no_dropout_and_no_graph(d2l: ModuleType, data: Any) -> None:
    import torch

    rnn = d2l.GRU(len(data.vocab), 64, num_layers=2, dropout=0.9)
    model = d2l.RNNLM(rnn, len(data.vocab), lr=1).train()
    graphs: list[bool] = []
    model.register_forward_hook(lambda *_: graphs.append(True))
    rnn.register_forward_hook(lambda _m, _i, o: graphs.append(o[0].requires_grad or rnn.training))
    written = model.predict("it has", 30, data.vocab)
    assert written.startswith("it has")
    assert len(written) == 36
    assert not any(graphs)
    assert model.training
    assert rnn.rnn.training
    assert {model.predict("it has", 30, data.vocab) for _ in range(3)} == {written}
    assert model.predict("It has", 0, data.vocab, torch.device("cpu")) == "it has"
    with pytest.raises(PromptError):
        model.predict("", 3, data.vocab)


def test_predictions_are_the_likeliest_of_the_whole_text(d2l: ModuleType, data: Any) -> None:
    import torch

    model = language_model(d2l, data, sigma=0.5)
    model.b_q.data[data.vocab.unk] = -100.0  # it is written as five characters
    written = model.predict("it has", 12, data.vocab)
    tokens = torch.tensor([data.vocab[list(written)]])
    likeliest = model(tokens).argmax(-1)[0]
    assert data.vocab.to_tokens(likeliest[5:-1]) == list(written[6:])


@pytest.mark.parametrize(
    "name", ["RNNScratch", "GRUScratch", "LSTMScratch", "StackedRNNScratch", "GRU", "LSTM"]
)
def test_states_are_taken_back_and_left_alone(d2l: ModuleType, name: str) -> None:
    import torch

    sizes = (5, 6, 2) if name == "StackedRNNScratch" or not name.endswith("Scratch") else (5, 6)
    layers = getattr(d2l, name)(*sizes)
    X = torch.randn(8, 3, 5)
    whole, _ = layers(X)
    first, state = layers(X[:4])
    kept = copy.deepcopy([s.detach() for s in _tensors(state)])
    second, _ = layers(X[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    assert all(torch.equal(a, b) for a, b in zip(kept, _tensors(state), strict=True))
    assert layers.num_hiddens == 6
    assert layers.hparams["num_inputs"] == 5


def _tensors(state: Any) -> list[Any]:
    import torch

    return [state] if isinstance(state, torch.Tensor) else [t for part in state for t in _tensors(part)]


def test_windows_are_views_and_do_not_overlap(d2l: ModuleType) -> None:
    import torch

    data = d2l.TimeMachine(batch_size=100, num_steps=32)
    assert data.X.untyped_storage().nbytes() == 8 * (len(data.X) + 32)
    assert data.X.data_ptr() + 8 == data.Y.data_ptr()
    assert (len(data.train_dataloader()), len(data.val_dataloader())) == (100, 50)
    epochs = [torch.cat([X[:, :8] for X, _ in data.train_dataloader()]) for _ in range(2)]
    assert epochs[0].shape == epochs[1].shape == (10_000, 8)
    assert not torch.equal(*epochs)
    X, _ = next(iter(data.val_dataloader()))
    assert torch.equal(X, data.X[10_032:10_132])
    with pytest.raises(TextError, match="do not fit"):
        d2l.TimeMachine(1024, 32, num_train=180_000)


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


def test_a_loss_that_is_no_number_puts_the_parameters_back(d2l: ModuleType, data: Any) -> None:
    import torch

    model = language_model(d2l, data)
    model.training_step = lambda batch: model.loss(model(batch[0]), batch[1]) * math.nan
    kept = copy.deepcopy(dict(model.named_parameters()))
    with pytest.raises(DivergedError, match="epoch 1"):
        d2l.Trainer(max_epochs=1).fit(model, data)
    assert all(torch.equal(kept[name], p) for name, p in model.named_parameters())


def test_a_subclass_with_vectors_of_its_own(d2l: ModuleType, data: Any) -> None:
    class Shouting(d2l.RNNLMScratch):  # type: ignore[name-defined, misc]
        def one_hot(self, tokens: Any) -> Any:
            return 2 * super().one_hot(tokens)

    plain = language_model(d2l, data, sigma=0.5)
    loud = Shouting(plain.rnn, len(data.vocab))
    loud.load_state_dict(plain.state_dict())
    assert not loud(data.X[:2]).equal(plain(data.X[:2]))


def first_edition_net(d2l: ModuleType, vocab: Any, kind: str) -> Any:
    import torch
    from torch import nn

    if kind != "functions":
        layer = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}[kind]
        return d2l.RNNModel(layer(len(vocab), 16), len(vocab))

    def params(vocab_size: int, h: int, device: Any) -> list[Any]:
        shapes = [(vocab_size, h), (h, h), (h,), (h, vocab_size), (vocab_size,)]
        return [(torch.randn(shape) * 0.1).requires_grad_() for shape in shapes]

    def state(batch_size: int, h: int, device: Any) -> Any:
        return (d2l.zeros((batch_size, h), device=device),)

    def forward(inputs: Any, state: Any, params: list[Any]) -> Any:
        W_xh, W_hh, b_h, W_hq, b_q = params
        (H,) = state
        outputs = []
        for X in inputs:
            H = torch.tanh(X @ W_xh + H @ W_hh + b_h)
            outputs.append(H @ W_hq + b_q)
        return torch.cat(outputs), (H,)

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
    import torch

    train_iter, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300)
    net = first_edition_net(d2l, vocab, "functions")
    states, norms = [], []
    plain = net.forward_fn

    def forward(inputs: Any, state: Any, params: Any) -> Any:
        states.append((state, None))
        outputs, after = plain(inputs, state, params)
        states[-1] = (state, after)
        return outputs, after

    def updater(batch_size: int) -> None:
        assert batch_size == 1
        norms.append(float(torch.cat([p.grad.flatten() for p in net.params]).norm()))

    def loss(outputs: Any, targets: Any) -> Any:
        return 100 * torch.nn.functional.cross_entropy(outputs, targets)

    net.forward_fn = forward
    for use_random_iter in (False, True):
        states.clear()
        d2l.train_epoch_ch8(net, train_iter, loss, updater, d2l.cpu(), use_random_iter)
        for (_, (before,)), ((begun,), _) in pairwise(states):
            assert not begun.requires_grad
            assert torch.equal(begun, before) is not use_random_iter
            assert begun.any().item() is not use_random_iter
    assert norms == [pytest.approx(1.0, rel=1e-4)] * len(norms)


def test_the_first_edition_forgets_the_gradient_of_the_batch_before(d2l: ModuleType) -> None:
    import torch

    train_iter, vocab = d2l.load_data_time_machine(4, 5, max_tokens=300)
    batch = next(iter(train_iter))
    net = first_edition_net(d2l, vocab, "RNN")
    gradients = []
    for batches in ([batch], [batch, batch]):
        updater = torch.optim.SGD(net.parameters(), lr=0.0)
        d2l.train_epoch_ch8(net, batches, torch.nn.CrossEntropyLoss(), updater, d2l.cpu(), True)
        gradients.append([p.grad.clone() for p in net.parameters()])
    for once, twice in zip(*gradients, strict=True):
        torch.testing.assert_close(once, twice)


def test_sgd_divides_and_forgets(d2l: ModuleType) -> None:
    import torch

    p = torch.ones(3, requires_grad=True)
    (p * torch.arange(3.0)).sum().backward()
    d2l.sgd([p], lr=0.5, batch_size=2)
    assert p.tolist() == [1.0, 0.75, 0.5]
    assert p.grad is not None
    assert p.grad.tolist() == [0, 0, 0]


def test_sums_are_detached(d2l: ModuleType) -> None:
    import torch

    metric = d2l.Accumulator(2)
    metric.add(torch.ones((), requires_grad=True) * 2, 3)
    assert (metric[0], metric[1]) == (2.0, 3.0)


def test_a_classifier_counts_what_is_right(d2l: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from torch import nn

    classifier = d2l.Classifier()
    logits, classes = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([1, 1])
    assert classifier.accuracy(logits, classes) == 0.5
    assert classifier.accuracy(logits, classes, averaged=False).tolist() == [1, 0]
    assert classifier.loss(logits, classes, averaged=False).shape == (2,)

    class Net(d2l.Classifier):  # type: ignore[name-defined, misc]
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))

    class Points(d2l.DataModule):  # type: ignore[name-defined, misc]
        def __init__(self, batch_size: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.X = d2l.randn(64, 3)
            self.Y = (self.X[:, 0] > 0).long()

        def get_dataloader(self, train: bool) -> Any:
            return self.get_tensorloader((self.X, self.Y), train)

    net = Net(lr=0.5)
    net.apply_init([d2l.ones(1, 3)], lambda layer: None)
    net.layer_summary((1, 3))
    assert capsys.readouterr().out.count("output shape:") == 3
    d2l.Trainer(max_epochs=20).fit(net, Points(16))
    assert net.board.data["val_acc"][-1].y > 0.9


def test_tensor_helpers(d2l: ModuleType) -> None:
    import numpy as np
    import torch

    x = d2l.reshape(d2l.arange(6), (2, 3))
    assert torch.equal(d2l.stack(x, 0), x)
    assert torch.equal(d2l.stack(x, 1), x.t())
    assert torch.equal(d2l.stack([x[0], x[1]], 1), x.t())
    assert d2l.tensor([np.arange(3), np.arange(3)]).tolist() == [[0, 1, 2]] * 2
    assert d2l.tensor(3.0).shape == ()
    assert d2l.size(x) == 6
    assert d2l.numpy(x.float().requires_grad_()).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert d2l.one_hot(x, 7).shape == (2, 3, 7)
    assert d2l.astype(x, d2l.float32).dtype == torch.float32
    assert d2l.try_all_gpus()
    assert d2l.gpu(1) == torch.device("cuda:1")
