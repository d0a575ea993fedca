"""JAX's asynchronous dispatch, which is switched off on the CPU."""

from __future__ import annotations

import jax


# benchmarks/tricks: jax, asynchronous dispatch off
def disable_async_dispatch() -> None:
    """Makes JAX compute on the CPU in the calling thread.

    By default JAX computes in a thread of its own while Python goes on, until Python needs a value. The
    generation of text needs one after every step of the model, and handing a step to the other thread costs
    ten microseconds, a third of a small model's step, and more on a busy machine. The numbers are the same.

    The setting is the process's, and JAX reads it when it first looks for a CPU: later calls change nothing.

    Source: JAX's configuration option ``jax_cpu_enable_async_dispatch``.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
