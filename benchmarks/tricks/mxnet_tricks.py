"""The tricks of the MXNet backend.

How long an idle thread of OpenMP spins (``GOMP_SPINCOUNT``, in the package's ``__init__``) is not among them:
its gain depends on what other programs do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import mxnet as mx
import numpy
from d2lrnn_mxnet import activations, adapter, gradients, prediction, recurrence, scratch
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.dropout import masks_on_device
from d2lrnn_mxnet.loss import CrossEntropyGradient
from d2lrnn_mxnet.parameters import parameter_places
from d2lrnn_mxnet.program import Program
from d2lrnn_mxnet.states import whole, zero_state
from elsewhere import Elsewhere
from mxnet import autograd, np, npx, sym
from mxnet.gluon import nn
from run import Trick

import d2lrnn
from d2lrnn.contract import cells
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Batch
from d2lrnn.training.initialization import initial_parameters

C, M = (32, 35, 512), (1024, 32, 32)
V = 28

#: Single steps in one call to another process.
STEPS = 100


def tricks() -> list[Trick]:
    """All tricks of this backend."""
    npx.set_np()
    scratch_cells, concise_cells = (d2lrnn.backend().cells(kind) for kind in ("scratch", "concise"))
    return [
        *(_graph(ModelSpec(V, name, num_hiddens=h), side) for name in scratch_cells for h in (32, 512)
          for side in (_eager, _program)),
        *(_graph(ModelSpec(V, name, "concise"), _program) for name in concise_cells),
        *(_activations_of_graph(threads) for threads in (1, 2)),
        _tokens_in_place(),
        _state_by_layer(),
        *(_unrolled(name, *sizes) for name in scratch_cells for sizes in (C, M)),
        *(_products(name, *sizes) for name in scratch_cells for sizes in (C, (32, 35, 32), M)),
        *(_weights_cut(*sizes) for sizes in (C, M)),
        *(_pieces(*sizes) for sizes in (C, M)),
        *(_linear(*sizes) for sizes in (C, M)),
        *(_activation(kind, B, h) for kind in ("sigmoid", "tanh", "relu") for B, _, h in (C, M)),
        *(_loss_gradient(B, T, by) for B, T, _ in (C, M) for by in ("log-sum-exp", "log_softmax")),
        _norm(),
        _on_device(),
        *(_engine(single_steps, f"{STEPS} steps 1 x 32", threads) for threads in (1, 2)),
        *(_engine(loss_and_gradients, "gradients 32 x 35 x 32", threads) for threads in (1, 2)),
    ]  # fmt: skip


def _graph(spec: ModelSpec, other: Callable[[ModelSpec], Callable[[], Any]]) -> Trick:
    title, against = cells.find_cell(spec.cell).title, other.__name__.strip("_")
    kind = "" if spec.implementation == "scratch" else "concise "
    return Trick(
        f"single step as a graph, against {AGAINST[against]}", "prediction.GraphPredictor",
        f"{kind}{title}, 1 x {spec.num_hiddens}", _by_graph(spec), other(spec), 1e-4,
    )  # fmt: skip


AGAINST = {"eager": "the model's own call", "program": "the model compiled for one step"}


def _by_graph(spec: ModelSpec, *instead: tuple[Any, str, Any]) -> Callable[[], Any]:
    """A single step by the graph, made with replacements for some of the library's functions."""
    model, context = _model(spec), mx.cpu()
    predictor = prediction.GraphPredictor(spec, parameter_places(model, spec), context)
    state, tokens = zero_state(spec, 1, context), numpy.zeros(1, numpy.int32)
    with _replaced(instead):
        _, state = predictor.predict_step(tokens, state)
    return lambda: predictor.predict_step(tokens, state)[0]


def _eager(spec: ModelSpec) -> Callable[[], Any]:
    model, context = _model(spec), mx.cpu()
    predictor = prediction.EagerPredictor(
        model.unroll, lambda batch_size: zero_state(spec, batch_size, context), context
    )
    tokens = numpy.zeros(1, numpy.int32)
    _, state = predictor.predict_step(tokens, predictor.initial_state(1))
    return lambda: predictor.predict_step(tokens, state)[0]


def _program(spec: ModelSpec) -> Callable[[], Any]:
    program, context = Program(_model(spec), 1, 1), mx.cpu()
    tokens, no_masks = numpy.zeros((1, 1), numpy.int32), masks_on_device(None, spec.dtype, context)

    def step(state: Any) -> Any:
        with autograd.pause():
            logits, state = program.unroll(on_device(tokens, "int32", context), state, no_masks)
        return logits.asnumpy()[0], state

    # The graph overwrites its results at the next call.
    state = _copied(step(zero_state(spec, 1, context))[1])
    return lambda: step(state)[0]


