"""Regression, attention, and sequences to sequences on the torch tab, beside the book's own packages.

What is meant to differ is in docs/differences.md.
"""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from agreement import agree, compares, few
from hypothesis import given
from hypothesis import strategies as st
from small_data import pairs

from d2lrnn.errors import DivergedError, KindError, SpecError
from d2lrnn.registry import BackendEntry

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = [
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature"),
    pytest.mark.filterwarnings("ignore:::book_(current|first)_.*"),
]

V, E, H, L = 11, 4, 6, 2


@pytest.fixture(autouse=True)
def _only_torch(entry: BackendEntry, d2l: ModuleType) -> None:
    if entry.name != "torch":
        pytest.skip("these tests are written in torch")
    d2l.seed_everything(0)


@pytest.fixture(scope="session")
def then(d2l: ModuleType) -> Callable[[str], Any]:
    """What a name stands for in a chapter of the first edition."""
    return lambda name: d2l.FIRST_EDITION.get(name) or getattr(d2l, name)


def tokens(*shape: int, size: int = V) -> Any:
    return torch.randint(2, size, shape)


def adopt(ours: Any, theirs: Any) -> None:
    """Gives ours their parameters; the library's GRU is around PyTorch's own, the first edition's is that."""
    state = {}
    for name, value in theirs.state_dict().items():
        inner = name.replace("encoder.rnn.", "encoder.rnn.rnn.")
        inner = re.sub(r"^rnn\.(?=weight|bias)", "rnn.rnn.", inner)
        state[name if name in ours.state_dict() else inner] = value
    ours.load_state_dict(state)


def train_one_bias(model: Any) -> None:
    """Keeps still those biases of PyTorch's GRUs that this library's do not train (docs/differences.md)."""
    for gru in (module for module in model.modules() if isinstance(module, nn.GRU)):
        for l in range(gru.num_layers):

            def only_of_n(gradient: Any, h: int = gru.hidden_size) -> Any:
                return torch.cat([torch.zeros_like(gradient[: 2 * h]), gradient[2 * h :]])

            getattr(gru, f"bias_hh_l{l}").register_hook(only_of_n)


def fit(lib: Any, model: Any, data: Any, **options: Any) -> Any:
    model.board.display = False
    torch.manual_seed(3)
    trainer = lib.Trainer(**options)
    trainer.fit(model, data)
    return model


# Regression.


def series(lib: Any) -> Any:
    """A data module of rows of four numbers and the number after them, as the chapter on sequences has it."""
    x = torch.sin(torch.arange(60) / 7)

    class Series(lib.DataModule):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size = 8

        def get_dataloader(self, train: bool) -> Any:
            features = torch.stack([x[i : 56 + i] for i in range(4)], 1)
            return self.get_tensorloader(
                [features, x[4:].reshape(-1, 1)], train, slice(0, 40) if train else slice(40, None)
            )

    return Series()


@compares("LinearRegression")
def test_regressions_agree(d2l: ModuleType, current: Any) -> None:
    X, y = torch.randn(5, 4), torch.randn(5, 1)
    ours, theirs = d2l.LinearRegression(lr=0.1), current.LinearRegression(lr=0.1)
    agree(ours(X).shape, theirs(X).shape)
    adopt(ours, theirs)
    agree(ours(X), theirs(X))
    agree(ours.loss(ours(X), y), theirs.loss(theirs(X), y))
    agree(*(model.get_w_b() for model in (ours, theirs)))
    assert ours.hparams == theirs.hparams
    optimizers = [model.configure_optimizers() for model in (ours, theirs)]
    assert type(optimizers[0]) is type(optimizers[1])
    assert [each.param_groups[0]["lr"] for each in optimizers] == [0.1, 0.1]
    for lib, model in ((d2l, ours), (current, theirs)):
        fit(lib, model, series(lib), max_epochs=3)
    agree(*(model.get_w_b() for model in (ours, theirs)))


def test_a_regression_begins_near_zero(d2l: ModuleType) -> None:
    model = d2l.LinearRegression(lr=0.1)
    model(torch.ones(1, 2000))
    weight, bias = model.get_w_b()
    assert not weight.requires_grad
    assert float(weight.std()) == pytest.approx(0.01, rel=0.1)
    assert float(weight.mean()) == pytest.approx(0, abs=1e-3)
    assert bias.tolist() == [0.0]
    assert type(model.net) is nn.Linear
    torch.manual_seed(0)
    layer = copy.deepcopy(d2l.LinearRegression(lr=0.1))
    assert layer(torch.ones(1, 3)).shape == (1, 1)


