"""What only the PyTorch backend has: its fast recurrences, modules and second bias, and its own dropout."""

from __future__ import annotations

import copy
import io
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from d2lrnn_torch import (  # noqa: E402
    GRU,
    LSTM,
    RNN,
    RNNLM,
    GRUScratch,
    LSTMScratch,
    MGUScratch,
    ReluRNN,
    ReluRNNScratch,
    RNNLMScratch,
    RNNScratch,
    StackedRNNScratch,
    concise,
    num_gpus,
    try_gpu,
)
from d2lrnn_torch.activations import tanh, tanh_  # noqa: E402
from d2lrnn_torch.adapter import TorchBackend  # noqa: E402
from d2lrnn_torch.concise import LayerStates, stacked  # noqa: E402
from d2lrnn_torch.devices import full_precision, native_device  # noqa: E402
from d2lrnn_torch.layer import project, unroll  # noqa: E402
from d2lrnn_torch.recurrence import (  # noqa: E402
    GRUBeforeRecurrence,
    GRURecurrence,
    LSTMRecurrence,
    TanhRecurrence,
)
from d2lrnn_torch.tokens import look_up  # noqa: E402
from parity.models import KINDS, drawn_batch, drawn_parameters, name_of  # noqa: E402
from torch import nn  # noqa: E402

from d2lrnn.contract.specs import ModelSpec, TrainingSpec  # noqa: E402
from d2lrnn.contract.values import Device  # noqa: E402
from d2lrnn.errors import KindError  # noqa: E402

SCRATCH = [
    RNNScratch,
    ReluRNNScratch,
    GRUScratch,
    partial(GRUScratch, reset_after=True),
    LSTMScratch,
    MGUScratch,
]
SCRATCH_NAMES = ["rnn", "relu", "gru-before", "gru-after", "lstm", "mgu"]
CONCISE = [RNN, ReluRNN, GRU, LSTM]
ALL_MODELS = [
    *(partial(make, 7, 6) for make in SCRATCH),
    partial(StackedRNNScratch, 7, 6, num_layers=2),
    partial(StackedRNNScratch, 7, 6, num_layers=3, layer=LSTMScratch),
    *(partial(make, 7, 6, num_layers=2) for make in CONCISE),
]


