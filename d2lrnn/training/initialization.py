"""The values that a model starts from, drawn once for all backends."""

from __future__ import annotations

import zlib

import numpy as np

from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import FloatArray

#: The book's standard deviation for models from scratch.
SCRATCH_SIGMA = 0.01


def initial_parameters(spec: ModelSpec, seed: int = 0) -> dict[str, FloatArray]:
    """Draws the values that training starts from; the same on every backend.

    A scratch model starts as in the book: weights from N(0, 0.01²), biases zero. A concise one starts as
    recurrent layers commonly do, everything uniform in ±1/sqrt(h), but for the weights that tokens pick rows
    of: those of the first layer, or an embedding of either implementation. They are uniform in
    ±sqrt(3 / fan-in), of variance 1 / fan-in, and the fan-in of a one-hot vector is one (LeCun et al. 1998,
    "Efficient BackProp", section 4.6). A tied embedding is a head as well: uniform in ±1/sqrt(h). Every
    parameter has a random stream of its own, numbered by its name, so that a further layer leaves the others
    as they were.

    Args:
        spec: the model.
        seed: 0 or above.

    Returns:
        Arrays of `spec.dtype`; float64 values are the float32 ones, widened, so that the two precisions start
        from the same point.
    """
    bound = spec.num_hiddens**-0.5
    one_hot = "rnn.0.w_x" if spec.embedding_size is None else "embedding.w"
    values: dict[str, FloatArray] = {}
    for name, shape in parameter_shapes(spec).items():
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name == one_hot and (name == "embedding.w" or spec.implementation == "concise"):
            limit = bound if spec.tied else 3**0.5
            drawn = random.uniform(-limit, limit, shape)
        elif spec.implementation == "concise":
            drawn = random.uniform(-bound, bound, shape)
        elif len(shape) == 2:
            drawn = random.normal(0.0, SCRATCH_SIGMA, shape)
        else:
            drawn = np.zeros(shape)
        values[name] = drawn.astype(np.float32).astype(spec.dtype)
    return values