@compares("load_array")
@few
@given(rows=st.integers(1, 9), batch_size=st.integers(1, 4), is_train=st.booleans(), seed=st.integers(0, 99))
def test_arrays_are_loaded_alike(
    d2l: ModuleType, book: Any, rows: int, batch_size: int, is_train: bool, seed: int
) -> None:
    arrays = torch.arange(2.0 * rows).reshape(rows, 2), torch.arange(rows)
    walked = []
    for lib in (d2l, book):
        torch.manual_seed(seed)
        loader = lib.load_array(arrays, batch_size, is_train=is_train)
        walked.append([list(loader), list(loader), len(loader)])
    agree(*walked)


@compares("evaluate_loss")
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_losses_are_evaluated_alike(d2l: ModuleType, book: Any, reduction: str) -> None:
    net, loss = nn.Linear(3, 1), nn.MSELoss(reduction=reduction)
    batches = [(torch.randn(n, 3), torch.randn(n)) for n in (4, 4, 2)]
    agree(*(lib.evaluate_loss(net, batches, loss) for lib in (d2l, book)))
    agree(*(lib.evaluate_loss(lambda X: X.sum(1), batches, loss) for lib in (d2l, book)))


def test_an_evaluation_has_no_graph_and_no_dropout(d2l: ModuleType) -> None:
    seen = []
    net = nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5)).train()
    net.register_forward_hook(lambda module, _, out: seen.append((module.training, out.requires_grad)))
    d2l.evaluate_loss(net, [(torch.ones(2, 3), torch.ones(2, 1))], nn.MSELoss())
    assert seen == [(False, False)]
    assert net.training


# What does not count.


@compares("sequence_mask")
@few
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    value=st.sampled_from([0, -1, 0.5]),
    data=st.data(),
)
def test_sequences_are_masked_alike(
    d2l: ModuleType, book: Any, shape: list[int], value: float, data: st.DataObject
) -> None:
    X = torch.randn(shape)
    lengths = torch.tensor([data.draw(st.integers(0, shape[1] + 1)) for _ in range(shape[0])])
    kept = X.clone()
    agree(d2l.sequence_mask(X, lengths, value), book.sequence_mask(X.clone(), lengths, value))
    agree(X, kept)
    whole = torch.tensor([[1, 2, 3], [4, 5, 6]])
    agree(*(lib.sequence_mask(whole.clone(), torch.tensor([1, 2])) for lib in (d2l, book)))


@compares("masked_softmax")
@few
@given(B=st.integers(1, 3), Q=st.integers(1, 3), K=st.integers(1, 4), form=st.integers(0, 2), data=st.data())
def test_masked_softmaxes_agree(
    d2l: ModuleType, book: Any, B: int, Q: int, K: int, form: int, data: st.DataObject
) -> None:
    X = 3 * torch.randn(B, Q, K)
    drawn = torch.tensor([[data.draw(st.integers(0, K)) for _ in range(Q)] for _ in range(B)])
    lengths = [None, drawn[:, 0], drawn][form]
    agree(*(lib.masked_softmax(X.clone(), lengths) for lib in (d2l, book)))


def test_masks_hold_where_scores_are_low_and_in_half_precision(d2l: ModuleType) -> None:
    scores, length = torch.tensor([[[-3e6, 0.0]]]), torch.tensor([1])
    assert d2l.masked_softmax(scores, length).tolist() == [[[1.0, 0.0]]]
    halves = d2l.masked_softmax(torch.zeros(1, 1, 2, dtype=torch.float16), length)
    assert halves.tolist() == [[[1.0, 0.0]]]
    assert halves.dtype == torch.float16


@compares("MaskedSoftmaxCELoss")
def test_masked_losses_agree(d2l: ModuleType, book: Any) -> None:
    logits, labels = torch.randn(3, 4, V, requires_grad=True), tokens(3, 4)
    lengths = torch.tensor([4, 2, 0])
    seen = []
    for lib in (d2l, book):
        logits.grad = None
        losses = lib.MaskedSoftmaxCELoss()(logits, labels, lengths)
        losses.sum().backward()
        weighted = lib.MaskedSoftmaxCELoss(torch.arange(1.0, V + 1))(logits, labels, lengths)
        seen.append((losses, weighted, logits.grad))
    agree(*seen)
    assert seen[0][0][2] == 0


