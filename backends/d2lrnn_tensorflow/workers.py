"""Several workers on `tf.distribute.MultiWorkerMirroredStrategy`: rings over gRPC on CPUs, NCCL on GPUs.

The place among them comes from ``TF_CONFIG``. The strategy reduces, and checks that the others live; it
mirrors no variables: every worker makes the same step on variables of its own, from the same sums.

TensorFlow's server listens on all addresses whatever ``TF_CONFIG`` says. Where this worker's address there is
one of loopback, its socket is bound to the loopback device as soon as the server is up.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended
from tensorflow.python.eager import context

from d2lrnn.contract.values import Device, FloatArray
from d2lrnn.errors import SpecError, WorkerLostError
from d2lrnn_tensorflow.devices import native_name
from d2lrnn_tensorflow.recurrence import Tensor

#: The jobs of ``TF_CONFIG`` whose tasks train, in the order of their ranks.
_JOBS = ("chief", "worker")

#: How long the others may take to start, in seconds.
_PATIENCE = 300
#: Every second each of the others is asked whether it lives. Its server answers from a thread of its own,
#: also while the worker compiles or saves; one that has not answered three times is lost.
_SECONDS_BETWEEN_CHECKS, _SECONDS_TO_ANSWER = 1, 6
_SECONDS_TO_LINGER = 0.2
#: The module of TensorFlow that asks.
_CHECKS = CollectiveAllReduceExtended.__module__.rpartition(".")[2]


@dataclass(frozen=True)
class Place:
    """A worker's place among all, as ``TF_CONFIG`` has it.

    Attributes:
        rank: its number.
        addresses: of all workers, ``host:port``, by rank.
        chiefs: how many of them have the job ``chief``: none, or the first.

    Example:
        >>> cluster = {"chief": ["one:1"], "worker": ["two:1", "two:2"]}
        >>> config = {"cluster": cluster, "task": {"type": "worker", "index": 1}}
        >>> place = Place.read({"TF_CONFIG": json.dumps(config)})
        >>> place.rank, place.size, place.local_rank
        (2, 3, 1)
    """

    rank: int
    addresses: tuple[str, ...]
    chiefs: int = 0

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Place:
        """From ``TF_CONFIG``.

        Raises:
            SpecError: it is not there, or names no place.
        """
        text = environment.get("TF_CONFIG")
        if not text:
            raise SpecError("the place among the workers is not known: TF_CONFIG is not set")
        try:
            config = json.loads(text)
            tasks = {job: list(config["cluster"].get(job, ())) for job in _JOBS}
            job, index = config["task"]["type"], int(config["task"]["index"])
            addresses = tuple(each for job in _JOBS for each in tasks[job])
            if not 0 <= index < len(tasks[job]) or len(set(addresses)) < len(addresses):
                raise ValueError
            for address in addresses:
                int(address.rpartition(":")[2])
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise SpecError(
                f"TF_CONFIG names no place among the workers: {text}. It must be like "
                '{"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": "worker", "index": 0}}'
            ) from error
        return cls(addresses.index(tasks[job][index]), addresses, len(tasks["chief"]))

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self.addresses)

    @property
    def local_rank(self) -> int:
        """The number of this worker among those of its machine."""
        hosts = [address.rpartition(":")[0] for address in self.addresses]
        return hosts[: self.rank].count(hosts[self.rank])

    def named_in(self, message: str) -> int | None:
        """The rank of the first other worker that a message of TensorFlow names.

        Example:
            >>> message = "cluster check alive failed, /job:worker/replica:0/task:1 is down"
            >>> Place(0, ("one:1", "two:1")).named_in(message)
            1
        """
        for job, task in re.findall(r"/job:(chief|worker)(?:/replica:0)?/task:(\d+)", message):
            rank = int(task) + (self.chiefs if job == "worker" else 0)
            if rank != self.rank:
                return rank
        return None


def join(place: Place, device: Device) -> TensorFlowWorkers:
    """Joins the other workers; see `d2lrnn.workers.protocols.SharingBackend.join_workers`.

    Args:
        place: among them.
        device: where this worker computes.
    """
    name = _only_device(device)
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        # No time limit for a sum: the others may compile, or save, for minutes.
        implementation=implementation.RING if device.name == "cpu" else implementation.NCCL
    )
    # The coordination service would find a lost worker too. But it waits for the others within the call
    # that starts the server, with Python's lock held: no thread could bind the socket, or say that this
    # worker lives.
    context.context().configure_coordination_service("")
    # The check begins with a wait for the others: it is started when the socket is bound.
    CollectiveAllReduceExtended._enable_check_health = False
    # What the check finds becomes an error, and need not be logged beside it.
    tf.get_logger().addFilter(lambda record: record.module != _CHECKS)
    address = place.addresses[place.rank]
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except RuntimeError as error:
        raise SpecError(
            "TensorFlow has computed in this process already: join the workers before everything else"
        ) from error
    except tf.errors.OpError as error:
        raise SpecError(f"this worker cannot listen at {address}: {error.message}") from error
    host, _, port = address.rpartition(":")
    if _is_loopback(host):
        bind_to_loopback(int(port))
    checks = strategy.extended
    checks._check_health_initial_timeout = _PATIENCE
    checks._check_health_interval, checks._check_health_timeout = _SECONDS_BETWEEN_CHECKS, _SECONDS_TO_ANSWER
    try:
        checks._start_check_health_thread()
    except (RuntimeError, tf.errors.OpError) as error:
        others = ", ".join(other for other in place.addresses if other != address)
        raise WorkerLostError(f"the other workers cannot be reached at {others}: {error}") from error
    return TensorFlowWorkers(place, strategy, name)


class TensorFlowWorkers:
    """The strategy's workers; see `d2lrnn.workers.protocols.Workers` for the methods.

    Args:
        place: of this one.
        strategy: that has joined the others.
        device: TensorFlow's name of the device that this one computes on.
    """

    def __init__(self, place: Place, strategy: Any, device: str) -> None:
        self.rank, self.size, self.device = place.rank, place.size, device
        self._place, self._strategy = place, strategy
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def sum(self, array: FloatArray) -> FloatArray:
        """Over all workers."""
        key = array.shape, array.dtype
        with self.named_if_lost(), tf.device(self.device):
            if key not in self._compiled:
                # Of a function that is traced for several shapes TensorFlow warns as if there were no end.
                function = tf.function(lambda array: self.summed([array])[0], autograph=False)
                self._compiled[key] = function.get_concrete_function(tf.TensorSpec(*key))
            return self._compiled[key](tf.constant(array)).numpy()

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums of tensors of one precision, in one reduction: a part of a compiled function."""
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
        pieces = tf.split(self._strategy.run(_sum_of_replicas, (flat,)), [tf.size(each) for each in tensors])
        return [tf.reshape(piece, tf.shape(each)) for piece, each in zip(pieces, tensors, strict=True)]

    @contextmanager
    def named_if_lost(self) -> Iterator[None]:
        """Around calls of what sums: raises the error that says which worker is lost."""
        try:
            yield
        except tf.errors.OpError as error:
            aborted = re.search(r"Collective ops is aborted by: (.*)", error.message, re.DOTALL)
            if not aborted:
                raise
            rank, reason = self._place.named_in(aborted[1]), aborted[1].splitlines()[0]
            who = "another worker" if rank is None else f"worker {rank} of {self.size}"
            raise WorkerLostError(f"{who} is gone: {reason}") from error

    def lost(self) -> str | None:
        """Nothing: the strategy looks for the lost itself, and lets the sums of the others fail."""
        return None

    def close(self) -> None:
        """Waits for all, and leaves."""
        self._wait_for_all()
        # Whoever still checked would find that those who have left do not answer.
        self._strategy.extended._stop_check_health_thread()
        # All have come this far. One that leaves before the others have all of this sum ends theirs with an
        # error, which means nothing here, and which TensorFlow logs: it stays a little to spare them that.
        with suppress(WorkerLostError):
            self._wait_for_all()
        time.sleep(_SECONDS_TO_LINGER)

    def _wait_for_all(self) -> None:
        self.sum(np.zeros(1, np.float32))


