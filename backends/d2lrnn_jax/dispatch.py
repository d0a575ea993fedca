"""Where JAX computes on a CPU: in the thread that asks, or in one of its own."""

from __future__ import annotations

import jax


def compute_where_asked() -> None:
    """Has JAX compute on the CPU in the calling thread.

    By default a thread of its own computes while Python goes on, and Python waits for it at the first number
    that it needs. When one character follows from another that is at once: handing over takes longer, 20
    microseconds and much more on a busy machine, than a small model does. The numbers are the same.

    The setting is of the whole process, and read when JAX first looks for a CPU: where that has been, all
    stays as it was.

    Source: JAX's configuration option ``jax_cpu_enable_async_dispatch``.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
