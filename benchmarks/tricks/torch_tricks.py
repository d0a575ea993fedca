"""The tricks of the PyTorch backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from d2lrnn_torch import activations, concise, head, products, tokens
from d2lrnn_torch.language_model import RNNLM, RNNLMScratch
from d2lrnn_torch.layer import project, unroll
from d2lrnn_torch.optimizers import sgd, update
from d2lrnn_torch.recurrence import LSTMRecurrence
from d2lrnn_torch.scratch import GRUScratch, LSTMScratch, RNNScratch, ScratchLayer
from d2lrnn_torch.stepper import Stepper
from run import Trick
from torch.nn.functional import cross_entropy, embedding

from d2lrnn.contract import optimizers

C, M, W = (32, 35, 512), (1024, 32, 32), (20, 35, 650)
#: Tokens of a vocabulary of characters, and of one of words.
CHARACTERS, WORDS = 28, 10_000
#: Characters generated one after the other, each from the state of the step before.
STEPS = 10


def tricks() -> list[Trick]:
    """All tricks of this backend."""
    return [
        *(found for sizes in (C, M) for found in _recurrences(*sizes)),
        *(_tanh(B, h) for B, _, h in (C, M)),
        *_products(),
        _weight_gradient(),
        _affine(),
        _rows(),
        _bias_in_rows(),
        _identity(),
        _lstm_by_onednn(),
        *(_cells(kind, h) for kind in concise.CONCISE_LAYERS.values() for h in (C[2], M[2])),
        _layer_states(),
        _next_logits(),
        *(_inference_mode(num_layers) for num_layers in (1, 2)),
        _split_gates(),
        _tokens_by_numpy(),
        _summed_loss(*W),
        _sgd(),
    ]


def _recurrences(B: int, T: int, h: int) -> list[Trick]:
    """Outputs and gradients of a layer: the backward pass by hand, and autograd's of the formula."""
    layers: tuple[tuple[str, str, ScratchLayer], ...] = (
        ("TanhRecurrence", "", RNNScratch(CHARACTERS, h)),
        ("GRURecurrence", " that resets after the product", GRUScratch(CHARACTERS, h, reset_after=True)),
        ("GRUBeforeRecurrence", " that resets before it", GRUScratch(CHARACTERS, h)),
        ("LSTMRecurrence", "", LSTMScratch(CHARACTERS, h)),
    )
    return [_recurrence(function, form, layer, B, T, h) for function, form, layer in layers]


def _recurrence(function: str, form: str, layer: Any, B: int, T: int, h: int) -> Trick:
    random = np.random.default_rng(0)
    parameters = list(layer.parameters())
    for p in parameters:
        p.data = _drawn(random, *p.shape) * h**-0.5
    inputs, d_outputs = _tokens(random, T, B, size=CHARACTERS), _drawn(random, T, B, h)
    states = tuple(_drawn(random, B, h) for _ in layer.cell.states)
    state = states if len(states) > 1 else states[0]

    def by_formula(layer: Any, inputs: Any, state: Any) -> Any:
        return unroll(layer.step, project(inputs, layer._own("w_x"), layer._own("b")), state)

    def run(sequence: Callable[..., Any]) -> Callable[[], Any]:
        def forth_and_back() -> Any:
            outputs, _ = sequence(layer, inputs, state)
            return outputs, torch.autograd.grad(outputs, parameters, d_outputs)

        return forth_and_back

    return Trick(
        f"backward pass by hand, {layer.cell.title}{form}", f"recurrence.{function}", f"{B} x {T} x {h}",
        run(type(layer).step.sequence), run(by_formula), 1e-3,
    )  # fmt: skip


def _tanh(B: int, h: int) -> Trick:
    x = _drawn(np.random.default_rng(0), B, h)
    out = torch.empty_like(x)
    return Trick(
        "NumPy's tanh", "activations.tanh", f"{B} x {h}",
        lambda: activations.tanh(x, out), lambda: torch.tanh(x, out=out),
    )  # fmt: skip


