"""What every scratch layer has: parameters from the table of cells, and the loop over the steps.

A subclass of `ScratchLayer` adds the formula of one step. All inputs of a layer are projected at once,
outside the loop, and autograd differentiates the loop. A formula may have a backward pass by hand beside it
(`with_sequence`), which is faster.

T = time steps, B = batch size, h = hidden units, G = gates; weights are (in, out), and gates stand side by
side in the order of `d2lrnn.contract.cells`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from d2lrnn.book.current_edition import sole_state
from d2lrnn.contract.cells import Cell
from d2lrnn_torch.module import Module
from d2lrnn_torch.products import affine
from d2lrnn_torch.tokens import check_tensor, look_up, takes_tokens

_Step = TypeVar("_Step", bound=Callable[..., object])


class ScratchLayer(Module):
    """A recurrent layer; a subclass gives its cell and the formula of one step.

    Args:
        num_inputs: size of the input vectors.
        num_hiddens: h.
        sigma: standard deviation of the initial weights; all else starts at zero.
        reset_after: for a cell with a reset gate, whether that is applied after the matrix product.

    Attributes:
        cell: the entry of the cell in `d2lrnn.contract.cells`; the shapes of the parameters follow from it.
        own_names: what the parameters ``w_x``, ``w_h`` and ``b`` are called here; others keep their names.

    Example:
        >>> from d2lrnn.contract import cells
        >>> class LeakyRNNScratch(ScratchLayer):
        ...     cell = cells.RNN
        ...     def step(self, X, H):
        ...         return 0.9 * H + 0.1 * torch.tanh(X + H @ self.W_h)
        >>> outputs, state = LeakyRNNScratch(28, 32)(torch.ones(5, 2, 28))
        >>> outputs.shape, state.shape
        (torch.Size([5, 2, 32]), torch.Size([2, 32]))
    """

    cell: ClassVar[Cell]
    own_names: ClassVar[Mapping[str, str]] = {"w_x": "W_x", "w_h": "W_h", "b": "b"}

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, *, reset_after: bool = False
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["reset_after"])
        shapes = self.cell.shapes(num_inputs, num_hiddens, reset_after=reset_after)
        for name, shape in shapes.items():
            value = torch.randn(shape) * sigma if len(shape) == 2 else torch.zeros(shape)
            self.register_parameter(self.own_names.get(name, name), nn.Parameter(value))

    def step(self, X: Tensor, state: Any) -> Any:
        """The formula: the state after one time step.

        Args:
            X: the projected inputs ``X_t w_x + b`` (B, G·h).
            state: H (B, h); for a cell of several states a tuple of them, H first.

        Returns:
            The next state, of the same form.
        """
        raise NotImplementedError

    @takes_tokens
    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Runs over all steps.

        Args:
            inputs: (T, B, num_inputs), or token indices (T, B) instead of one-hot vectors.
            state: what `step` takes, H also as ``(H,)``; None is zeros. It is not changed.

        Returns:
            H of all steps (T, B, h), and the final state.
        """
        check_tensor(inputs)
        if state is None:
            state = self.begin_state(inputs.shape[1])
        elif len(self.cell.states) == 1:
            state = sole_state(state)
        if len(inputs) == 1:
            H, state = self.next_state(inputs[0], state)
            return H.unsqueeze(0), state
        sequence = getattr(type(self).step, "sequence", None)
        if sequence is not None:
            return sequence(self, inputs, state)
        return unroll(self.step, project(inputs, self._own("w_x"), self._own("b")), state)

    def next_state(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step: from inputs (B, num_inputs) or token indices (B,) to H (B, h), and the next state."""
        names = self.own_names
        X = project_step(inputs, getattr(self, names["w_x"]), getattr(self, names["b"]))
        state = self.step(X, state)
        return (state[0] if type(state) is tuple else state), state

    def begin_state(self, batch_size: int) -> Any:
        """The state before the first step: zeros."""
        zeros = self._own("w_h").new_zeros(batch_size, self.num_hiddens)
        return zeros if len(self.cell.states) == 1 else (zeros,) * len(self.cell.states)

    def _own(self, name: str) -> Tensor:
        return getattr(self, self.own_names[name])


def with_sequence(
    sequence: Callable[[Any, Tensor, Any], tuple[Tensor, Any]],
) -> Callable[[_Step], _Step]:
    """Gives a `ScratchLayer.step` a faster way over all steps, which has a backward pass by hand.

    A subclass that overrides `step` does not inherit it. Tests compare `sequence` with `unroll` of the step.

    Args:
        sequence: called with the layer, the inputs (T, B, num_inputs) or tokens (T, B), and a state; returns
            what `ScratchLayer.forward` does.
    """

    def mark(step: _Step) -> _Step:
        step.sequence = sequence  # type: ignore[attr-defined]  # a mark on a function
        return step

    return mark


def unroll(step: Callable[[Tensor, Any], Any], projected: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The plain recurrence: ``state = step(projected[t], state)`` for every t.

    Args:
        step: see `ScratchLayer.step`.
        projected: (T, B, G·h).
        state: H (B, h), or a tuple of states, H first.

    Returns:
        H of all steps (T, B, h), and the final state.
    """
    outputs = []
    for X in projected.unbind():
        state = step(X, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs), state


def project_step(inputs: Tensor, w_x: Tensor, b: Tensor) -> Tensor:
    """``inputs @ w_x + b`` for one step: (B, in), or token indices (B,), to (B, G·h)."""
    return torch.addmm(b, inputs, w_x) if inputs.is_floating_point() else torch.embedding(w_x, inputs) + b


def project(inputs: Tensor, w_x: Tensor, b: Tensor) -> Tensor:
    """``inputs @ w_x + b`` for all steps at once.

    Args:
        inputs: real vectors (T, B, in), or token indices (T, B): a one-hot vector times w_x is a row of it.
        w_x: (in, G·h).
        b: (G·h,).

    Returns:
        (T, B, G·h).
    """
    if inputs.is_floating_point():
        return affine(inputs, w_x, b)
    if inputs.numel() < len(w_x):
        return look_up(inputs, w_x) + b
    # benchmarks/tricks: torch, the bias added to the rows
    # Fewer rows than tokens: adding the bias to the rows is cheaper, forward and backward.
    return look_up(inputs, (w_x + b).contiguous())