def bind_to_loopback(port: int) -> None:
    """Keeps other machines from a socket of this process that listens on all addresses.

    Args:
        port: where it listens.
    """
    try:
        for listener in _listening_at(port):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
            return
        reason = "its socket is not found"
    except (OSError, AttributeError) as error:  # neither is known to every system
        reason = str(error)
    warnings.warn(
        f"port {port} of this worker is open to other machines, as TensorFlow's server listens on all "
        f"addresses and cannot be bound to loopback here: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


def _listening_at(port: int) -> Iterator[socket.socket]:
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
        except OSError:  # it has been closed since
            continue
        with socket.socket(fileno=os.dup(descriptor)) as each:
            if (
                each.family in (socket.AF_INET, socket.AF_INET6)
                and each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                and each.getsockname()[1] == port
            ):
                yield each


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _only_device(device: Device) -> str:
    """Leaves TensorFlow this device alone, as the strategy takes all that it sees; its name then."""
    if device.name == "cpu":
        tf.config.set_visible_devices([], "GPU")
        return native_name(device)
    number = int(device.name.rpartition(":")[2])
    tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[number], "GPU")
    return "/GPU:0"


def _sum_of_replicas(value: Tensor) -> Tensor:
    # The strategy asks for the device of what it sums: an argument has none, and its identity has one.
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))