def _products() -> list[Trick]:
    """The products of an LSTM's step forward and backward, outside of any graph."""
    B, _, h = C
    random = np.random.default_rng(0)
    H, w, d, X = (_drawn(random, *shape) for shape in ((B, h), (h, 4 * h), (B, 4 * h), (B, 4 * h)))
    out = torch.empty_like(X)
    return [
        Trick("a product by oneDNN", "products.times", f"{B} x {h} x {4 * h}",
              lambda: products.times(H, w), lambda: torch.mm(H, w)),
        Trick("a product by oneDNN", "products.times", f"{B} x {4 * h} x {h}, transposed",
              lambda: products.times(d, w.t()), lambda: torch.mm(d, w.t())),
        Trick("a product by oneDNN, and a sum", "products.plus", f"{B} x {h} x {4 * h}",
              lambda: products.plus(X, H, w, out=out), lambda: torch.addmm(X, H, w, out=out)),
    ]  # fmt: skip


def _weight_gradient() -> Trick:
    """The gradient of the output layer's weight."""
    B, T, h = C
    random = np.random.default_rng(0)
    X, d = _drawn(random, T * B, h), _drawn(random, T * B, CHARACTERS)
    return Trick(
        "a gradient whose narrower factor is laid out anew", "products.weight_gradient",
        f"{h} x {T * B} x {CHARACTERS}",
        lambda: products.weight_gradient(X, d), lambda: products.times(X.t(), d),
    )  # fmt: skip


def _affine() -> Trick:
    """The output layer, forward and backward."""
    B, T, h = C
    random = np.random.default_rng(0)
    X, w, b, d = (
        _drawn(random, *shape) for shape in ((T, B, h), (h, CHARACTERS), (CHARACTERS,), (T, B, CHARACTERS))
    )

    def by_addmm(X: Any, w: Any, b: Any) -> Any:
        return torch.addmm(b, X.flatten(0, 1), w).unflatten(0, X.shape[:2])

    return Trick(
        "the output layer by oneDNN", "products.affine", f"{T * B} x {h} x {CHARACTERS}, with gradients",
        _forth_and_back(partial(products.affine, X, w, b), (X, w, b), d),
        _forth_and_back(partial(by_addmm, X, w, b), (X, w, b), d),
    )  # fmt: skip


def _rows() -> Trick:
    """Narrow rows of a table, and the table's gradient."""
    B, T, h = M
    random = np.random.default_rng(0)
    table, inputs = _drawn(random, CHARACTERS, h), _tokens(random, T, B, size=CHARACTERS)
    d = _drawn(random, T, B, h)
    return Trick(
        "rows of tokens", "tokens._Rows", f"{B * T} tokens of {CHARACTERS}, {h} wide",
        _forth_and_back(lambda: tokens.look_up(inputs, table), (table,), d),
        _forth_and_back(lambda: embedding(inputs, table), (table,), d),
    )  # fmt: skip


def _bias_in_rows() -> Trick:
    B, T, h = C
    random = np.random.default_rng(0)
    w, b, d = (_drawn(random, *shape) for shape in ((CHARACTERS, 4 * h), (4 * h,), (T, B, 4 * h)))
    inputs = _tokens(random, T, B, size=CHARACTERS)
    return Trick(
        "the bias added to the rows", "layer.project", f"{B * T} tokens of {CHARACTERS}, {4 * h} wide",
        _forth_and_back(lambda: project(inputs, w, b), (w, b), d),
        _forth_and_back(lambda: tokens.look_up(inputs, w) + b, (w, b), d),
    )  # fmt: skip


def _identity() -> Trick:
    inputs, like = torch.tensor([3]), torch.zeros(())

    def by_scatter() -> Any:
        hot = like.new_zeros((*inputs.shape, CHARACTERS))
        return hot.scatter_(-1, inputs.unsqueeze(-1), 1)

    return Trick(
        "rows of an identity that is kept", "tokens.vectors", f"1 token of {CHARACTERS}",
        lambda: tokens.vectors(inputs, CHARACTERS, like), by_scatter,
    )  # fmt: skip