def test_a_masked_step_may_have_any_loss(d2l: ModuleType) -> None:
    logits = torch.zeros(1, 2, V)
    logits[0, 1, 3] = -math.inf
    losses = d2l.MaskedSoftmaxCELoss()(logits, torch.tensor([[1, 3]]), torch.tensor([1]))
    assert losses.tolist() == pytest.approx([math.log(V) / 2])


# Attention.


def attentions(lib: Any, additive: Any, *sizes: int) -> dict[str, Any]:
    return {
        "dot": lib.DotProductAttention(dropout=0.3),
        "additive": additive(*sizes, num_hiddens=8, dropout=0.3),
    }


@compares("DotProductAttention AdditiveAttention")
@pytest.mark.parametrize("edition", ["current", "first"])
@pytest.mark.parametrize("kind", ["dot", "additive"])
@pytest.mark.parametrize("form", [0, 1, 2])
def test_attentions_agree(
    d2l: ModuleType,
    then: Callable[[str], Any],
    load_book: Callable[[str], Any],
    edition: str,
    kind: str,
    form: int,
) -> None:
    book = load_book(edition)
    query_size = 3 if kind == "dot" else 5
    queries, keys, values = torch.randn(2, 2, query_size), torch.randn(2, 4, 3), torch.randn(2, 4, 6)
    lengths = [None, torch.tensor([2, 3]), torch.tensor([[1, 3], [2, 4]])][form]
    sizes = (3, query_size) if edition == "first" else ()
    our_additive = then("AdditiveAttention") if sizes else d2l.AdditiveAttention
    ours = attentions(d2l, our_additive, *sizes)[kind]
    theirs = attentions(book, book.AdditiveAttention, *sizes)[kind]
    for attention in (ours, theirs):
        attention(queries, keys, values, lengths)
    adopt(ours, theirs)
    for mode in (True, False):
        seen = []
        for attention in (ours, theirs):
            torch.manual_seed(1)
            attention.train(mode)
            attention.zero_grad()
            outputs = attention(queries, keys, values, lengths)
            gradients = []
            if kind == "additive":
                outputs.square().sum().backward()
                gradients = [attention.W_q.weight.grad, attention.W_k.weight.grad, attention.w_v.weight.grad]
            seen.append((outputs, attention.attention_weights, gradients))
        agree(*seen)


def test_attentions_are_copied(d2l: ModuleType) -> None:
    attention = d2l.AdditiveAttention(4, 0.0)
    X = torch.ones(1, 2, 3)
    outputs = attention(X, X, X)
    assert outputs.requires_grad
    assert torch.equal(copy.deepcopy(attention)(X, X, X), outputs)


# Encoders and decoders.


@compares("Encoder Decoder AttentionDecoder")
def test_interfaces_agree(d2l: ModuleType, book: Any) -> None:
    for lib in (d2l, book):
        for call in (
            lambda lib=lib: lib.Encoder()(1),
            lambda lib=lib: lib.Decoder().init_state(1),
            lambda lib=lib: lib.Decoder()(1, 2),
            lambda lib=lib: lib.AttentionDecoder().attention_weights,
        ):
            with pytest.raises(NotImplementedError):
                call()
        assert issubclass(lib.AttentionDecoder, lib.Decoder)
        assert isinstance(lib.Encoder(), nn.Module)
    parts = {"Encoder": ("forward",), "Decoder": ("init_state", "forward")}
    for name, methods in parts.items():
        for method in methods:
            ours, theirs = (getattr(getattr(lib, name), method) for lib in (d2l, book))
            assert len(inspect.signature(ours).parameters) == len(inspect.signature(theirs).parameters)
    with pytest.raises(NotImplementedError, match="Encoder needs a method forward"):
        d2l.Encoder()(1)


def chapters_encoder(lib: Any) -> Any:
    """An encoder as a chapter writes it."""

    class Reader(lib.Encoder):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.embedding = nn.Embedding(V, E)
            self.rnn = nn.GRU(E, H, L)

        def forward(self, X: Any, *args: Any) -> Any:
            return self.rnn(self.embedding(X).permute(1, 0, 2))

    return Reader()


