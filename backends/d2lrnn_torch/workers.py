"""Several workers on `torch.distributed`: gloo on CPUs, NCCL on GPUs.

The place among them comes from the variables of ``torchrun``: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
Sums are those of one flat tensor for a whole training step: a message costs the same however small it is.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import torch
from torch import Tensor, distributed

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import SpecError, WorkerLostError

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

#: What a worker that is well has not been silent for, in seconds.
_PATIENCE = 20.0
#: Where a sum has failed, some worker has certainly died: it is the one that is silent for this time.
_SHORT_PATIENCE = 4.0
_BETWEEN_SIGNS = 1.0

#: How long the others may take to come, and then to connect, and how long a sum may wait for the others: the
#: signs of life find one that is lost, and another may compile, or save, for minutes.
_TO_COME, _TO_CONNECT, _TO_SUM = timedelta(minutes=5), timedelta(minutes=1), timedelta(hours=24)

#: The request of Linux for the address of an interface.
_SIOCGIFADDR = 0x8915


def join(device: torch.device) -> TorchWorkers:
    """Joins the other workers; see `d2lrnn.workers.protocols.SharingBackend.join_workers`."""
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise SpecError(f"the place among the workers is not known: {', '.join(missing)} is not set")
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    elif not os.environ.get("GLOO_SOCKET_IFNAME") and (interface := _interface()):
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    try:
        store, rank, size = _store()
        _wait_for_all(store, rank, size)
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size, timeout=_TO_CONNECT
        )
    except WorkerLostError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise WorkerLostError(
            f"the other workers cannot be reached at {address}: {_first_line(error)}"
        ) from error
    # The same for all operations there: there is no public name for it.
    distributed.distributed_c10d._set_pg_timeout(_TO_SUM)
    return TorchWorkers(device, store)


def _wait_for_all(store: distributed.Store, rank: int, size: int) -> None:
    """Waits until all workers have come to the store: to connect to each other then takes a moment."""
    here = distributed.PrefixStore("here", store)
    here.set(str(rank), "1")
    until = time.monotonic() + _TO_COME.total_seconds()
    for other in range(size):
        try:
            here.wait([str(other)], timedelta(seconds=max(1.0, until - time.monotonic())))
        except RuntimeError as error:
            raise WorkerLostError(
                f"worker {other} of {size} has not come within {_TO_COME.seconds // 60} minutes: "
                f"{_first_line(error)}"
            ) from error


def _interface() -> str | None:
    """The network interface of this machine that leads to the store; None where it is not found.

    Left to itself gloo takes the address of the machine's name, which on many is one of loopback.
    """
    if sys.platform != "linux":
        return None
    import fcntl  # not everywhere

    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: this asks for the route.
        probe.connect((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
        own = socket.inet_aton(probe.getsockname()[0])
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                request = struct.pack("256s", name.encode())
                if fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24] == own:
                    return name
    return None


def _store() -> tuple[distributed.Store, int, int]:
    """The store of the workers, the rank of this one and their number."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if rank or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store, rank, size = next(distributed.rendezvous("env://"))
    else:
        store = _own_store(size)
    # The store of torchrun outlives the workers: those that are started again begin with an empty one.
    attempt = store.add(f"attempts of {rank}", 1)
    return distributed.PrefixStore(f"attempt {attempt}", store), rank, size


def _own_store(size: int) -> distributed.Store:
    """The store of worker 0, at MASTER_ADDR: left to itself it would listen on all addresses."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        descriptor = listener.detach()
    return distributed.TCPStore(
        host, port, size, is_master=True, wait_for_workers=False, master_listen_fd=descriptor
    )


class TorchWorkers:
    """The default process group; see `d2lrnn.workers.protocols.Workers` for the methods.

    Args:
        device: where the tensors lie that are summed.
        store: the process group's.
    """

    def __init__(self, device: torch.device, store: distributed.Store) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._device = device
        self._flat: dict[tuple[torch.dtype, int], Tensor] = {}
        self._signs = _Signs(store, self.rank, self.size)

    def sum(self, array: FloatArray) -> FloatArray:
        """Over all workers."""
        return self.summed([torch.tensor(array, device=self._device)])[0].numpy(force=True).copy()

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums of tensors of one precision; they are overwritten by the next call."""
        flat = self._buffer(tensors[0].dtype, sum(tensor.numel() for tensor in tensors))
        pieces = flat.split([tensor.numel() for tensor in tensors])
        for piece, tensor in zip(pieces, tensors, strict=True):
            piece.copy_(tensor.reshape(-1))
        try:
            distributed.all_reduce(flat)
        except RuntimeError as error:
            who = self._signs.silent(within=_SHORT_PATIENCE) or "another worker"
            raise WorkerLostError(f"{who} is gone: {_first_line(error)}") from error
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]

    def lost(self) -> str | None:
        """One that gave no sign of life for long."""
        return self._signs.lost()

    def close(self) -> None:
        """Waits for all, and leaves."""
        self.summed([torch.zeros((), device=self._device)])
        distributed.destroy_process_group()

    def _buffer(self, dtype: torch.dtype, size: int) -> Tensor:
        if (dtype, size) not in self._flat:
            self._flat[dtype, size] = torch.empty(size, dtype=dtype, device=self._device)
        return self._flat[dtype, size]


class _Signs:
    """Signs of life: every worker counts in the process group's store, and looks whether the others do.

    A gloo sum waits half an hour for a worker that hangs, and an epoch's validation may take as long.
    """

    def __init__(self, store: distributed.Store, rank: int, size: int) -> None:
        self._rank, self._size = rank, size
        self._others = [other for other in range(size) if other != rank]
        self._store = distributed.PrefixStore("alive", store)
        self._counts = dict.fromkeys(self._others, 0)
        self._heard = dict.fromkeys(self._others, time.monotonic())
        self._looked = time.monotonic()

    def lost(self, patience: float = _PATIENCE) -> str | None:
        try:
            self._store.add(str(self._rank), 1)
            now = time.monotonic()
            if now - self._looked > _PATIENCE / 2:
                # This process was stopped itself: the others may have been, too.
                self._heard = dict.fromkeys(self._others, now)
            self._looked = now
            for other in self._others:
                count = self._store.add(str(other), 0)
                if count != self._counts[other]:
                    self._counts[other], self._heard[other] = count, now
        except RuntimeError:
            return f"worker 0 of {self._size}"  # where the store is
        silent = [other for other in self._others if now - self._heard[other] > patience]
        return f"worker {silent[0]} of {self._size}" if silent else None

    def silent(self, within: float) -> str | None:
        """The one that gives no sign from now on."""
        self._heard = dict.fromkeys(self._others, time.monotonic())
        until = time.monotonic() + within + 2 * _BETWEEN_SIGNS
        while time.monotonic() < until:
            lost = self.lost(within)
            if lost is not None:
                return lost
            time.sleep(_BETWEEN_SIGNS)
        return None


def _first_line(error: BaseException) -> str:
    """What an error says, without the advice that gloo has for everybody."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return said.partition(". This is typically caused")[0]
