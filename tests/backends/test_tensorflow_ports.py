"""What is Keras' own in ports."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as kl

import d2lrnn


def test_what_is_not_carried_is_noted() -> None:
    first = kl.GRU(
        3, return_sequences=True, stateful=True, kernel_regularizer="l2", recurrent_constraint="unit_norm",
        activity_regularizer="l1", dropout=0.25,
    )  # fmt: skip
    last = kl.Bidirectional(kl.LSTM(3, bias_regularizer="l1", stateful=True))
    module = keras.Sequential([keras.Input((None, 2), batch_size=3), first, kl.Dropout(0.5), last])
    last.forward_layer.cell.recurrent_kernel.trainable = False
    assert d2lrnn.port(module).notes == (
        "dropout=0.25 is not carried",
        "kernel_regularizer L2 is not carried",
        "recurrent_constraint UnitNorm is not carried",
        "bias_regularizer L1 is not carried",
        "trainable=False of recurrent_kernel is not carried",
        "activity_regularizer L1 is not carried",
        "stateful=True is not carried: pass the state from call to call",
        "Dropout(0.5) is not carried",
        "return_sequences=False is not carried: take the last of the outputs",
    )
    plain = kl.GRU(3, return_sequences=True)
    plain.build((None, None, 2))
    assert d2lrnn.port(plain).notes == ()


def test_a_stack_in_float64_does_not_round_its_inputs() -> None:
    layers = [kl.GRU(3, return_sequences=True, dtype="float64") for _ in range(2)]
    module = keras.Sequential(layers)
    module.build((None, None, 2))
    X = np.random.RandomState(0).uniform(-1, 1, (2, 3, 2))
    outputs = np.asarray(d2lrnn.port(module, to="tensorflow").module(X))
    np.testing.assert_allclose(outputs, np.asarray(layers[1](layers[0](X))), rtol=0, atol=1e-14)
