"""Compatibility shims: what Keras 3 and NumPy 2 removed and the book's chapters still use.

The chapter runner installs a shim while a chapter that needs it runs, and removes it afterwards. The library
itself uses none of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lrnn.chapters.runner import Restored


def _contains(pattern: str) -> Callable[[str], bool]:
    return lambda source: re.search(pattern, source) is not None


@contextmanager
def _replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Sets attributes of a class or module, and restores the previous ones at the end."""
    before = {name: vars(owner)[name] for name in attributes if name in vars(owner)}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in attributes:
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)


@contextmanager
def _time_major() -> Iterator[None]:
    """``time_major=True`` of `keras.layers.RNN` and its kin: inputs and outputs are (T, B, …)."""
    RNN = keras.layers.RNN
    make, call = RNN.__init__, RNN.__call__

    def init(self: Any, cell: Any, *args: Any, time_major: bool = False, **kwargs: Any) -> None:
        make(self, cell, *args, **kwargs)
        self.time_major = time_major

    def run(self: Any, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.time_major:
            return call(self, sequences, *args, **kwargs)
        results = call(self, _swapped(sequences), *args, **kwargs)
        if not self.return_sequences:
            return results
        return (_swapped(results[0]), *results[1:]) if self.return_state else _swapped(results)

    with _replaced(RNN, __init__=init, __call__=run):
        yield


def _swapped(tensor: Any) -> Any:
    """(T, B, n) to (B, T, n), and back."""
    return tf.transpose(tensor, (1, 0, 2))


@contextmanager
def _initial_states_of_a_type() -> Iterator[None]:
    """``cell.get_initial_state(batch_size=…, dtype=…)``: one tensor where the state is one, not a list."""
    layers = keras.layers
    cells = (layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell)
    with ExitStack() as stack:
        for cell, form in (*((cell, _sole) for cell in cells), (layers.StackedRNNCells, _of_each_cell)):
            patched = _with_type(cell.get_initial_state, form)
            stack.enter_context(_replaced(cell, get_initial_state=patched))
        yield


def _sole(states: Any) -> Any:
    """A tensor where the state is one."""
    return states[0] if len(states) == 1 else states


def _of_each_cell(states: Any) -> Any:
    """A list of the cells' states, also of those of one cell."""
    return [_sole(state) if isinstance(state, (list, tuple)) else state for state in states]


def _with_type(method: Callable[..., Any], form: Callable[[Any], Any]) -> Callable[..., Any]:
    def get_initial_state(self: Any, batch_size: int | None = None, dtype: Any = None) -> Any:
        states = method(self, batch_size)
        if dtype is None:  # Keras 3 itself asks so
            return states
        return form(tf.nest.map_structure(lambda state: tf.cast(state, dtype), states))

    return get_initial_state


@contextmanager
def _states_of_stacked_cells() -> Iterator[None]:
    """The states of stacked cells: a tensor of each cell that has one; one tensor of all is taken, too."""
    RNN = keras.layers.RNN
    call = RNN.__call__

    def run(self: Any, sequences: Any, initial_state: Any = None, **kwargs: Any) -> Any:
        if not isinstance(self.cell, keras.layers.StackedRNNCells):
            return call(self, sequences, initial_state=initial_state, **kwargs)
        # The library's GRU has the states of its layers as one tensor (L, B, h).
        if tf.is_tensor(initial_state) and initial_state.shape.rank == 3:
            initial_state = tf.unstack(initial_state)
        results = call(self, sequences, initial_state=initial_state, **kwargs)
        return (results[0], *_of_each_cell(results[1:])) if self.return_state else results

    with _replaced(RNN, __call__=run):
        yield


@contextmanager
def _labels_of_their_own_type() -> Iterator[None]:
    """A loss of the cells' own gets whole labels as whole numbers."""
    Loss = keras.losses.Loss
    call = Loss.__call__

    def run(self: Any, y_true: Any, y_pred: Any, *args: Any, **kwargs: Any) -> Any:
        own = not type(self).__module__.startswith(("keras", "d2lrnn"))
        if not (own and tf.is_tensor(y_true) and y_true.dtype.is_integer):
            return call(self, y_true, y_pred, *args, **kwargs)
        with _replaced(self, call=lambda _, y_pred: type(self).call(self, y_true, y_pred)):
            return call(self, y_true, y_pred, *args, **kwargs)

    with _replaced(Loss, __call__=run):
        yield


@contextmanager
def _whole_learning_rates() -> Iterator[None]:
    """``SGD(1)``: a learning rate that is a whole number."""
    SGD = keras.optimizers.SGD
    make = SGD.__init__

    def init(self: Any, learning_rate: Any = 0.01, *args: Any, **kwargs: Any) -> None:
        rate = float(learning_rate) if isinstance(learning_rate, int) else learning_rate
        make(self, rate, *args, **kwargs)

    with _replaced(SGD, __init__=init):
        yield


class _TakesArrays(type):
    """Makes ``isinstance(x, _Int)`` true for every `int`."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, int)


class _Int(int, metaclass=_TakesArrays):
    """`int`, which also takes an array or tensor (1,), (1, 1) … of one number."""

    def __new__(cls, value: Any = 0, *args: Any) -> int:  # type: ignore[misc]  # returns an int
        if tf.is_tensor(value):
            value = value.numpy()
        return int(value.item() if isinstance(value, np.ndarray) else value, *args)


@contextmanager
def _int_of_one_number() -> Iterator[None]:
    """``int(array)`` of an array of one number that has dimensions, in the cells alone."""
    with _replaced(sys.modules["__main__"], int=_Int):
        yield


RESTORED = (
    Restored(
        name="time_major=True in Keras' recurrent layers",
        why="Keras 3 takes (batch, time, …) only; inputs and outputs are swapped around it",
        needed_in=_contains(r"\btime_major\s*="),
        put_back=_time_major,
    ),
    Restored(
        name="get_initial_state(…, dtype=…) of Keras' cells",
        why="Keras 3 takes the batch size only, and gives a list also of one state",
        needed_in=_contains(r"\bget_initial_state\("),
        put_back=_initial_states_of_a_type,
    ),
    Restored(
        name="a tensor as the state of each of Keras' stacked cells",
        why="Keras 3 gives a list also of one tensor, and takes no tensor of the states of all layers",
        needed_in=_contains(r"\bStackedRNNCells\(|\blayers\.RNN\(\s*(?:\[|\w*cells\b)"),
        put_back=_states_of_stacked_cells,
    ),
    Restored(
        name="whole labels in a loss of one's own",
        why="Keras 3 turns them into floating-point numbers before it calls the loss",
        needed_in=_contains(r"\blosses\.Loss\b"),
        put_back=_labels_of_their_own_type,
    ),
    Restored(
        name="SGD(1), a whole learning rate",
        why="Keras 3 takes floating-point numbers only",
        needed_in=_contains(r"\boptimizers\.SGD\("),
        put_back=_whole_learning_rates,
    ),
    Restored(
        name="int(array) of an array with dimensions",
        why="since NumPy 2.4 only an array without dimensions is a number",
        needed_in=_contains(r"\bint\(.*(?:numpy|reshape|argmax)\("),
        put_back=_int_of_one_number,
    ),
)
