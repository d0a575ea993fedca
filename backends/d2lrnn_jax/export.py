"""A language model as a file of StableHLO, by `jax.export`.

The exported function is written on the canonical parameters, which concise models and those from scratch
share, with the formula of the cell in `jax.lax.scan`. The models themselves choose their way by the size of
a batch, which an exported function does not know.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import jax
from jax import export
from jax import numpy as jnp

from d2lrnn.contract.specs import ModelSpec
from d2lrnn.contract.values import Parameters
from d2lrnn.errors import SpecError
from d2lrnn_jax.compiled import exactly
from d2lrnn_jax.precision import precision
from d2lrnn_jax.recurrence import plain_scan
from d2lrnn_jax.scratch import find_layer

#: Where the file can run, whatever wrote it.
PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(spec: ModelSpec, parameters: Parameters, path: Path) -> None:
    """Writes a model; see `d2lrnn.saving.exporting.Exporter`.

    Raises:
        SpecError: the package is missing that `jax.export` needs.
    """
    if find_spec("flatbuffers") is None:
        raise SpecError(
            "an export to stablehlo needs flatbuffers, which this Python does not have: "
            "pip install 'd2lrnn[stablehlo]'"
        )

    def function(tokens: jax.Array, *state: jax.Array) -> tuple[jax.Array, ...]:
        values = {name: jnp.asarray(value) for name, value in parameters.items()}
        H, steps = None, tokens.T
        if spec.embedding_size is not None:
            H = jnp.take(values["embedding.w"], steps, axis=0, mode="clip")
        finals = []
        for l in range(spec.num_layers):
            prefix = f"rnn.{l}."
            weights = {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
            w_x, b = weights.pop("w_x"), weights.pop("b")
            # A one-hot vector times w_x is a row of it.
            projected = (jnp.take(w_x, steps, axis=0, mode="clip") if H is None else H @ w_x) + b
            before = tuple(part[l] for part in state)
            H, final = plain_scan(find_layer(spec.cell).step, weights, before, projected)
            finals.append(final)
        head = values["embedding.w"].T if spec.tied else values["head.w"]
        logits = jnp.swapaxes(H @ head + values["head.b"], 0, 1)
        return logits, *(jnp.stack(parts) for parts in zip(*finals, strict=True))

    batch, time = export.symbolic_shape("batch, time")
    with precision(spec.dtype):
        tokens = jax.ShapeDtypeStruct((batch, time), jnp.int32)
        state = jax.ShapeDtypeStruct((spec.num_layers, batch, spec.num_hiddens), spec.dtype)
        exporting = export.export(jax.jit(exactly(function)), platforms=PLATFORMS)
        path.write_bytes(exporting(tokens, *(state,) * spec.num_states).serialize())