def chapters_decoder(lib: Any, attention: Any = None, size: int = V) -> Any:
    """A decoder as a chapter writes it, which may attend to what the encoder read."""

    class Writer(lib.AttentionDecoder):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.embedding = nn.Embedding(size, E)
            self.attention = attention
            self.rnn = nn.GRU(E + H, H, L)
            self.dense = nn.Linear(H, size)

        def init_state(self, enc_outputs: Any, enc_valid_lens: Any = None, *args: Any) -> Any:
            outputs, state = enc_outputs
            return outputs.permute(1, 0, 2), state, enc_valid_lens

        def forward(self, X: Any, state: Any) -> Any:
            read, hidden, lengths = state
            outputs, self._attention_weights = [], []
            for x in self.embedding(X).permute(1, 0, 2):
                context = read[:, -1:]
                if self.attention is not None:
                    context = self.attention(hidden[-1].unsqueeze(1), read, read, lengths)
                    self._attention_weights.append(self.attention.attention_weights)
                out, hidden = self.rnn(torch.cat((context, x.unsqueeze(1)), -1).permute(1, 0, 2), hidden)
                outputs.append(out)
            return self.dense(torch.cat(outputs)).permute(1, 0, 2), [read, hidden, lengths]

        @property
        def attention_weights(self) -> Any:
            return self._attention_weights

    return Writer()


@compares("EncoderDecoder")
@pytest.mark.parametrize("edition", ["current", "first"])
def test_encoders_with_decoders_agree(
    d2l: ModuleType, then: Callable[[str], Any], load_book: Callable[[str], Any], edition: str
) -> None:
    book = load_book(edition)
    kinds = (then("EncoderDecoder") if edition == "first" else d2l.EncoderDecoder, book.EncoderDecoder)
    ours, theirs = (
        kind(chapters_encoder(lib), chapters_decoder(lib))
        for kind, lib in zip(kinds, (d2l, book), strict=True)
    )
    ours.load_state_dict(theirs.state_dict())
    source, target, lengths = tokens(3, 5), tokens(3, 4), torch.tensor([5, 2, 3])
    agree(*(model(source, target, lengths) for model in (ours, theirs)))
    agree(*(model(source, target) for model in (ours, theirs)))
    if edition == "first":
        return
    assert isinstance(ours, d2l.Classifier)
    for saves in (False, True):
        for T in (1, 6):
            batch = (source, target, lengths, target)
            agree(
                *(model.eval().predict_step(batch, torch.device("cpu"), T, saves) for model in (ours, theirs))
            )


@compares("EncoderDecoder")
def test_attention_weights_are_saved_alike(d2l: ModuleType, current: Any) -> None:
    models = [
        lib.EncoderDecoder(chapters_encoder(lib), chapters_decoder(lib, lib.AdditiveAttention(H, 0.1))).eval()
        for lib in (d2l, current)
    ]
    batch = tokens(3, 5), tokens(3, 4), torch.tensor([5, 2, 3]), None
    for model in models:
        model(*batch[:3])
    models[0].load_state_dict(models[1].state_dict())
    whole = (*batch[:3], batch[1])
    ours, theirs = (model.predict_step(whole, d2l.try_gpu(), 4, True) for model in models)
    agree(ours, theirs)
    assert len(ours[1]) == 4
    assert ours[1][0][0].shape == (3, 1, 5)


def test_translations_have_no_dropout_and_no_graph(d2l: ModuleType) -> None:
    sizes = (V, E, H, L, 0.9)
    model = d2l.EncoderDecoder(d2l.Seq2SeqEncoder(*sizes), d2l.Seq2SeqDecoder(*sizes)).train()
    graphs = []
    model.decoder.register_forward_hook(lambda module, _, out: graphs.append(out[0].requires_grad))
    batch = (tokens(8, 5), tokens(8, 5), torch.full((8,), 5), None)
    first, weights = model.predict_step(batch, "cpu", 6)
    again, _ = model.predict_step(batch, None, 6)
    assert torch.equal(first, again)
    assert weights == []
    assert not any(graphs)
    assert model.training
    own = d2l.EncoderDecoder(chapters_encoder(d2l), chapters_decoder(d2l))
    for each in (model, own):
        with pytest.raises(KindError, match=r"torch\.from_numpy"):
            each(first.numpy(), first)


