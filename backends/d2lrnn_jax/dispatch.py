"""JAX's asynchronous dispatch, which is switched off on the CPU."""

from __future__ import annotations

import jax


# benchmarks/tricks: jax, asynchronous dispatch off
def disable_async_dispatch() -> None:
    """Has JAX compute on the CPU in the calling thread.

    By default a thread of JAX's own computes while Python goes on, until Python needs a number. Generating
    text needs one after every step of the model, and handing the step over to the other thread takes longer
    than a small model's step: 20 microseconds, and much more on a busy machine. The numbers are the same.

    The setting is the process's, and JAX reads it when it first looks for a CPU: later calls change nothing.

    Source: JAX's configuration option ``jax_cpu_enable_async_dispatch``.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
