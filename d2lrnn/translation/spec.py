"""Which function a translator computes, as a frozen value, and its canonical parameters.

A translator reads a sentence with an encoder and writes another one with a decoder, both recurrent (Sutskever
et al. 2014; Cho et al. 2014). B = batch size, S = source steps, T = target steps, h = hidden units, E =
embedding size, L = layers. For a source x with n tokens, padded to S, and a target y that begins with
``<bos>``:

- encoder: the rows of ``encoder.embedding`` go through L layers of GRUs. After the n-th token their states
  stay as they are: what a sentence is padded with changes nothing. M (S, h) are the states of the last layer.
- decoder: it begins with the encoder's final states. Its input at step t is the row of ``decoder.embedding``
  for y_t beside a context c_t (h); the last layer's state H_t gives the logits H_t w + b (``head``).
- context: without attention the encoder's last state, M_n. With it a mean of M_1 … M_n by weights
  softmax(w_v · tanh(M w_k + H_{t-1} w_q)), additive attention (Bahdanau et al. 2015, section 3.1).

The GRU resets after the matrix product, as every framework's own layer does. The parameters:

============================  ==========  ==================================================
``encoder.embedding``         (V_s, E)
``encoder.{l}.w_x``           (in, 3h)    in = E for the first layer, h for the others
``encoder.{l}.w_h``           (h, 3h)
``encoder.{l}.b``             (3h,)
``encoder.{l}.b_hn``          (h,)
``attention.w_k``             (h, h)      these three only with attention
``attention.w_q``             (h, h)
``attention.w_v``             (h,)
``decoder.embedding``         (V_t, E)
``decoder.{l}.w_x`` …                     as the encoder's; in = E + h for the first layer
``head.w``                    (h, V_t)
``head.b``                    (V_t,)
============================  ==========  ==================================================
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from d2lrnn.checks import check_choice, check_rate, whole_number
from d2lrnn.contract.cells import GRU
from d2lrnn.contract.values import DType, FloatArray


@dataclass(frozen=True)
class TranslatorSpec:
    """Which function a translator computes; see the module's text.

    Attributes:
        source_size: V_s, the size of the source's vocabulary.
        target_size: V_t, that of the target's.
        embedding_size: E, of both.
        num_hiddens: h, of encoder and decoder.
        num_layers: L, of both.
        attention: whether the context is that of additive attention.
        dropout: the rate between layers (never after the last), while training.
        dtype: ``"float32"`` or ``"float64"``.

    Raises:
        SpecError: a value is unknown, negative or zero.

    Example:
        >>> TranslatorSpec(source_size=200, target_size=210).num_layers
        2
    """

    source_size: int
    target_size: int
    embedding_size: int = 64
    num_hiddens: int = 64
    num_layers: int = 2
    attention: bool = True
    dropout: float = 0.0
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        for name, what in _SIZES.items():
            object.__setattr__(self, name, whole_number(what, getattr(self, name)))
        check_rate("the dropout rate", self.dropout)
        check_choice("dtype", self.dtype, get_args(DType))

    def to_json(self) -> dict[str, Any]:
        """The specification as plain data; ``TranslatorSpec(**data)`` is its inverse."""
        return asdict(self)


_SIZES = {
    "source_size": "the size of the source's vocabulary",
    "target_size": "the size of the target's vocabulary",
    "embedding_size": "the embedding size",
    "num_hiddens": "the number of hidden units",
    "num_layers": "the number of layers",
}


def translator_shapes(spec: TranslatorSpec) -> dict[str, tuple[int, ...]]:
    """The canonical names of a translator's parameters and their shapes, in canonical order.

    Example:
        >>> translator_shapes(TranslatorSpec(20, 30, num_hiddens=8))["decoder.0.w_x"]
        (72, 24)
    """
    E, h = spec.embedding_size, spec.num_hiddens
    shapes: dict[str, tuple[int, ...]] = {"encoder.embedding": (spec.source_size, E)}
    shapes |= _layers("encoder", spec, E)
    if spec.attention:
        shapes |= {"attention.w_k": (h, h), "attention.w_q": (h, h), "attention.w_v": (h,)}
    shapes["decoder.embedding"] = (spec.target_size, E)
    shapes |= _layers("decoder", spec, E + h)
    return shapes | {"head.w": (h, spec.target_size), "head.b": (spec.target_size,)}


def _layers(side: str, spec: TranslatorSpec, num_inputs: int) -> dict[str, tuple[int, ...]]:
    sizes = [num_inputs] + [spec.num_hiddens] * (spec.num_layers - 1)
    return {
        f"{side}.{l}.{name}": shape
        for l, size in enumerate(sizes)
        for name, shape in GRU.shapes(size, spec.num_hiddens, reset_after=True).items()
    }


def initial_translator(spec: TranslatorSpec, seed: int = 0) -> dict[str, FloatArray]:
    """Draws the values that training starts from; the same on every backend.

    The embeddings' rows are uniform with variance 1, biases are zero, and the other weights are uniform in
    ±sqrt(6 / (in + out)) (Glorot and Bengio 2010), gate by gate. Every parameter has a random stream of its
    own, numbered by its name.

    Args:
        spec: the translator.
        seed: 0 or above.

    Returns:
        Arrays of `spec.dtype`; float64 values are the float32 ones, widened.
    """
    values: dict[str, FloatArray] = {}
    for name, shape in translator_shapes(spec).items():
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name.endswith("embedding"):
            drawn = random.uniform(-(3**0.5), 3**0.5, shape)
        elif ".b" in name:
            drawn = np.zeros(shape)
        else:
            gates = len(GRU.gates) if name.endswith(("w_x", "w_h")) else 1
            limit = (6 / (shape[0] + (shape[1] // gates if len(shape) == 2 else 1))) ** 0.5
            drawn = random.uniform(-limit, limit, shape)
        values[name] = drawn.astype(np.float32).astype(spec.dtype)
    return values