@compares("init_seq2seq")
def test_weights_are_drawn_alike(d2l: ModuleType, current: Any) -> None:
    drawn = []
    for lib in (d2l, current):
        torch.manual_seed(4)
        net = nn.ModuleList(
            [nn.Linear(3, 4), nn.LazyLinear(2), nn.GRU(3, 4, 2), nn.LSTM(3, 4), nn.Embedding(3, 4)]
        )
        net.apply(lib.init_seq2seq)
        drawn.append([p for n, p in net.named_parameters() if not n.startswith("1.")])
    agree(*drawn)


@compares("Seq2SeqEncoder")
@pytest.mark.parametrize("edition", ["current", "first"])
def test_encoders_agree(d2l: ModuleType, load_book: Callable[[str], Any], edition: str) -> None:
    for dropout in (0, 0.5):
        ours, theirs = (
            lib.Seq2SeqEncoder(V, E, H, L, dropout=dropout).eval() for lib in (d2l, load_book(edition))
        )
        adopt(ours, theirs)
        X = tokens(3, 5)
        agree(*(encoder(X) for encoder in (ours, theirs)))
        agree(*(encoder(X, torch.tensor([5, 4, 3])) for encoder in (ours, theirs)))
        torch.manual_seed(0)
        ours.train()
        assert torch.equal(ours(X)[0], ours(X)[0]) is (dropout == 0)
    # The current edition's chapter hands it zeros that are no integers.
    assert ours(torch.zeros(3, 5))[1].shape == (L, 3, H)


# Translations.


def test_names_are_those_of_the_edition(d2l: ModuleType) -> None:
    assert issubclass(d2l.FIRST_EDITION["EncoderDecoder"], d2l.EncoderDecoder)
    assert issubclass(d2l.FIRST_EDITION["AdditiveAttention"], d2l.AdditiveAttention)
    assert "Vocab" in d2l.FIRST_EDITION


def sentences(lib: Any, **sizes: int) -> Any:
    class Generated(lib.MTFraEng):
        def _download(self) -> str:
            return pairs()

    return Generated(**{"batch_size": 16, "num_steps": 5, "num_train": 64, "num_val": 16} | sizes)


@compares("MTFraEng")
@pytest.mark.parametrize("num_steps", [3, 9])
def test_pairs_agree(d2l: ModuleType, current: Any, num_steps: int) -> None:
    ours, theirs = (sentences(lib, num_steps=num_steps) for lib in (d2l, current))
    agree(ours.arrays, theirs.arrays)
    assert ours.hparams == theirs.hparams
    for name in ("src_vocab", "tgt_vocab"):
        agree(getattr(ours, name).idx_to_token, getattr(theirs, name).idx_to_token)
    text = "Go, now.\tVa\u202f!"
    agree(ours._preprocess(text), theirs._preprocess(text))
    agree(ours._tokenize(ours._preprocess(pairs()), 9), theirs._tokenize(theirs._preprocess(pairs()), 9))
    asked = ["go .", "we win now ."], ["va .", "nous gagne"]
    agree(ours.build(*asked), theirs.build(*asked))
    walked = []
    for data in (ours, theirs):
        torch.manual_seed(0)
        walked.append([list(data.train_dataloader()), list(data.val_dataloader())])
    agree(*walked)


def test_the_pairs_are_had_by_their_name(d2l: ModuleType, small_data: Any) -> None:
    data = d2l.MTFraEng(batch_size=3)
    assert [part.shape for part in next(iter(data.train_dataloader()))] == [(3, 9), (3, 9), (3,), (3, 9)]


def chapters_loss(lib: Any) -> Any:
    """The model of translations with the loss that its chapter gives it and the book's package leaves out."""

    class Masked(lib.Seq2Seq):
        def loss(self, Y_hat: Any, Y: Any) -> Any:
            losses = lib.Classifier.loss(self, Y_hat, Y, averaged=False)
            mask = (Y.reshape(-1) != self.tgt_pad).float()
            return (losses * mask).sum() / mask.sum()

    return Masked