def _activations_of_graph(threads: int) -> Trick:
    """The operators of a single step's activations, in processes with this number of OpenMP threads."""
    trick, twin = (
        Elsewhere(steps_by_graph, by_onednn, OMP_NUM_THREADS=str(threads)) for by_onednn in (False, True)
    )
    return Trick(
        "activations by NumPy's operators in a single step", "activations._is_one_step",
        f"LSTM, {STEPS} steps 1 x 32, threads: {threads}", trick, twin, 1e-4,
    )  # fmt: skip


def steps_by_graph(by_onednn: bool) -> Callable[[], Any]:
    """In a process of its own: `STEPS` times the same single step."""

    def activation(kind: str) -> Callable[[Any], Any]:
        return lambda x: sym.Activation(x.as_nd_ndarray(), act_type=kind).as_np_ndarray()

    instead = [(scratch, kind, activation(kind)) for kind in ("sigmoid", "tanh")] if by_onednn else []
    step = _by_graph(ModelSpec(V, cells.LSTM.name), *instead)
    return lambda: [step() for _ in range(STEPS)][-1]


def _tokens_in_place() -> Trick:
    """The tokens written into the memory of an MXNet array, and a new array of them."""
    memory = numpy.zeros(1, numpy.int32)
    view, array = memory[:], mx.nd.from_numpy(memory, array_cls=np.ndarray)
    tokens, context = numpy.full(1, 3, numpy.int32), mx.cpu()

    def write() -> Any:
        view[:] = tokens
        return array.as_in_ctx(context)

    return Trick(
        "tokens written into the array of the step before", "prediction.Prediction.__call__", "1 token",
        write, lambda: on_device(tokens, "int32", context),
    )  # fmt: skip


def _state_by_layer() -> Trick:
    """A concise model's state split by layer, and in its own form."""
    spec = ModelSpec(V, cells.GRU.name, "concise", num_layers=2)
    step, context = _by_graph(spec), mx.cpu()
    predictor = prediction.GraphPredictor(spec, parameter_places(_model(spec), spec), context)
    tokens = numpy.zeros(1, numpy.int32)
    _, after = predictor.predict_step(tokens, zero_state(spec, 1, context))
    state = whole(spec, after)

    def in_own_form() -> Any:
        logits, after = predictor.predict_step(tokens, state)
        whole(spec, after)
        return logits

    return Trick(
        "the state of a single step layer by layer", "states.Layers", "concise GRU, 2 layers, 1 x 32",
        step, in_own_form,
    )  # fmt: skip


def _unrolled(name: str, B: int, T: int, h: int) -> Trick:
    """Logits and gradients of a model, compiled and operator by operator."""
    spec = ModelSpec(V, name, num_hiddens=h)
    return Trick(
        f"{cells.find_cell(name).title}, all steps as one graph", "program.Program", f"{B} x {T} x {h}",
        _forth_and_back(spec, B, T), _forth_and_back(spec, B, T, compiled=False), 1e-4,
    )  # fmt: skip


def _products(name: str, B: int, T: int, h: int) -> Trick:
    """The products of a recurrence by OpenBLAS if they are small, else by oneDNN; each against the other."""
    small = B * h <= recurrence.SMALL
    own, other = (Elsewhere(multiplied, name, (B, T, h), by_openblas) for by_openblas in (small, not small))
    return Trick(
        f"{cells.find_cell(name).title}, products by {'OpenBLAS' if small else 'oneDNN'}",
        "recurrence.SMALL", f"{B} x {T} x {h}", own, other, 1e-4,
    )  # fmt: skip


def multiplied(name: str, sizes: tuple[int, int, int], by_openblas: bool) -> Callable[[], Any]:
    """In a process of its own, as the threads of either library slow down the other's."""
    npx.set_np()
    B, T, h = sizes
    limit = (recurrence, "SMALL", B * h if by_openblas else 0)
    run = _forth_and_back(ModelSpec(V, name, num_hiddens=h), B, T, limit)
    return lambda: [result.asnumpy() for result in run()]


def _weights_cut(B: int, T: int, h: int) -> Trick:
    """An LSTM's products by gate, and one product whose result is split."""
    H, W, d = _drawn(T, B, h), _drawn(4 * h, h, sigma=h**-0.5), [_drawn(B, h) for _ in range(4 * T)]

    def by_gates(F: Any, H: Any, W: Any) -> Any:
        parts = recurrence.cut(F, W, 4)
        return [_product(F, X, part, h) for X in recurrence.cut(F, H, T, squeeze=True) for part in parts]

    def of_all(F: Any, H: Any, W: Any) -> Any:
        whole = (_product(F, X, W, 4 * h) for X in recurrence.cut(F, H, T, squeeze=True))
        cut = (F.SliceChannel(X.as_nd_ndarray(), num_outputs=4, axis=1) for X in whole)
        return [piece.as_np_ndarray() for pieces in cut for piece in pieces]

    return Trick(
        "weights cut by gates before the products", "recurrence.unroll", f"{T} of {B} x {h} by {4 * h}",
        _gradient(_Block(by_gates), d, H, W), _gradient(_Block(of_all), d, H, W), 1e-4,
    )  # fmt: skip