def _lstm_by_onednn() -> Trick:
    """PyTorch's function and the backward pass by hand, on the weights of a concise layer."""
    B, T, h = C
    random = np.random.default_rng(0)
    rnn = concise.LSTM(CHARACTERS, h).rnn
    inputs, d = _tokens(random, T, B, size=CHARACTERS), _drawn(random, T, B, h)
    H, C_0 = _drawn(random, B, h), _drawn(random, B, h)
    weights = w_x, w_h, b_x, b_h = concise._weights(rnn, 0)

    def by_hand() -> Any:
        return LSTMRecurrence.apply(project(inputs, w_x.t(), b_x + b_h), H, C_0, w_h.t())[0]

    return Trick(
        "PyTorch's own LSTM", "concise._lstm_layer", f"{B} x {T} x {h}",
        _forth_and_back(lambda: concise._lstm_layer(inputs, (H, C_0), *weights)[0], (w_x, w_h, b_x), d),
        _forth_and_back(by_hand, (w_x, w_h, b_x), d), 1e-3,
    )  # fmt: skip


def _cells(kind: type[concise.RNN], h: int) -> Trick:
    """Single steps of one layer by PyTorch's cell, and by its layer for all steps."""
    rnn = kind(CHARACTERS, h).rnn
    written = [torch.tensor([token]) for token in range(STEPS)]

    @torch.no_grad()
    def by_cells() -> Any:
        state: Any = concise._by_layer(concise._zeros(rnn, 1))
        for token in written:
            H, state = concise.run_cells(rnn, token, state)
        return H

    @torch.no_grad()
    def by_layer() -> Any:
        state = concise._zeros(rnn, 1)
        for token in written:
            X = tokens.vectors(token, CHARACTERS, like=rnn.weight_ih_l0)
            outputs, state = rnn(X.unsqueeze(0), state)
        return outputs[0]

    where, setting = "concise.run_cells", f"{kind.cell.title}, {STEPS} steps of 1 x {h}"
    return Trick("a single step by PyTorch's cells", where, setting, by_cells, by_layer)


def _layer_states() -> Trick:
    """Single steps of two layers, with separate states, or with states stacked after every step."""
    h, layers = M[2], 2
    rnn = concise.GRU(CHARACTERS, h, layers).rnn
    written = [torch.tensor([token]) for token in range(STEPS)]

    def run(leave: Callable[[Any], Any]) -> Callable[[], Any]:
        @torch.no_grad()
        def steps() -> Any:
            state: Any = concise._zeros(rnn, 1)
            for token in written:
                H, states = concise.run_cells(rnn, token, state)
                state = leave(states)
            return H

        return steps

    return Trick(
        "states of the layers apart", "concise.LayerStates", f"GRU, {STEPS} steps of {layers} x 1 x {h}",
        run(lambda states: states), run(concise.stacked),
    )  # fmt: skip


def _next_logits() -> Trick:
    model, device = _small_model()

    def by_unroll(tokens: Any, state: Any) -> Any:
        logits, state = model.unroll(tokens.unsqueeze(1), state)
        return logits[:, 0], state

    own, other = (Stepper(step, model.rnn.begin_state, device) for step in (model.next_logits, by_unroll))
    return Trick(
        "a single step of a model", "language_model.RNNLMScratch.next_logits",
        f"tanh RNN, {STEPS} steps of 1 x {M[2]}", lambda: _write(own), lambda: _write(other),
    )  # fmt: skip


def _inference_mode(num_layers: int) -> Trick:
    model = RNNLM(concise.LSTM(CHARACTERS, M[2], num_layers), CHARACTERS).eval()
    own, other = (
        Stepper(model.next_logits, model.rnn.begin_state, torch.device("cpu"), makes_parameters=makes)
        for makes in (False, True)
    )
    return Trick(
        "single steps in inference mode", "stepper.Stepper",
        f"LSTM, {STEPS} steps of {num_layers} x 1 x {M[2]}", lambda: _write(own), lambda: _write(other),
    )  # fmt: skip