def _randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter from N(0, 0.5²), save the biases that are kept at zero; float64."""
    generator = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias_hh" not in name:
                parameter.normal_(0, 0.5, generator=generator)
            elif parameter.requires_grad:  # a GRU's: its last third is b_hn
                parameter[-len(parameter) // 3 :].normal_(0, 0.5, generator=generator)
    return model


def _tensors(state: object) -> list[torch.Tensor]:
    return [state] if isinstance(state, torch.Tensor) else [t for part in state for t in _tensors(part)]


def _gradients(model: nn.Module, outputs: torch.Tensor, state: object, *more: torch.Tensor) -> list:
    """Of a weighted sum of all outputs and states, for all that is trained, and for `more`."""
    generator = torch.Generator().manual_seed(9)
    total = sum(
        (part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum()
        for part in (outputs, *_tensors(state))
    )
    return torch.autograd.grad(total, [*(p for p in model.parameters() if p.requires_grad), *more])


# The recurrences by hand and their plain twins


@pytest.mark.parametrize("tokens", [False, True], ids=["vectors", "tokens"])
@pytest.mark.parametrize("make", SCRATCH, ids=SCRATCH_NAMES)
def test_scratch_recurrences_are_their_formulas(make, tokens: bool) -> None:
    model = _randomized(make(7, 6))
    X = torch.randint(0, 7, (9, 3)) if tokens else torch.randn(9, 3, 7, dtype=torch.float64)
    parts = [torch.randn(3, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    state = tuple(parts) if make is LSTMScratch else parts[0]
    leaves = _tensors(state)

    outputs, final = model(X, state)
    weights = (getattr(model, model.own_names[name]) for name in ("w_x", "b"))
    expected, expected_final = unroll(model.step, project(X, *weights), state)
    for one, other in zip(_tensors((outputs, final)), _tensors((expected, expected_final)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)
    gradients = _gradients(model, outputs, final, *leaves)
    expected_gradients = _gradients(model, expected, expected_final, *leaves)
    for one, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("function", "gates", "num_states", "inner_bias"),
    [
        (TanhRecurrence, 1, 1, False),
        (GRURecurrence, 3, 1, True),
        (LSTMRecurrence, 4, 2, False),
    ],
)
def test_gradients_are_finite_differences(function, gates: int, num_states: int, inner_bias: bool) -> None:
    torch.manual_seed(0)
    T, B, h = 4, 2, 3
    shapes = [(T, B, gates * h), *[(B, h)] * num_states, (h, gates * h), *[(h,)] * inner_bias]
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(function.apply, arguments)


def test_gradients_of_the_gru_that_resets_before_are_finite_differences() -> None:
    torch.manual_seed(0)
    T, B, h = 4, 2, 3
    shapes = [(T, B, 2 * h), (T, B, h), (B, h), (h, 2 * h), (h, h)]
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(GRUBeforeRecurrence.apply, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_hyperbolic_tangent_is_pytorch_s(dtype: torch.dtype) -> None:
    x = torch.linspace(-12, 12, 3000, dtype=dtype).reshape(100, 30)
    x[0, :3] = torch.tensor([-0.0, 1e-30, torch.inf])
    expected = torch.tanh(x)
    out = torch.empty_like(x)
    assert tanh(x, out=out) is out
    gates = x.repeat(1, 2)  # a gate is a strip of a wider array
    tanh_(gates[:, 30:])
    for got in (out, gates[:, 30:]):
        torch.testing.assert_close(got, expected, rtol=4 * torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(gates[:, :30], x, rtol=0, atol=0)
    large = x.repeat(50, 1)
    torch.testing.assert_close(tanh_(large.clone()), torch.tanh(large), rtol=0, atol=0)


@pytest.mark.parametrize("inputs", ["vectors", "tokens", "tokens of a large vocabulary"])
def test_the_fused_lstm_is_the_formula(inputs: str) -> None:
    num_inputs = 20 if "large" in inputs else 7
    model = _randomized(LSTM(num_inputs, 6)).float()
    w_x, w_h, b, _ = model.rnn._flat_weights
    X = torch.randn(9, 3, 7) if inputs == "vectors" else torch.randint(0, num_inputs, (9, 3))
    state = tuple(torch.randn(1, 3, 6, requires_grad=True) for _ in range(2))
    outputs, (H, C) = model(X, state)
    fused = "LSTMRecurrenceBackward" not in {type(node).__name__ for node in _graph(outputs)}
    assert fused == ("large" not in inputs)
    formula = LSTMScratch(num_inputs, 6)
    for own, weight in ((formula.W_x, w_x.t()), (formula.W_h, w_h.t()), (formula.b, b)):
        own.data = weight.detach()
    before = tuple(part.squeeze(0) for part in state)
    expected, (expected_H, expected_C) = unroll(formula.step, project(X, formula.W_x, formula.b), before)
    got = [outputs, H[0], C[0], *_gradients(model, outputs, C, *state)]
    of_formula = list(_gradients(formula, expected, expected_C.unsqueeze(0), *state))
    of_formula[:2] = [gradient.t() for gradient in of_formula[:2]]
    for one, other in zip(got, [expected, expected_H, expected_C, *of_formula], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6 * max(1.0, other.abs().max().item()))
    with torch.no_grad():
        torch.testing.assert_close(model(X, state)[0], expected, rtol=0, atol=1e-6)


def _graph(tensor: torch.Tensor) -> set[object]:
    """The nodes of its graph."""
    nodes, ahead = set(), [tensor.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            ahead += [following for following, _ in node.next_functions]
    return nodes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_final_memory_alone_has_a_gradient(dtype: torch.dtype) -> None:
    """Nothing but C of an LSTM in the loss: the outputs' gradient does not exist."""
    model = _randomized(LSTMScratch(7, 6)).to(dtype)
    X = torch.randn(5, 3, 7, dtype=dtype)
    _, (_, C) = model(X)
    zeros = (torch.zeros(3, 6, dtype=dtype),) * 2
    _, (_, expected) = unroll(model.step, project(X, model.W_x, model.b), zeros)
    got = torch.autograd.grad(C.sum(), list(model.parameters()))
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    for one, other in zip(got, torch.autograd.grad(expected.sum(), list(model.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("num_tokens", [3, 40], ids=["fewer-tokens", "fewer-rows"])
def test_rows_of_tokens_are_products_with_one_hot_vectors(num_tokens: int) -> None:
    torch.manual_seed(0)
    w_x, b = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((11, 6), (6,)))
    tokens = torch.randint(0, 11, (num_tokens, 1), dtype=torch.int32)
    by_row = project(tokens, w_x, b)
    by_product = project(nn.functional.one_hot(tokens.long(), 11).double(), w_x, b)
    torch.testing.assert_close(by_row, by_product)
    weights = torch.randn_like(by_row)
    for one, other in zip(
        torch.autograd.grad((by_row * weights).sum(), [w_x, b]),
        torch.autograd.grad((by_product * weights).sum(), [w_x, b]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("given", [False, True], ids=["from-zeros", "from-a-state"])
@pytest.mark.parametrize("num_steps", [1, 8], ids=["one-step", "sequence"])
@pytest.mark.parametrize("make", CONCISE)
def test_concise_models_are_the_framework_s_layers(make, num_steps: int, given: bool) -> None:
    model = _randomized(make(7, 6, num_layers=3))
    native = model.rnn
    with torch.no_grad():  # as if loaded from a model of somebody else, who trained both biases
        for l in range(3):
            getattr(native, f"bias_hh_l{l}").normal_()
    X = torch.randn(num_steps, 4, 7, dtype=torch.float64, requires_grad=True)
    parts = [torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    state = (tuple(parts) if make is LSTM else parts[0]) if given else None
    leaves = [X, *(_tensors(state) if given else [])]

    outputs, final = model(X, state)
    expected, expected_final = native(X, state)
    masked, masked_final = model(X, state, torch.ones(2, num_steps, 4, 6, dtype=torch.float64))
    wanted = _gradients(model, expected, expected_final, *leaves)
    for got, got_final in ((outputs, final), (masked, masked_final)):
        for one, other in zip(_tensors((got, got_final)), _tensors((expected, expected_final)), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
        for one, other in zip(_gradients(model, got, got_final, *leaves), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", CONCISE)
def test_concise_models_take_tokens(make) -> None:
    model = _randomized(make(7, 6, num_layers=2))
    for num_steps in (1, 8):
        tokens = torch.randint(0, 7, (num_steps, 4), dtype=torch.int32)
        vectors = nn.functional.one_hot(tokens.long(), 7).double()
        torch.testing.assert_close(model(tokens)[0], model(vectors)[0])


@pytest.mark.parametrize("make", [RNN, GRU])
def test_sequences_on_a_cpu_go_by_the_fast_recurrence(make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(7, 6)

    def refuse(*_: object) -> None:
        raise AssertionError("the layer of the framework was called")

    monkeypatch.setattr(model.rnn, "forward", refuse)
    model(torch.ones(5, 3, 7))
    model(torch.ones(1, 3, 7))


@pytest.mark.parametrize("tokens", [False, True], ids=["vectors", "tokens"])
@pytest.mark.parametrize("make", ALL_MODELS)
def test_one_state_after_the_other_is_the_sequence(make, tokens: bool) -> None:
    model = _randomized(make())
    inputs = torch.randint(0, 7, (4, 3)) if tokens else torch.randn(4, 3, 7, dtype=torch.float64)
    _, state = model(inputs[:2])
    expected, final = model(inputs[2:], state)
    for X, H in zip(inputs[2:], expected, strict=True):
        got, state = model.next_state(X, state)
        torch.testing.assert_close(got, H, rtol=0, atol=1e-13)
    same_form = stacked(state) if isinstance(state, LayerStates) else state
    for one, other in zip(_tensors(same_form), _tensors(final), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
    for num_steps in (1, 3):  # either form of the state can be gone on from
        following, left = model(inputs[:num_steps], state)
        expected, expected_left = model(inputs[:num_steps], final)
        torch.testing.assert_close(following, expected, rtol=0, atol=1e-13)
        for one, other in zip(_tensors(left), _tensors(expected_left), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_layers_of_another_form_are_left_to_the_framework() -> None:
    """A subclass may put any layer in `rnn`: the formulas here are those of some."""
    for native in (nn.GRU(7, 6, bidirectional=True), nn.GRU(7, 6, bias=False)):
        model = RNN(7, 6)
        model.rnn = native
        for num_steps in (1, 5):
            X = torch.randn(num_steps, 3, 7)
            expected, final = native(X)
            torch.testing.assert_close(model(X)[0], expected, rtol=0, atol=0)
            following, _ = model.next_state(X[-1], final)
            torch.testing.assert_close(following, native(X[-1:], final)[0][0], rtol=0, atol=0)


# The modules


@pytest.mark.parametrize("make", ALL_MODELS)
def test_direct_use(make) -> None:
    model = make()
    X = torch.randn(5, 4, 7)
    outputs, state = model(X)
    assert outputs.shape == (5, 4, 6)
    layers = (len(state),) if isinstance(state, torch.Tensor) and state.ndim == 3 else ()
    assert all(part.shape in {(4, 6), (*layers, 4, 6), (2, 4, 6)} for part in _tensors(state))
    # A sequence in two halves, the state handed on, is the sequence; neither argument is changed.
    kept, kept_X = [part.clone() for part in _tensors(state)], X.clone()
    first, middle = model(X[:2])
    second, final = model(X[2:], middle)
    torch.testing.assert_close(torch.cat([first, second]), outputs)
    for one, other in zip(_tensors(final), _tensors(state), strict=True):
        torch.testing.assert_close(one, other)
    model(X, state)
    for part, kept_part in zip(_tensors(state), kept, strict=True):
        torch.testing.assert_close(part, kept_part, rtol=0, atol=0)
    torch.testing.assert_close(X, kept_X, rtol=0, atol=0)


def test_the_stack_keeps_the_caller_s_list() -> None:
    states = [torch.zeros(2, 6), torch.zeros(2, 6)]
    kept = list(states)
    StackedRNNScratch(7, 6, num_layers=2)(torch.ones(3, 2, 7), states)
    assert len(states) == 2
    assert all(one is other for one, other in zip(states, kept, strict=True))
    nothing = [None, None]
    StackedRNNScratch(7, 6, num_layers=2)(torch.ones(3, 2, 7), nothing)
    assert nothing == [None, None]


@pytest.mark.parametrize("make", ALL_MODELS)
def test_the_framework_s_optimiser_trains_every_parameter(make) -> None:
    torch.manual_seed(0)
    model = RNNLMScratch(make(), vocab_size=7)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    if isinstance(model.rnn, StackedRNNScratch):
        assert len(before) == 3 * model.rnn.num_layers + 2, "the layers are known to the framework"
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    tokens = torch.randint(0, 7, (4, 6))
    for _ in range(2):  # from zero biases the first step may leave a gradient at zero
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        optimiser.step()
    for name, parameter in model.named_parameters():
        if "bias_hh" not in name:
            assert not torch.equal(parameter, before[name]), f"{name} is not trained"
        elif parameter.requires_grad:
            assert not parameter[:-6].any(), "the r and z parts stay zero"
            assert parameter[-6:].any(), "b_hn is trained"
        else:
            assert not parameter.any(), "the second bias stays zero"


def _through_pickle(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "change",
    [copy.deepcopy, _through_pickle, lambda model: model.double()],
    ids=["copied", "pickled", "double"],
)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "native"])
def test_the_second_bias_of_a_gru_stays_zero(change, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(concise, "is_plain", lambda _: False)
    model = change(GRU(7, 6, num_layers=2))
    X = torch.randn(5, 3, 7, dtype=model.rnn.bias_hh_l0.dtype)
    model(X)[0].sum().backward()
    for bias in (model.rnn.bias_hh_l0, model.rnn.bias_hh_l1):
        assert not bias.grad[:12].any()
        assert bias.grad[12:].all()


def test_the_head_of_a_concise_model_is_a_linear_layer() -> None:
    torch.manual_seed(0)
    model = RNNLM(GRU(7, 6, num_layers=2), vocab_size=7, lr=0.5)
    tokens = torch.randint(0, 7, (3, 4))
    hiddens, _ = model.rnn(model.one_hot(tokens))
    torch.testing.assert_close(model(tokens), model.linear(hiddens).swapaxes(0, 1))
    assert model(tokens).shape == (3, 4, 7)
    assert model.lr == 0.5


def test_layers_that_do_not_know_tokens_get_one_hot_vectors() -> None:
    """As the book's chapters write them: a module of their own, or a subclass with its own `forward`."""

    class OwnForward(RNN):
        def forward(self, inputs, state=None):
            assert inputs.is_floating_point()
            return self.rnn(inputs, state)

    ours = RNN(7, 6)
    theirs = OwnForward(7, 6)
    theirs.load_state_dict(ours.state_dict())
    head = RNNLM(ours, 7)
    tokens = torch.randint(0, 7, (3, 4))
    expected = head(tokens)
    head.rnn = theirs
    torch.testing.assert_close(head(tokens), expected)


# Dropout, where no masks are given: the framework's


def test_dropout_is_the_framework_s() -> None:
    torch.manual_seed(0)
    model = GRU(7, 64, num_layers=2, dropout=0.3)
    with torch.no_grad():
        # The upper layer is tanh of its inputs, its update gate shut: what falls out is seen as zeros.
        for name, parameter in model.named_parameters():
            if name.endswith("_l1"):
                parameter.zero_()
        model.rnn.weight_ih_l1[128:] = torch.eye(64)
        model.rnn.bias_ih_l1[64:128] = -50.0
    X = torch.randn(20, 50, 7)
    model.train()
    dropped = (model(X)[0].abs() < 1e-12).double().mean()
    assert dropped.item() == pytest.approx(0.3, abs=0.01)
    assert not torch.equal(model(X)[0], model(X)[0])
    model.eval()
    assert (model(X)[0].abs() >= 1e-12).all()
    torch.testing.assert_close(model(X)[0], model(X)[0], rtol=0, atol=0)


@pytest.mark.parametrize("make", CONCISE)
def test_dropout_is_never_after_the_last_layer(make) -> None:
    one = make(7, 6, dropout=0.9).train()
    X = torch.randn(5, 3, 7)
    torch.testing.assert_close(one(X)[0], one(X)[0], rtol=0, atol=0)
    two = make(7, 6, num_layers=2, dropout=0.9).train()
    if make is ReluRNN:  # which has zeros of its own, unless a bias keeps it above them
        two.rnn.bias_ih_l1.data.fill_(100.0)
        two.rnn.weight_hh_l1.data.zero_()
    assert (two(X)[0] != 0).all()


# The learner


@pytest.mark.parametrize("spec", KINDS, ids=name_of)
def test_predictions_build_no_graph_and_states_go_anywhere(spec: ModelSpec) -> None:
    backend = TorchBackend()
    learner = backend.learner(backend.build(spec, drawn_parameters(spec)), TrainingSpec(), device="cpu")
    batch = drawn_batch(spec, batch_size=3, num_steps=5)
    _, predicted = learner.predict_step(batch.inputs[:, 0], learner.initial_state(3))
    _, evaluated = learner.eval_step(batch, learner.initial_state(3))
    result, trained = learner.train_step(batch, learner.initial_state(3))
    for state in (predicted, evaluated, trained):
        assert all(part.grad_fn is None and not part.requires_grad for part in _tensors(state))
        # As it is, a tensor made in inference mode could not go into a step that is differentiated.
        learner.train_step(batch, state)
    assert result.loss.grad_fn is None
    assert all(parameter.grad is None for parameter in learner.model.parameters())


def test_read_only_batches() -> None:
    """Windows are views of a corpus that nobody may write to; PyTorch warns where it shares such memory."""
    spec = ModelSpec(11, "gru", "concise", 8)
    backend = TorchBackend()
    learner = backend.learner(backend.build(spec, drawn_parameters(spec)), TrainingSpec(), device="cpu")
    batch = drawn_batch(spec, batch_size=3, num_steps=5)
    for array in batch:
        array.flags.writeable = False
    _, state = learner.train_step(batch, learner.initial_state(3))
    arrays = learner.export_state(state)
    learner.predict_step(batch.inputs[:, 0], state)
    learner.import_state(tuple(np.broadcast_to(part, part.shape) for part in arrays))


def test_a_learner_trains_the_model_itself() -> None:
    spec = ModelSpec(11, "gru", "concise", 8, num_layers=2)
    backend = TorchBackend()
    model = backend.build(spec, drawn_parameters(spec))
    assert isinstance(model, RNNLM)
    assert isinstance(model.rnn.rnn, nn.GRU)
    assert model.rnn.rnn.num_layers == 2
    learner = backend.learner(model, TrainingSpec(clip=None), device="cpu")
    before = copy.deepcopy(model.state_dict())
    learner.train_step(drawn_batch(spec, batch_size=3, num_steps=5), learner.initial_state(3))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(before)
    for l in range(2):
        assert not model.state_dict()[f"rnn.rnn.bias_hh_l{l}"][:16].any()


def test_building_draws_no_random_number() -> None:
    spec = ModelSpec(11, "lstm", "concise", 8)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    TorchBackend().build(spec, drawn_parameters(spec))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_default_dtype() == torch.float32


# Devices


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"card {i}")
    assert [device.name for device in TorchBackend().devices()] == ["gpu:0", "gpu:1", "cpu"]
    assert TorchBackend().devices()[1].description == "card 1"
    assert num_gpus() == 2
    assert try_gpu() == torch.device("cuda:0")
    assert try_gpu(1) == torch.device("cuda:1")
    assert try_gpu(2) == torch.device("cpu")
    assert native_device(Device("gpu:1", "card 1")) == torch.device("cuda:1")
    assert native_device(Device("cpu", "")) == torch.device("cpu")


def test_full_precision_lasts_as_long_as_a_call() -> None:
    before = torch.backends.cudnn.allow_tf32
    with full_precision(torch.device("cuda:0")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.enabled
    assert torch.backends.cudnn.allow_tf32 == before


# The embedding and what is around the layers


@pytest.mark.parametrize("vocab_size", [5, 400])
@pytest.mark.parametrize("width", [3, 100])
def test_rows_are_looked_up_with_the_gradient_of_an_embedding(vocab_size: int, width: int) -> None:
    """Tokens that come several times, fewer and more of them than the table has rows; the same every time."""
    torch.manual_seed(0)
    table = torch.randn(vocab_size, width, requires_grad=True)
    tokens = torch.randint(0, vocab_size, (7, 4), dtype=torch.int32)
    weights = torch.randn(7, 4, width)
    (gradient,) = torch.autograd.grad((look_up(tokens, table) * weights).sum(), table)
    expected = torch.zeros(vocab_size, width).index_put_(
        (tokens.flatten().long(),), weights.flatten(0, 1), True
    )
    torch.testing.assert_close(look_up(tokens, table), table[tokens.long()], rtol=0, atol=0)
    torch.testing.assert_close(gradient, expected)
    for _ in range(3):
        (again,) = torch.autograd.grad((look_up(tokens, table) * weights).sum(), table)
        assert torch.equal(again, gradient)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", [RNNLMScratch, RNNLM])
def test_a_model_with_an_embedding_is_the_model_on_its_vectors(kind: type[RNNLMScratch], tied: bool) -> None:
    torch.manual_seed(0)
    model = kind(GRU(6, 6), 9, embedding_size=6, tied=tied)
    head = ({"linear.bias"} if tied else {"linear.weight", "linear.bias"}) if kind is RNNLM else (
        {"b_q"} if tied else {"W_hq", "b_q"})  # fmt: skip
    table = "embedding.weight" if kind is RNNLM else "W_e"
    named = dict(model.named_parameters())
    assert {name for name in named if not name.startswith("rnn.")} == {table, *head}
    tokens = torch.randint(0, 9, (2, 5))
    hiddens, _ = model.rnn(named[table][tokens.t()])
    torch.testing.assert_close(model(tokens), model.output_layer(hiddens))
    if tied:
        bias = model.linear.bias if kind is RNNLM else model.b_q
        torch.testing.assert_close(model(tokens), (hiddens @ named[table].t() + bias).swapaxes(0, 1))
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    before = {name: p.detach().clone() for name, p in named.items()}
    nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    optimiser.step()
    for name in (table, *head):
        assert not torch.equal(before[name], named[name]), f"{name} is not trained"


@pytest.mark.parametrize("where", ["input_dropout", "output_dropout"])
@pytest.mark.parametrize("kind", [RNNLMScratch, RNNLM])
def test_dropout_around_the_layers_is_the_framework_s_while_training(kind, where: str) -> None:
    torch.manual_seed(0)
    model = kind(RNN(6, 16), 9, embedding_size=6, **{where: 0.5}).train()
    tokens = torch.randint(0, 9, (2, 5))
    assert not torch.allclose(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_an_embedding_that_does_more_than_looking_up_is_called() -> None:
    model = RNNLM(RNN(6, 16), 9, embedding_size=6)
    model.embedding = nn.Embedding(9, 6, padding_idx=0)
    tokens = torch.zeros(2, 5, dtype=torch.long)
    (gradient,) = torch.autograd.grad(model(tokens).sum(), [model.embedding.weight])
    assert not gradient.any(), "the padding's row has no gradient"


@pytest.mark.parametrize("model", [
    RNNScratch(4, 3), GRU(4, 3), RNNLMScratch(RNNScratch(4, 3), 4), RNNLM(LSTM(4, 3), 4),
], ids=lambda model: type(model).__name__)  # fmt: skip
def test_a_numpy_array_is_no_tensor(model: nn.Module) -> None:
    for array in (np.zeros((2, 5), np.int64), np.zeros((2, 5, 4), np.float32)):
        with pytest.raises(KindError, match=r"the inputs are a NumPy array.*torch\.from_numpy\(inputs\)"):
            model(array)