def _product(F: Any, X: Any, W: Any, size: int) -> Any:
    return recurrence.linear(F, X, W, num_outputs=size)


def _pieces(B: int, T: int, h: int) -> Trick:
    """Time steps cut apart by the legacy operator, and by ``np.split``."""
    X, d = _drawn(T, B, h), [_drawn(B, h) for _ in range(T)]

    def by_split(F: Any, X: Any) -> Any:
        return [F.np.squeeze(piece, axis=0) for piece in F.np.split(X, T, axis=0)]

    return Trick(
        "time steps cut apart by the legacy operator", "recurrence.cut", f"{B} x {T} x {h}",
        _gradient(_Block(lambda F, X: recurrence.cut(F, X, T, squeeze=True)), d, X),
        _gradient(_Block(by_split), d, X),
    )  # fmt: skip


def _linear(B: int, T: int, h: int) -> Trick:
    """A product and a bias in one operator, and by two."""
    X, W, b, d = _drawn(T, B, h), _drawn(h, h, sigma=h**-0.5), _drawn(h), [_drawn(T, B, h)]
    return Trick(
        "a product and a bias in one operator", "recurrence.linear", f"{B} x {T} x {h} by {h}",
        _gradient(_Block(lambda F, X, W, b: [recurrence.linear(F, X, W, b, num_outputs=h)]), d, X, W, b),
        _gradient(_Block(lambda F, X, W, b: [F.np.dot(X, W.T) + b]), d, X, W, b), 1e-4,
    )  # fmt: skip


def _activation(kind: str, B: int, h: int) -> Trick:
    """The operator of oneDNN, and the one with NumPy's name."""
    X, d = _drawn(B, h), [_drawn(B, h)]

    def by_onednn(F: Any, X: Any) -> Any:
        return [getattr(activations, kind)(X.as_nd_ndarray()).as_np_ndarray()]

    def plain(F: Any, X: Any) -> Any:
        return [getattr(F.np if kind == "tanh" else F.npx, kind)(X)]

    return Trick(
        f"{kind} by oneDNN", "activations._activation", f"{B} x {h}",
        _gradient(_Block(by_onednn), d, X), _gradient(_Block(plain), d, X),
    )  # fmt: skip


def _loss_gradient(B: int, T: int, by: str) -> Trick:
    """The gradient at the logits written out, and the one that autograd derives."""
    logits, targets = _drawn(T, B, V), _tokens(B, T)
    written_out = CrossEntropyGradient(V, "float32")
    written_out.hybridize(static_alloc=True, static_shape=True)

    def by_log_sum_exp(F: Any, logits: Any, targets: Any) -> Any:
        largest = F.np.max(logits, axis=-1, keepdims=True)
        sums = F.np.log(F.np.sum(F.np.exp(logits - largest), axis=-1)) + F.np.squeeze(largest, axis=-1)
        return F.np.sum(sums - F.npx.pick(logits, targets.T)) / (B * T)

    def by_log_softmax(F: Any, logits: Any, targets: Any) -> Any:
        return -F.np.sum(F.npx.pick(F.npx.log_softmax(logits, axis=-1), targets.T)) / (B * T)

    derived = _Block(by_log_sum_exp if by == "log-sum-exp" else by_log_softmax)
    derived.hybridize(static_alloc=True, static_shape=True)
    logits.attach_grad()

    def by_autograd() -> Any:
        with autograd.record():
            value = derived(logits, targets)
        value.backward()
        return logits.grad

    return Trick(
        f"the loss's gradient written out, against autograd's of {by}", "loss.CrossEntropyGradient",
        f"{B} x {T} x {V}",
        lambda: written_out(logits.detach(), targets), by_autograd,
    )  # fmt: skip


def _norm() -> Trick:
    h = C[2]
    arrays = [_drawn(h, 4 * h), _drawn(V, 4 * h), _drawn(4 * h)]

    def by_sums() -> Any:
        return np.sqrt(sum(np.sum(np.square(part)) for part in arrays))

    return Trick(
        "the global norm by products", "gradients.global_norm", f"LSTM of {h}",
        lambda: gradients.global_norm(arrays), by_sums,
    )  # fmt: skip


