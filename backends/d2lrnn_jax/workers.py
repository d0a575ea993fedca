"""Several workers on `jax.distributed`: gloo on CPUs, NCCL on GPUs.

The place among them comes from the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID,
or, where there are none, from those of Slurm, Open MPI and what else JAX detects.

A worker that dies fails the next sum of the others, on a CPU at once. One that hangs is found by the
heartbeats of JAX's coordination service, which ends the process from C++ with a message that names it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import jax
import numpy as np
from jax._src import distributed, xla_bridge  # the coordination service's client has no public name
from jax._src.lib import _jax
from jax.extend.backend import register_backend_factory
from jax.sharding import Mesh, NamedSharding

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import SpecError, WorkerLostError
from d2lrnn_jax.precision import precision
from d2lrnn_jax.shared import AXIS, SAME, local, rows_spec, shared_sum

_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")

#: What a worker that is well has not been silent for, in seconds.
_PATIENCE = 20.0
#: The coordination service's: it ends the process after half of it up to the whole.
_HEARTBEATS = 26
#: Where a sum has failed, some worker has certainly died: it is the one that is silent for this time.
_SHORT_PATIENCE = 4.0
_BETWEEN_SIGNS = 1.0


def enter() -> None:
    """Joins the other processes, before JAX looks for its devices: from then on it knows those of all.

    Raises:
        SpecError: the environment names no place, or it makes no sense; or JAX has computed already.
    """
    if xla_bridge.backends_are_initialized():
        raise SpecError("JAX has computed in this process already: workers join before anything else")
    if "jax_enable_preemption_service" in jax.config.values:
        # It would take SIGTERM away from the process.
        jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**_place(), heartbeat_timeout_seconds=_HEARTBEATS)
    except SpecError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        names = ", ".join(_VARIABLES)
        raise SpecError(f"the place among the workers is not known from {names}: {error}") from error
    except RuntimeError as error:
        raise WorkerLostError(f"the other workers cannot be reached: {_first_line(error)}") from error
    # Left to itself gloo listens on the address of the machine's name, which on many is one of loopback.
    collectives = _jax.make_gloo_tcp_collectives(
        distributed_client=distributed.global_state.client,
        hostname=_own_address(distributed.global_state.coordinator_address),
    )
    register_backend_factory(
        "cpu", partial(xla_bridge.make_cpu_client, collectives=collectives), fail_quietly=False
    )


def _place() -> dict[str, Any]:
    """The arguments of `jax.distributed.initialize`; none where JAX is to detect the cluster."""
    given = [name for name in _VARIABLES if name in os.environ]
    if not given:
        return {}
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise SpecError(f"the place among the workers is not known: {', '.join(missing)} is not set")
    address, size, rank = (os.environ[name] for name in _VARIABLES)
    place = {
        "coordinator_address": address,
        "num_processes": int(size),
        "process_id": int(rank),
        "cluster_detection_method": "deactivate",
    }
    if "JAX_COORDINATOR_BIND_ADDRESS" not in os.environ:
        # Left to itself the service listens on all addresses of the machine.
        place["coordinator_bind_address"] = address
    return place


def _own_address(address: str) -> str:
    """This machine's address on the way to ``host:port``."""
    host, _, port = address.rpartition(":")
    family, kind, protocol, _, where = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_DGRAM
    )[0]
    if ipaddress.ip_address(where[0]).is_loopback:
        return str(where[0])  # all of these are this machine's
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(where)  # nothing is sent: this asks for the route
        own: str = probe.getsockname()[0]
        return own


