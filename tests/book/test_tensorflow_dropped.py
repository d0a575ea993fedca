"""What is put back into Keras and NumPy while a chapter runs, and that it is gone afterwards."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="this environment has no Keras")
tf = pytest.importorskip("tensorflow", reason="this environment has no TensorFlow")

from d2lrnn_tensorflow.dropped import RESTORED  # noqa: E402

from d2lrnn.registry import BackendEntry  # noqa: E402

layers = keras.layers


@pytest.fixture(autouse=True)
def _only_tensorflow(entry: BackendEntry) -> None:
    if entry.name != "tensorflow":
        pytest.skip("these tests are written in TensorFlow")


def old_time_major() -> Any:
    return layers.SimpleRNN(3, time_major=True)


def old_initial_state() -> Any:
    return layers.GRUCell(3).get_initial_state(batch_size=2, dtype=tf.float32)


def old_stacked_state() -> Any:
    cells = layers.StackedRNNCells([layers.GRUCell(3), layers.GRUCell(3)])
    return layers.RNN(cells)(tf.zeros((2, 4, 5)), tf.zeros((2, 2, 3)))


class Counting(keras.losses.Loss):  # type: ignore[misc]
    """A loss that asks for whole labels."""

    def call(self, label: Any, pred: Any) -> Any:
        if not label.dtype.is_integer:
            raise TypeError("the labels are no whole numbers")
        return tf.gather(pred, label, batch_dims=1)


def old_labels() -> Any:
    return Counting(reduction=None)(tf.constant([2, 0]), tf.reshape(tf.range(6.0), (2, 3)))


def old_rate() -> Any:
    return keras.optimizers.SGD(1)


def old_int() -> Any:
    return eval("int(x)", {**vars(sys.modules["__main__"]), "x": np.array([[7]])})


OLD = dict(
    zip(
        [what.name for what in RESTORED],
        [old_time_major, old_initial_state, old_stacked_state, old_labels, old_rate, old_int],
        strict=True,
    )
)


@pytest.fixture(autouse=True)
def _a_main_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))


@pytest.mark.parametrize("what", RESTORED, ids=lambda what: what.name)
@pytest.mark.parametrize("fails", [False, True])
def test_it_is_put_back_and_gone_afterwards(what: Any, fails: bool) -> None:
    cells = [layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell, layers.StackedRNNCells]
    owners = [*cells, layers.RNN, keras.losses.Loss, keras.optimizers.SGD, sys.modules["__main__"]]
    before = [dict(vars(owner)) for owner in owners]
    old = OLD[what.name]
    errors = (TypeError, ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(errors):
        old()
    with suppress(KeyError), what.put_back():
        old()
        if fails:
            raise KeyError
    with pytest.raises(errors):
        old()
    assert [dict(vars(owner)) for owner in owners] == before


def restored(old: Any) -> Any:
    return next(what for what in RESTORED if OLD[what.name] is old)


@pytest.mark.parametrize("kind", [layers.SimpleRNN, layers.GRU, layers.LSTM])
def test_time_comes_first(kind: Any) -> None:
    X = tf.random.normal((5, 2, 4))
    with restored(old_time_major).put_back():
        layer = kind(3, return_sequences=True, return_state=True, time_major=True)
        outputs, *state = layer(X)
        again, *_ = layer(X[3:], layer(X[:3])[1:])
        plain = kind(3, return_sequences=True)
        assert plain(X).shape == (5, 2, 3)
        assert kind(3, time_major=True)(X).shape == (2, 3)
        assert kind(3, time_major=True, return_sequences=True)(X).shape == (5, 2, 3)
    assert outputs.shape == (5, 2, 3)
    np.testing.assert_allclose(again, outputs[3:], atol=1e-6)
    # As Keras 3 computes it.
    same = kind(3, return_sequences=True, return_state=True)
    same.build((2, 5, 4))
    same.set_weights(layer.get_weights())
    expected, *final = same(tf.transpose(X, (1, 0, 2)))
    np.testing.assert_allclose(outputs, tf.transpose(expected, (1, 0, 2)), atol=1e-6)
    for one, other in zip(state, final, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_state_of_one_tensor_is_no_list() -> None:
    with restored(old_initial_state).put_back():
        assert layers.SimpleRNNCell(3).get_initial_state(batch_size=2, dtype=tf.float32).shape == (2, 3)
        H, C = layers.LSTMCell(3).get_initial_state(batch_size=2, dtype=tf.float64)
        assert H.dtype == C.dtype == tf.float64
        # Keras itself asks without a type.
        assert len(layers.GRUCell(3).get_initial_state(2)) == 1
        both = layers.StackedRNNCells([layers.LSTMCell(3), layers.LSTMCell(4)])
        states = both.get_initial_state(batch_size=2, dtype=tf.float32)
        assert [[part.shape for part in state] for state in states] == [[(2, 3)] * 2, [(2, 4)] * 2]
        for number in (1, 2):
            cells = layers.StackedRNNCells([layers.GRUCell(3) for _ in range(number)])
            states = cells.get_initial_state(batch_size=2, dtype=tf.float32)
            assert [state.shape for state in states] == [(2, 3)] * number
            layer = layers.RNN(cells, return_sequences=True, return_state=True)
            outputs, *_ = layer(tf.ones((2, 4, 5)), states)
            np.testing.assert_allclose(outputs, layer(tf.ones((2, 4, 5)))[0])


@pytest.mark.parametrize("number", [1, 2])
def test_a_tensor_is_the_state_of_each_stacked_cell(number: int) -> None:
    cells = layers.StackedRNNCells([layers.GRUCell(3) for _ in range(number)])
    layer = layers.RNN(cells, return_sequences=True, return_state=True)
    X, state = tf.random.normal((2, 4, 5)), tf.random.normal((number, 2, 3))
    whole = layer(X)[0]
    expected = layer(X, tf.unstack(state))[0]
    with restored(old_stacked_state).put_back():
        for given in (state, tf.unstack(state), [[H] for H in tf.unstack(state)]):
            np.testing.assert_allclose(layer(X, given)[0], expected, atol=1e-6)
            np.testing.assert_allclose(layer(X, initial_state=given)[0], expected, atol=1e-6)
        _, *after = layer(X[:, :2])
        assert [H.shape for H in after] == [(2, 3)] * number
        np.testing.assert_allclose(layer(X[:, 2:], after)[0], whole[:, 2:], atol=1e-6)
        assert layers.RNN(cells)(X).shape == layers.GRU(3)(X, state[0]).shape == (2, 3)
        of_lstms = layers.RNN([layers.LSTMCell(3), layers.LSTMCell(3)], return_state=True)
        assert [[part.shape for part in H_C] for H_C in of_lstms(X)[1:]] == [[(2, 3)] * 2] * 2


def test_a_loss_gets_the_labels_as_they_are() -> None:
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels, logits = tf.constant([2, 0]), tf.reshape(tf.range(6.0), (2, 3))
    expected = plain(labels, logits)
    with restored(old_labels).put_back():
        assert old_labels().numpy().tolist() == [2.0, 3.0]
        assert float(Counting(reduction="sum")(labels, logits)) == 5.0
        assert float(Counting(reduction="sum")(labels, logits, sample_weight=[1.0, 2.0])) == 8.0
        assert float(plain(labels, logits)) == float(expected)
        with pytest.raises(TypeError, match="no whole numbers"):
            Counting()(tf.cast(labels, tf.float32), logits)


def test_a_rate_that_is_no_integer_is_left_alone() -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    with restored(old_rate).put_back():
        assert float(keras.optimizers.SGD(2).learning_rate) == 2.0
        assert float(keras.optimizers.SGD(learning_rate=0.25, momentum=0.9).learning_rate) == 0.25
        assert float(keras.optimizers.SGD(schedule).learning_rate) == 0.5


def test_int_is_int_still() -> None:
    with restored(old_int).put_back():
        Int = sys.modules["__main__"].int  # type: ignore[attr-defined]
        assert [type(Int(value)) for value in (3.7, "12", np.array([3]), tf.constant([[4]]))] == [int] * 4
        assert (Int("ff", 16), Int(), Int(np.array([3.9]))) == (255, 0, 3)
        assert isinstance(3, Int)
        assert not isinstance("3", Int)
        with pytest.raises(ValueError, match="size 1"):
            Int(np.array([1, 2]))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("rnn = tf.keras.layers.SimpleRNN(32, time_major=True)", [old_time_major]),
        ("state = cell.get_initial_state(batch_size=2, dtype=tf.float32)", [old_initial_state]),
        ("rnn = layers.RNN(layers.StackedRNNCells(each))", [old_stacked_state]),
        ("rnn = layers.RNN([cell, cell])", [old_stacked_state]),
        ("rnn = layers.RNN(\n    gru_cells, return_state=True)", [old_stacked_state]),
        ("rnn = layers.RNN(cell)", []),
        ("class Own(tf.keras.losses.Loss):", [old_labels]),
        ("updater = tf.keras.optimizers.SGD(lr)", [old_rate]),
        ("outputs.append(int(y.numpy().argmax(axis=1).reshape(1)))", [old_int]),
        ("n = int(3.7)\nprint(X)", []),
    ],
)
def test_only_what_a_chapter_needs(source: str, names: list[Any]) -> None:
    assert [OLD[what.name] for what in RESTORED if what.needed_in(source)] == names