def _on_device() -> Trick:
    tokens, context = numpy.zeros(C[:2], numpy.int32), mx.cpu()
    return Trick(
        "arrays taken over from NumPy", "arrays.on_device", f"{C[0]} x {C[1]} tokens",
        lambda: on_device(tokens, "int32", context), lambda: np.array(tokens, dtype="int32", ctx=context),
    )  # fmt: skip


def _engine(run: Callable[[bool], Callable[[], Any]], setting: str, threads: int) -> Trick:
    """MXNet's two engines, each in a process of its own: an engine serves the whole process."""
    own, other = (Elsewhere(run, default, OMP_NUM_THREADS=str(threads)) for default in (False, True))
    return Trick(
        "MXNet computes in the calling thread", "engine.compute_where_asked",
        f"tanh RNN, {setting}, threads: {threads}", own, other, 1e-4,
    )  # fmt: skip


def single_steps(default_engine: bool) -> Callable[[], Any]:
    """In a process of its own: `STEPS` single steps, which return the last logits."""
    learner, tokens = _learner(default_engine), numpy.zeros(1, numpy.int32)

    def run() -> Any:
        state = learner.initial_state(1)
        for _ in range(STEPS):
            logits, state = learner.predict_step(tokens, state)
        return logits

    return run


def loss_and_gradients(default_engine: bool) -> Callable[[], Any]:
    """In a process of its own: the loss of a batch and all gradients."""
    learner, (B, T, _) = _learner(default_engine), C
    tokens = numpy.random.default_rng(0).integers(0, V, (B, T + 1)).astype(numpy.int32)
    batch, state = Batch(tokens[:, :-1], tokens[:, 1:]), learner.initial_state(B)
    return lambda: learner.gradients(batch, state)


def _learner(default_engine: bool) -> Any:
    """A small model's learner, with MXNet's default engine or with the backend's."""
    if default_engine:
        adapter.compute_where_asked = lambda: None
    spec = ModelSpec(V)
    return d2lrnn.backend().learner(_model(spec), TrainingSpec(), device="cpu")


class _Block(nn.HybridBlock):
    """A function of `F` and arrays."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def hybrid_forward(self, F: Any, *arrays: Any) -> Any:
        """Calls the function."""
        return self._function(F, *arrays)


def _gradient(block: Any, d: Sequence[Any], *arrays: Any) -> Callable[[], Any]:
    """A compiled block's results, and the gradients of its arguments for the gradients `d` at these."""
    block.hybridize(static_alloc=True, static_shape=True)
    own = [array.copy() for array in arrays]
    for array in own:
        array.attach_grad()

    def forth_and_back() -> Any:
        with autograd.record():
            results = block(*own)
        results = results if isinstance(results, (list, tuple)) else [results]
        autograd.backward(list(results), list(d))
        return [*results, *(array.grad for array in own)]

    return forth_and_back


def _forth_and_back(
    spec: ModelSpec, B: int, T: int, *instead: tuple[Any, str, Any], compiled: bool = True
) -> Callable[[], Any]:
    """Logits of a model and all its gradients, compiled with replacements for some of the library's names."""
    model, context = _model(spec), mx.cpu()
    tokens, state, d = _tokens(B, T), zero_state(spec, B, context), _drawn(T, B, V)
    no_masks = masks_on_device(None, spec.dtype, context)
    parameters = list(model.collect_params().values())
    program = Program(model, B, T)

    def forth_and_back() -> Any:
        with autograd.record():
            if compiled:
                logits, _ = program.unroll(tokens, state, no_masks)
            else:
                logits, _ = model.unroll_by_step(tokens.T, state, no_masks)
        logits.backward(d)
        return [logits, *(parameter.grad() for parameter in parameters)]

    with _replaced(instead):
        forth_and_back()
    return forth_and_back


def _replaced(instead: Sequence[tuple[Any, str, Any]]) -> ExitStack:
    stack = ExitStack()
    for module, name, other in instead:
        stack.enter_context(patch.object(module, name, other))
    return stack


def _model(spec: ModelSpec) -> Any:
    return d2lrnn.backend().build(spec, initial_parameters(spec))


def _copied(state: Any) -> Any:
    return [_copied(part) for part in state] if isinstance(state, (list, tuple)) else state.copy()


def _drawn(*shape: int, sigma: float = 1.0) -> Any:
    # Equal shapes give equal numbers.
    return np.array(numpy.random.default_rng(len(shape)).normal(0, sigma, shape), dtype="float32")


def _tokens(B: int, T: int) -> Any:
    return np.array(numpy.random.default_rng(0).integers(0, V, (B, T)), dtype="int32")
