"""The book's `Module` and `Classifier` on MXNet.

A model can have parameters of two kinds. Gluon's own are registered in its blocks. The *scratch* parameters
of the book's chapters are plain arrays, attributes of a module, and are trained if they have a gradient
(``attach_grad``). One model may have both, such as the library's output layer on a chapter's recurrent layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mxnet as mx
from mxnet import gluon, np
from mxnet.gluon import nn
from mxnet.gluon.loss import SoftmaxCrossEntropyLoss

from d2lrnn.book import current_edition as book
from d2lrnn_mxnet.gradients import SGD
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.semantics import use_np


@use_np
class Module(book.Module, nn.Block):
    """A ``gluon.nn.Block`` with the book's steps and board; see `d2lrnn.book.current_edition.Module`.

    Blocks in a list, a tuple or a dict that is an attribute are registered too, when the parameters are
    collected: so they are trained.

    Example:
        >>> class Linear(Module):
        ...     def __init__(self, lr):
        ...         super().__init__()
        ...         self.save_hyperparameters()
        ...         self.net = nn.Dense(1)
        ...         self.initialize()
        >>> Linear(lr=0.1)(np.ones((2, 3))).shape
        (2, 1)
    """

    #: Whether its parameters have their values from its constructor, and nothing has run it yet.
    _unused = False

    def forward(self, X: Array) -> Array:
        """``self.net(X)``."""
        return self.net(X)

    def configure_optimizers(self) -> Any:
        """Stochastic gradient descent at the rate ``self.lr``: an object with ``step(batch_size)``."""
        params = self.parameters()
        if isinstance(params, list):
            return SGD(params, self.lr)
        return gluon.Trainer(params, "sgd", {"learning_rate": self.lr})

    def parameters(self) -> Any:
        """The parameters that are trained.

        Returns:
            A ``gluon.ParameterDict``, which a ``gluon.Trainer`` takes; for a model with scratch parameters a
            list of arrays with their gradients.
        """
        if any(array.grad is not None for array in self.get_scratch_params()):
            return [array for array in parameter_arrays(self) if array.grad is not None]
        trained = {name: p for name, p in self.collect_params().items() if p.grad_req != "null"}
        return _dictionary(trained)

    def get_scratch_params(self) -> list[Array]:
        """The arrays that are attributes of this module or of its submodules, each once."""
        arrays = {id(array): array for _, _, array in _scratch(self)}
        return list(arrays.values())

    def set_scratch_params_device(self, device: Any) -> None:
        """Moves those arrays; one that had a gradient gets a new one."""
        moved: dict[int, Array] = {}
        for owner, name, array in _scratch(self):
            if array.ctx == device:
                continue
            if id(array) not in moved:
                moved[id(array)] = array.copyto(device)
                if array.grad is not None:
                    moved[id(array)].attach_grad()
            if isinstance(owner, nn.Block):
                setattr(owner, name, moved[id(array)])
            else:
                owner[name] = moved[id(array)]

    def collect_params(self, select: str | None = None) -> Any:
        """As Gluon's ``collect_params``, with the blocks in lists, tuples and dicts."""
        for name, value in list(vars(self).items()):
            if not _is_internal(name) and isinstance(value, (list, tuple, dict)):
                for number, block in enumerate(_blocks(value)):
                    if not any(block is child for child in self._children.values()):
                        self.register_child(block, f"{name}.{number}")
        return super().collect_params(select)

    def initialize(
        self, init: Any = None, ctx: Any = None, verbose: bool = False, force_reinit: bool = False
    ) -> None:
        """As Gluon's ``initialize``; initialised parameters keep their values (`initialize_block`)."""
        initialize_block(self, init, ctx, verbose, force_reinit)

    def detach(self, value: Any) -> Any:
        """The value, detached."""
        return value.detach() if isinstance(value, np.ndarray) else value


@use_np
class Block(nn.Block):
    """A ``gluon.nn.Block`` that is no model: a part of one. The arguments are those of ``gluon.Block``."""

    def initialize(
        self, init: Any = None, ctx: Any = None, verbose: bool = False, force_reinit: bool = False
    ) -> None:
        """As Gluon's ``initialize``; initialised parameters keep their values (`initialize_block`)."""
        initialize_block(self, init, ctx, verbose, force_reinit)


