"""Reviews with labels on the torch tab, beside the book's own packages."""

from __future__ import annotations

import copy
import re
from types import ModuleType
from typing import Any

import pytest
from agreement import agree, compares

from d2lrnn.errors import DivergedError
from d2lrnn.registry import BackendEntry

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.filterwarnings("ignore:::book_(current|first)_.*")

CPU = [torch.device("cpu")]


@pytest.fixture(autouse=True)
def _only_torch(entry: BackendEntry, d2l: ModuleType) -> None:
    if entry.name != "torch":
        pytest.skip("these tests are written in torch")
    d2l.seed_everything(0)


class BothWays(nn.Module):
    """Reads a review from both sides, as the chapter's network does."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 8)
        self.encoder = nn.LSTM(8, 8, bidirectional=True)
        self.dropout = nn.Dropout(0.1)
        self.decoder = nn.Linear(32, 2)

    def forward(self, inputs: Any) -> Any:
        outputs, _ = self.encoder(self.embedding(inputs.T))
        return self.decoder(self.dropout(torch.cat((outputs[0], outputs[-1]), dim=1)))


@pytest.fixture
def of_reviews(book: Any, d2l: ModuleType, small_data: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The book's package, which finds the small sets, and reads their files in the same order."""
    monkeypatch.setattr(book, "download_extract", d2l.download_extract)
    monkeypatch.setattr(book, "read_imdb", d2l.read_imdb)
    return book


@compares("load_data_imdb")
def test_reviews_are_loaded_alike(d2l: ModuleType, of_reviews: Any) -> None:
    walked = []
    for lib in (d2l, of_reviews):
        torch.manual_seed(0)
        train_iter, test_iter, vocab = lib.load_data_imdb(64, num_steps=20)
        batches = [list(train_iter), list(test_iter)]
        assert [len(loader) for loader in (train_iter, test_iter)] == [7, 1]
        # The editions number words in different orders, and no more: where they pad, too, is an unknown word.
        words = [[[vocab.to_tokens(row.tolist()) for row in X] for X, _ in each] for each in batches]
        walked.append((words, [[y for _, y in each] for each in batches], sorted(vocab.idx_to_token)))
        X, y = batches[0][0]
        assert (X.shape, y.shape, X.dtype, y.dtype) == ((64, 20), (64,), torch.int64, torch.int64)
    agree(*walked)


@compares("TokenEmbedding")
@pytest.mark.parametrize("size", [50, 100])
def test_vectors_agree(d2l: ModuleType, of_reviews: Any, size: int) -> None:
    ours, theirs = (lib.TokenEmbedding(f"glove.6b.{size}d") for lib in (d2l, of_reviews))
    assert len(ours) == len(theirs) == 16
    for name in ("idx_to_token", "token_to_idx", "idx_to_vec", "unknown_idx"):
        agree(getattr(ours, name), getattr(theirs, name))
    asked = ["film", "never seen", "great"]
    agree(ours[asked], theirs[asked])
    layer = nn.Embedding(2, size)
    layer.weight.data.copy_(ours[asked[:2]])
    assert layer.weight[1].eq(0).all()


@compares("accuracy")
def test_right_predictions_are_counted_alike(d2l: ModuleType, book: Any) -> None:
    y = torch.tensor([0, 1, 1])
    for y_hat in (torch.randn(3, 2), torch.tensor([0.0, 1.0, 0.0]), torch.tensor([[0], [1], [0]])):
        right = y.reshape(-1, 1) if y_hat.dim() == 2 and y_hat.shape[1] == 1 else y
        agree(*(lib.accuracy(y_hat, right) for lib in (d2l, book)))


def batches_of(number: int, size: int = 6) -> list[Any]:
    return [[torch.randint(0, 9, (size, 5)), torch.randint(0, 2, (size,))] for _ in range(number)]