class JaxWorkers:
    """The processes of `jax.distributed`; see `d2lrnn.workers.protocols.Workers` for the methods.

    Args:
        device: this worker's; the others take the one with the same number among theirs.

    Attributes:
        device: this worker's.
        mesh: the devices of all workers, along one axis.
    """

    def __init__(self, device: jax.Device) -> None:
        self.rank, self.size = jax.process_index(), jax.process_count()
        self.device = device
        index = jax.local_devices(backend=device.platform).index(device)
        devices = [
            jax.local_devices(process_index=rank, backend=device.platform)[index] for rank in range(self.size)
        ]
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self._signs = _Signs(distributed.global_state.client, self.rank, self.size)
        with _quiet():
            # Those of gloo connect with the first sum.
            self.sum(np.zeros((), np.float32))

    def sum(self, array: FloatArray) -> FloatArray:
        """Over all workers."""
        with precision(array.dtype), self.summing():
            own = jax.device_put(array[None], self.device)
            shape = (self.size, *array.shape)
            arrays = jax.make_array_from_single_device_arrays(shape, self._cut(1), [own])
            return np.array(local(shared_sum(self.mesh)(arrays)))

    def lost(self) -> str | None:
        """One that gave no sign of life for long."""
        return self._signs.silent()

    def close(self) -> None:
        """Waits for all, and leaves."""
        self.sum(np.zeros((), np.float32))
        self._signs.end()
        jax.distributed.shutdown()

    def same(self, tree: Any) -> Any:
        """Arrays that all workers have alike, in the form that the functions of all workers take."""
        return jax.tree.map(self._same, tree)

    def rows(self, tree: Any) -> Any:
        """This worker's rows, (…, b, n) of all workers' (…, N b, n), in that form."""
        return jax.tree.map(self._rows, tree)

    @contextmanager
    def summing(self) -> Iterator[None]:
        """Where a sum over the workers is computed: its failure becomes a `WorkerLostError`."""
        try:
            yield
        except (ValueError, RuntimeError) as error:  # gloo's failures are the one, XLA's the other
            if not any(word in str(error).lower() for word in ("gloo", "nccl", "all-reduce")):
                raise
            who = self._signs.silent_from_now_on(_SHORT_PATIENCE) or "another worker"
            raise WorkerLostError(f"{who} is gone: {_first_line(error)}") from error

    def _same(self, array: jax.Array) -> jax.Array:
        if isinstance(array.sharding, NamedSharding):
            return array
        return jax.make_array_from_single_device_arrays(array.shape, NamedSharding(self.mesh, SAME), [array])

    def _rows(self, array: Any) -> jax.Array:
        own = array if isinstance(array, jax.Array) else jax.device_put(array, self.device)
        *others, rows, size = array.shape
        shape = (*others, rows * self.size, size)
        return jax.make_array_from_single_device_arrays(shape, self._cut(array.ndim), [own])

    def _cut(self, ndim: int) -> NamedSharding:
        return NamedSharding(self.mesh, rows_spec(ndim))


class _Signs:
    """Signs of life: every worker counts in the coordination service's store, and looks whether others do.

    The service knows as much, but keeps it to itself until it ends the process.
    """

    def __init__(self, client: Any, rank: int, size: int) -> None:
        self._client, self._rank, self._size = client, rank, size
        self._counts = dict.fromkeys((other for other in range(size) if other != rank), 0)
        self._changed = dict.fromkeys(self._counts, time.monotonic())
        self._answered = self._looked = time.monotonic()
        self._ended = False
        # A thread of its own: a store whose process was stopped does not answer for long.
        threading.Thread(target=self._exchange, daemon=True).start()

    def end(self) -> None:
        """From now on silence means nothing."""
        self._ended = True

    def silent(self, patience: float = _PATIENCE, since: float = 0.0) -> str | None:
        """One that has given no sign for `patience` seconds after the moment `since`."""
        now = time.monotonic()
        if now - self._looked > _PATIENCE / 2:
            # This process was stopped itself: the others may have been, too.
            self._answered, self._changed = now, dict.fromkeys(self._changed, now)
        self._looked = now
        if self._ended:
            return None
        if now - max(since, self._answered) > patience:
            return self._title(0)  # where the store is
        silent = [other for other, at in self._changed.items() if now - max(since, at) > patience]
        return self._title(silent[0]) if silent else None

    def silent_from_now_on(self, patience: float) -> str | None:
        """Waits for one that gives no sign."""
        since = time.monotonic()
        while time.monotonic() < since + patience + 2 * _BETWEEN_SIGNS:
            silent = self.silent(patience, since)
            if silent is not None:
                return silent
            time.sleep(_BETWEEN_SIGNS / 10)
        return None

    def _exchange(self) -> None:
        while not self._ended:
            # The store is gone with the first worker, or with this process at its end.
            with suppress(RuntimeError):
                self._client.key_value_increment(_key(self._rank), 1)
                for other, before in self._counts.items():
                    count = self._client.key_value_increment(_key(other), 0)
                    if count != before:
                        self._counts[other], self._changed[other] = count, time.monotonic()
                self._answered = time.monotonic()
            time.sleep(_BETWEEN_SIGNS)

    def _title(self, rank: int) -> str:
        return f"worker {rank} of {self._size}"


def _key(rank: int) -> str:
    return f"d2lrnn/alive/{rank}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without standard output: gloo writes a line there, from C++."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