@use_np
class Classifier(Module):
    """A model whose outputs are the logits of classes, the last axis.

    Example:
        >>> model, Y_hat, Y = Classifier(), np.zeros((2, 4)), np.array([0, 1])
        >>> round(float(model.loss(Y_hat, Y)), 4), float(model.accuracy(Y_hat, Y))
        (1.3863, 0.5)
    """

    def loss(self, Y_hat: Array, Y: Array, averaged: bool = True) -> Array:
        """Cross-entropy in nats: the mean, or one for every prediction.

        Args:
            Y_hat: logits (…, V).
            Y: classes (…).
            averaged: whether to take the mean.
        """
        losses = SoftmaxCrossEntropyLoss()(Y_hat.reshape(-1, Y_hat.shape[-1]), Y.reshape(-1))
        return losses.mean() if averaged else losses

    def accuracy(self, Y_hat: Array, Y: Array, averaged: bool = True) -> Array:
        """The share of logits (…, V) whose largest is the class in Y (…); or for every prediction 0 or 1."""
        predicted = Y_hat.argmax(axis=-1).astype(Y.dtype).reshape(-1)
        correct = (predicted == Y.reshape(-1)).astype("float32")
        return correct.mean() if averaged else correct

    def validation_step(self, batch: Sequence[Array]) -> Array:
        """Loss and accuracy of a batch."""
        Y_hat = self(*batch[:-1])
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)
        return loss

    def layer_summary(self, X_shape: Sequence[int]) -> None:
        """Prints the output shape of each layer of ``self.net`` for random inputs of this shape."""
        X = np.random.normal(size=tuple(X_shape))
        for layer in self.net:
            X = layer(X)
            print(f"{type(layer).__name__} output shape:\t {X.shape}")


def initialize_block(
    block: nn.Block, init: Any = None, ctx: Any = None, verbose: bool = False, force_reinit: bool = False
) -> None:
    """Gluon's ``Block.initialize``, which warns of no parameter that has values: it keeps them.

    The library's own layers have values from their constructors, so that they can be called at once. Those
    inside the block that nothing has run yet get new ones from an initializer that is named: in the book,
    where they have none until then, it is that which gives them their values.

    Args:
        block: whose parameters.
        init: the initializer; None is Gluon's ``Uniform()``.
        ctx: where they are made; None is the current context.
        verbose: whether to print what is initialised.
        force_reinit: whether all parameters get new values.
    """
    again = set() if init is None else {id(p) for p in _unused_parameters(block)}
    chosen = {
        name: p
        for name, p in block.collect_params().items()
        if force_reinit or id(p) in again or not _is_initialized(p)
    }
    _dictionary(chosen).initialize(init or mx.initializer.Uniform(), ctx, verbose, force_reinit=True)


def parameter_arrays(model: Module) -> list[Array]:
    """All parameters as arrays, also those that are not trained, which have no gradient."""
    return [*model.get_scratch_params(), *(p.data() for p in model.collect_params().values())]


def device_of(model: Module) -> Any:
    """The device of a model's parameters; the CPU if it has none."""
    contexts = [parameter.list_ctx()[0] for parameter in model.collect_params().values()]
    return [*contexts, *(array.ctx for array in model.get_scratch_params()), mx.cpu()][0]


def move(model: Module, device: Any) -> None:
    """Moves all parameters of a model."""
    if device_of(model) != device:
        model.collect_params().reset_ctx(device)
        model.set_scratch_params_device(device)


def _scratch(owner: Any) -> Iterator[tuple[Any, Any, Array]]:
    """The arrays in a block, in its lists and dicts and in inner blocks: as (owner, name, array)."""
    if isinstance(owner, nn.Block):
        items = [(name, value) for name, value in vars(owner).items() if not _is_internal(name)]
    elif isinstance(owner, dict):
        items = list(owner.items())
    else:
        items = list(enumerate(owner))
    for name, value in items:
        if isinstance(value, np.ndarray):
            yield owner, name, value
        elif isinstance(value, (nn.Block, list, tuple, dict)):
            yield from _scratch(value)


def _blocks(container: Any) -> Iterator[nn.Block]:
    for value in container.values() if isinstance(container, dict) else container:
        if isinstance(value, nn.Block):
            yield value
        elif isinstance(value, (list, tuple, dict)):
            yield from _blocks(value)


def _unused_parameters(block: nn.Block) -> Iterator[gluon.Parameter]:
    if getattr(block, "_unused", False):
        block._unused = False
        yield from block.collect_params().values()
    for child in block._children.values():
        yield from _unused_parameters(child)


def _is_internal(name: str) -> bool:
    """Whether it is none of a chapter's attributes; ``hparams`` repeats the others."""
    return name.startswith("_") or name == "hparams"


def _dictionary(parameters: dict[str, gluon.Parameter]) -> gluon.ParameterDict:
    dictionary = gluon.ParameterDict()
    dictionary.update(parameters)
    return dictionary


def _is_initialized(parameter: gluon.Parameter) -> bool:
    """Whether it has values, or gets them as soon as its shape is known."""
    try:
        parameter.list_ctx()
    except RuntimeError:
        return False
    return True