@compares("Seq2Seq Seq2SeqEncoder AdditiveAttention AttentionDecoder init_seq2seq MTFraEng")
@pytest.mark.parametrize("attends", [False, True])
def test_trainings_agree(d2l: ModuleType, current: Any, attends: bool) -> None:
    models = []
    for lib in (d2l, current):
        torch.manual_seed(0)
        data = sentences(lib)
        encoder = lib.Seq2SeqEncoder(len(data.src_vocab), E, H, L, 0.1)
        decoder = chapters_decoder(
            lib, lib.AdditiveAttention(H, 0.1) if attends else None, len(data.tgt_vocab)
        )
        decoder.apply(lib.init_seq2seq)
        kind = lib.Seq2Seq if lib is d2l else chapters_loss(lib)
        models.append(kind(encoder, decoder, tgt_pad=data.tgt_vocab["<pad>"], lr=0.02))
        models[-1](*data.arrays[:-1])
    ours, theirs = models
    adopt(ours, theirs)
    train_one_bias(theirs.encoder)
    logits = torch.randn(16, 5, len(data.tgt_vocab))
    agree(*(model.loss(logits, data.arrays[3][:16]) for model in models))
    assert {name: ours.hparams[name] for name in ("tgt_pad", "lr")} == {
        name: theirs.hparams[name] for name in ("tgt_pad", "lr")
    }
    for lib, model in ((d2l, ours), (current, theirs)):
        fit(lib, model, data, max_epochs=3, gradient_clip_val=1)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    curves = [[point.y for point in model.board.data["val_loss"]] for model in models]
    assert len(curves[0]) == 3
    assert curves[0][-1] < curves[0][0]
    build = data.build(["we go .", "they run now ."], ["nous va .", "ils court maintenant ."])
    agree(*(model.predict_step(build, d2l.try_gpu(), 5)[0] for model in models))


def test_padding_does_not_count(d2l: ModuleType) -> None:
    model = d2l.Seq2Seq(d2l.Seq2SeqEncoder(V, E, H, L), d2l.Seq2SeqDecoder(V, E, H, L), tgt_pad=1, lr=0.005)
    logits, targets = torch.randn(2, 3, V), torch.tensor([[4, 5, 1], [6, 1, 1]])
    real = logits.reshape(-1, V)[[0, 1, 3]], torch.tensor([4, 5, 6])
    torch.testing.assert_close(model.loss(logits, targets), nn.functional.cross_entropy(*real))
    each = model.loss(logits, targets, averaged=False)
    assert (each == 0).tolist() == [False, False, True, False, True, True]
    assert type(model.configure_optimizers()) is torch.optim.Adam


def test_a_decoder_reads_the_encoders_last_output_in_every_step(d2l: ModuleType) -> None:
    encoder, decoder = d2l.Seq2SeqEncoder(V, E, H, L).eval(), d2l.Seq2SeqDecoder(V, E, H, L).eval()
    X, Y = tokens(3, 5), tokens(3, 4)
    state = decoder.init_state(encoder(X), torch.tensor([5, 5, 5]))
    whole, after = decoder(Y, state)
    assert whole.shape == (3, 4, V)
    assert after[1].shape == (L, 3, H)
    # The chapter's: the context beside the vectors, then PyTorch's own layer.
    context = state[0][-1].repeat(4, 1, 1)
    outputs, final = decoder.rnn.rnn(
        torch.cat([decoder.embedding(Y).permute(1, 0, 2), context], -1), state[1]
    )
    torch.testing.assert_close(whole, decoder.dense(outputs).permute(1, 0, 2))
    torch.testing.assert_close(after[1], final)
    steps = []
    for t in range(4):
        logits, state = decoder(Y[:, t : t + 1], state)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole)


# The first edition's translations.