@compares("evaluate_accuracy_gpu")
def test_accuracies_agree(d2l: ModuleType, book: Any) -> None:
    net, batches = BothWays(9), batches_of(3)
    for device in (None, torch.device("cpu")):
        agree(*(lib.evaluate_accuracy_gpu(net, batches, device) for lib in (d2l, book)))

    class OfTwo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, X: Any) -> Any:
            return self.inner(X[0]) + self.inner(X[1])

    double = [[[X, X.flip(1)], y] for X, y in batches]
    agree(*(lib.evaluate_accuracy_gpu(OfTwo(), double) for lib in (d2l, book)))
    net.train()
    d2l.evaluate_accuracy_gpu(net, batches)
    assert net.training


@compares("train_batch_ch13")
def test_steps_agree(d2l: ModuleType, book: Any) -> None:
    nets = [BothWays(9)]
    nets.append(copy.deepcopy(nets[0]))
    (X, y), loss, seen = batches_of(1)[0], nn.CrossEntropyLoss(reduction="none"), []
    for lib, net in zip((d2l, book), nets, strict=True):
        trainer = torch.optim.Adam(net.parameters(), lr=0.01)
        torch.manual_seed(0)
        steps = [lib.train_batch_ch13(net.eval(), X, y, loss, trainer, CPU) for _ in range(3)]
        assert net.training
        seen.append((steps, net.state_dict()))
    agree(*seen)


@compares("train_ch13 predict_sentiment")
def test_trainings_agree(d2l: ModuleType, book: Any, capsys: pytest.CaptureFixture[str]) -> None:
    vocab = d2l.Vocab(["good", "bad", "film", "the", "a", "was", "is", "never"])
    nets = [BothWays(len(vocab))]
    nets.append(copy.deepcopy(nets[0]))
    train, test, seen = batches_of(11), batches_of(2), []
    for lib, net in zip((d2l, book), nets, strict=True):
        trainer = torch.optim.Adam(net.parameters(), lr=0.01)
        torch.manual_seed(0)
        lib.train_ch13(net, train, test, nn.CrossEntropyLoss(reduction="none"), trainer, 2, CPU)
        measured, speed, *_ = capsys.readouterr().out.splitlines()
        assert re.fullmatch(r"\d+\.\d examples/sec on \[device\(type='cpu'\)\]", speed)
        texts = ["the film was good", "never", "a film unheard of"]
        seen.append((measured, net.state_dict(), [lib.predict_sentiment(net, vocab, text) for text in texts]))
    agree(*seen)


def test_a_short_training_has_curves(d2l: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    animators: list[Any] = []

    class Seen(d2l.Animator):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            animators.append(self)

    monkeypatch.setattr("d2lrnn_torch.sentiment.Animator", Seen)
    net = BothWays(9)
    trainer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = nn.CrossEntropyLoss(reduction="none")
    d2l.train_ch13(net, batches_of(2), batches_of(1), loss, trainer, 2)
    (animator,) = animators
    assert animator.X == [[0.5, 1.0, 1.5, 2.0], [0.5, 1.0, 1.5, 2.0], [1, 2]]
    kept = copy.deepcopy(net.state_dict())
    with pytest.raises(DivergedError, match="epoch 1"):
        d2l.train_ch13(net, batches_of(2), [], lambda Y, y: loss(Y, y) * float("nan"), trainer, 2, CPU)
    assert all(torch.equal(kept[name], value) for name, value in net.state_dict().items())


def test_reviews_are_told_apart(d2l: ModuleType, small_data: Any) -> None:
    train_iter, test_iter, vocab = d2l.load_data_imdb(32, num_steps=20)
    net = BothWays(len(vocab))
    trainer = torch.optim.Adam(net.parameters(), lr=0.02)
    d2l.train_ch13(net, train_iter, test_iter, nn.CrossEntropyLoss(reduction="none"), trainer, 4)
    assert d2l.evaluate_accuracy_gpu(net, test_iter) > 0.9
    assert d2l.predict_sentiment(net, vocab, "a brilliant and lovely story great fun") == "positive"
    modes: list[Any] = []
    net.train().register_forward_hook(
        lambda module, _, out: modes.append((module.training, out.requires_grad))
    )
    assert d2l.predict_sentiment(net, vocab, "the film was awful dull and boring") == "negative"
    assert modes == [(False, False)]
    assert net.training