def _split_gates() -> Trick:
    h = M[2]
    layer, gates = GRUScratch(CHARACTERS, h), _drawn(np.random.default_rng(0), 1, 3 * h)
    return Trick(
        "gates split without Python", "scratch.GRUScratch.split_gates", f"1 x {3 * h}",
        lambda: layer.split_gates(gates), lambda: gates.split([2 * h, h], dim=-1),
    )  # fmt: skip


def _tokens_by_numpy() -> Trick:
    one = np.array([3], np.int32)
    return Trick(
        "tokens copied by NumPy", "stepper.Stepper.predict_step", "1 token",
        lambda: torch.from_numpy(one.astype(np.int64)), lambda: torch.tensor(one, dtype=torch.int64),
    )  # fmt: skip


def _summed_loss(B: int, T: int, h: int) -> Trick:
    """The output layer and the loss of a batch, with their gradients."""
    random = np.random.default_rng(0)
    H, w, b = (_drawn(random, *shape) * h**-0.5 for shape in ((T * B, h), (h, WORDS), (WORDS,)))
    targets = _tokens(random, T * B, size=WORDS).long()

    def plain() -> Any:
        logits = products.affine(H.unsqueeze(1), w, b).squeeze(1)
        return cross_entropy(logits, targets, reduction="sum")

    one = torch.ones(())
    return Trick(
        "the head's loss in one array of logits", "head._SummedLoss", f"{T * B} x {h} x {WORDS}",
        _forth_and_back(lambda: head.summed_loss(H, w, b, targets), (H, w, b), one),
        _forth_and_back(plain, (H, w, b), one),
    )  # fmt: skip


def _sgd() -> Trick:
    """The update of an LSTM's parameters; each side has its own copy."""
    h, rate, scale = C[2], 1e-3, torch.tensor(0.5)
    random = np.random.default_rng(0)
    shapes = ((CHARACTERS, 4 * h), (h, 4 * h), (4 * h,), (h, CHARACTERS), (CHARACTERS,))
    values, gradients = ([_drawn(random, *shape) for shape in shapes] for _ in range(2))
    own, other = ([value.clone() for value in values] for _ in range(2))
    optimizer = optimizers.SGD()
    slots: list[dict[str, Any]] = [{} for _ in shapes]

    def scaled_while_added() -> Any:
        update(optimizer, own, gradients, slots, scale=scale, rate=rate, t=1)
        return own

    @torch.no_grad()
    def scaled_before() -> Any:
        for p, g, remembered in zip(other, gradients, slots, strict=True):
            sgd(optimizer, p, g * scale, remembered, rate, 1)
        return other

    return Trick(
        "gradients scaled while they are added", "optimizers.update", f"LSTM of {h}, {CHARACTERS} tokens",
        scaled_while_added, scaled_before,
    )  # fmt: skip


def _forth_and_back(run: Callable[[], Any], variables: Sequence[Any], d: Any) -> Callable[[], Any]:
    """A function that returns the outputs of `run` and the gradients of `variables`, for the gradient `d`."""
    for variable in variables:
        variable.requires_grad_()

    def forth_and_back() -> Any:
        outputs = run()
        return outputs, torch.autograd.grad(outputs, variables, d)

    return forth_and_back


def _small_model() -> tuple[RNNLMScratch, torch.device]:
    layer = RNNScratch(CHARACTERS, M[2], sigma=M[2] ** -0.5)
    return RNNLMScratch(layer, CHARACTERS).eval(), torch.device("cpu")


def _write(stepper: Stepper) -> Any:
    state = stepper.initial_state(1)
    for token in range(STEPS):
        logits, state = stepper.predict_step(np.array([token], np.int32), state)
    return logits


def _tokens(random: np.random.Generator, *shape: int, size: int) -> Any:
    return torch.from_numpy(random.integers(0, size, shape).astype(np.int32))


def _drawn(random: np.random.Generator, *shape: int) -> Any:
    return torch.from_numpy(random.normal(0, 1, shape).astype(np.float32))