@pytest.fixture
def of_pairs(first: Any, small_data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The book's function that reads the pairs has the small set too."""
    monkeypatch.setattr(first, "read_data_nmt", pairs)


@compares("build_array_nmt")
def test_pairs_become_arrays_alike(d2l: ModuleType, book: Any, then: Callable[[str], Any]) -> None:
    lines = [["go", "now", "."], [], ["go"] * 9]
    vocab = then("Vocab")(lines, reserved_tokens=["<pad>", "<bos>", "<eos>"])
    agree(*(lib.build_array_nmt(lines, vocab, 4) for lib in (d2l, book)))


@compares("load_data_nmt")
@pytest.mark.usefixtures("of_pairs")
@pytest.mark.parametrize("options", [{}, {"num_examples": 50}])
def test_pairs_are_loaded_alike(d2l: ModuleType, first: Any, options: dict[str, int]) -> None:
    walked = []
    for lib in (d2l, first):
        torch.manual_seed(0)
        loader, source, target = lib.load_data_nmt(batch_size=32, num_steps=6, **options)
        walked.append((list(loader), source.idx_to_token, target.idx_to_token))
    agree(*walked)


@compares("train_seq2seq predict_seq2seq Seq2SeqEncoder EncoderDecoder AdditiveAttention AttentionDecoder")
@pytest.mark.usefixtures("of_pairs")
@pytest.mark.parametrize("attends", [False, True])
def test_the_first_editions_trainings_agree(
    d2l: ModuleType,
    then: Callable[[str], Any],
    first: Any,
    capsys: pytest.CaptureFixture[str],
    attends: bool,
) -> None:
    nets, seen = [], []
    for lib, kind in ((d2l, then), (first, lambda name: getattr(first, name))):
        loader, source, target = lib.load_data_nmt(32, 6, num_examples=100)
        attention = kind("AdditiveAttention")(H, H, H, 0.1) if attends else None
        decoder = chapters_decoder(lib, attention, len(target))
        nets.append(kind("EncoderDecoder")(lib.Seq2SeqEncoder(len(source), E, H, L), decoder))
    ours, theirs = nets
    adopt(ours, theirs)
    train_one_bias(theirs.encoder)
    for lib, net in ((d2l, ours), (first, theirs)):
        torch.manual_seed(5)
        lib.train_seq2seq(net, loader, 0.02, 10, target, torch.device("cpu"))
        printed = capsys.readouterr().out
        translations = [
            lib.predict_seq2seq(net, text, source, target, 6, torch.device("cpu"), attends)
            for text in ("We go .", "cats win now .", "a long one that is not known here")
        ]
        loss, rest = printed.split(", ")
        assert re.fullmatch(r"\d+\.\d tokens/sec on cpu\n", rest)
        seen.append((loss, translations))
    for name, value in ours.state_dict().items():
        other = theirs.state_dict()[name.replace("encoder.rnn.rnn.", "encoder.rnn.")]
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)
    agree(*seen)
    assert bool(seen[0][1][0][1]) is attends


@pytest.mark.usefixtures("of_pairs")
def test_a_training_of_either_edition(d2l: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A network of the current edition may be trained and asked by the first one's functions."""
    loader, source, target = d2l.load_data_nmt(64, 5)
    sizes = {"embed_size": 16, "num_hiddens": 32, "num_layers": 1}
    net = d2l.EncoderDecoder(
        d2l.Seq2SeqEncoder(len(source), **sizes), d2l.Seq2SeqDecoder(len(target), **sizes)
    )
    modes = set()
    net.eval().encoder.register_forward_hook(lambda module, *_: modes.add(module.training))
    d2l.train_seq2seq(net, loader, 0.02, 12, target, "cpu")
    assert modes == {True}
    assert float(capsys.readouterr().out.split()[1].rstrip(",")) < 0.1
    assert d2l.predict_seq2seq(net, "we go .", source, target, 5, "cpu")[0] == "nous va ."
    assert net.training
    with pytest.raises(SpecError, match="at least 1"):
        d2l.train_seq2seq(net, loader, 0.02, 0, target, "cpu")


@pytest.mark.usefixtures("of_pairs")
def test_a_training_that_diverges_puts_the_parameters_back(d2l: ModuleType) -> None:
    loader, source, target = d2l.load_data_nmt(64, 5)
    net = d2l.EncoderDecoder(
        d2l.Seq2SeqEncoder(len(source), E, H, 1), d2l.Seq2SeqDecoder(len(target), E, H, 1)
    )
    with torch.no_grad():
        net.decoder.dense.bias.fill_(math.inf)
    with pytest.raises(DivergedError, match="epoch 1"):
        d2l.train_seq2seq(net, loader, 0.02, 2, target, "cpu")
    assert all(torch.isfinite(p).all() for n, p in net.named_parameters() if n != "decoder.dense.bias")
