"""How processes become workers of a framework's own engine: what is known of it without importing it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from string import Template

from d2lrnn.contract.devices import choose_device
from d2lrnn.contract.values import Device
from d2lrnn.errors import DeviceError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Engine:
    """A framework's engine for several workers, as its launchers and this library start it.

    Attributes:
        name: what its documentation calls it.
        launched: the variables by which its own launchers, and batch systems, tell a process its place. Where
            all of a tuple are set, this process is a worker; the last is the number of workers where the
            launcher gives one, and 1 is no launch.
        local: the variables of a worker on this machine. ``$rank`` and ``$size`` stand for its place,
            ``$port`` for a free port, ``$own_port`` for one of the worker's own, higher than those of lower
            ranks (a server has none), ``$addresses`` for one free address a worker, and ``$loopback`` for
            the name of the loopback interface. No engine has a secret that its processes could share.
        unset: variables that must not be set.
        server_roles: further processes that it needs, which are no workers.
        role: the variable that tells a process its role; `server_roles` or ``"worker"``.
        server_module: importing it makes a process with the role of a server one, which ends with the run.
        local_rank: variables that hold a worker's number among those of its machine.
        fatal: what a worker writes that ends because another is lost, as regular expressions; their group is
            the rank of that one, 0 where there is no group.
    """

    name: str
    launched: tuple[tuple[str, ...], ...]
    local: Mapping[str, str]
    unset: tuple[str, ...] = ()
    server_roles: tuple[str, ...] = ()
    role: str = ""
    server_module: str = ""
    local_rank: tuple[str, ...] = ()
    fatal: tuple[str, ...] = ()

    def launched_by(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """The variables by which a launcher has made this process a worker; none if it has not.

        Example:
            >>> engine = Engine("an engine", launched=(("RANK", "SIZE"),), local={})
            >>> engine.launched_by({"RANK": "0", "SIZE": "2"}), engine.launched_by({"RANK": "0", "SIZE": "1"})
            (('RANK', 'SIZE'), ())
        """
        for names in self.launched:
            if all(environment.get(name) for name in names) and environment[names[-1]].strip() != "1":
                return names
        return ()

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a launcher has made this process a server, and no worker."""
        return bool(self.role) and environment.get(self.role) in self.server_roles

    def environments(self, size: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """The variables of all workers on this machine by rank, and of the servers.

        One that has no value is left out: to some engines an empty one is a value.
        """
        ports = sorted(free_ports(size + 1))
        common = {
            "size": str(size),
            "port": str(ports[-1]),
            "addresses": json.dumps([f"{LOOPBACK}:{port}" for port in ports[:size]]),
            "loopback": _loopback_interface(),
        }
        workers = [
            self._filled({**common, "rank": str(rank), "own_port": str(ports[rank]), "role": "worker"})
            for rank in range(size)
        ]
        servers = [
            self._filled({**common, "rank": "0", "own_port": "", "role": role}) for role in self.server_roles
        ]
        return workers, servers

    def _filled(self, values: Mapping[str, str]) -> dict[str, str]:
        filled = {name: Template(value).substitute(values) for name, value in self.local.items()}
        return {name: value for name, value in filled.items() if value}


def worker_device(requested: str, available: Sequence[Device], local_rank: int) -> Device:
    """The device of a worker: each takes a GPU of its own where there are GPUs and none was named.

    Args:
        requested: as for `d2lrnn.contract.devices.choose_device`.
        available: what there is on this machine, best first.
        local_rank: the number of the worker among those of this machine.

    Raises:
        DeviceError: there is no such device, or there are fewer GPUs than workers.

    Example:
        >>> worker_device("auto", [Device("gpu:0", ""), Device("gpu:1", ""), Device("cpu", "")], 1).name
        'gpu:1'
    """
    if requested != "auto" or available[0].name == "cpu":
        return choose_device(requested, available)
    gpus = [device for device in available if device.name != "cpu"]
    if local_rank >= len(gpus):
        raise DeviceError(
            f"worker {local_rank} of this machine has no GPU, of which there are {len(gpus)}: start fewer "
            "workers, or give --device cpu"
        )
    return gpus[local_rank]


def free_ports(number: int) -> list[int]:
    """Ports of the loopback address on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def cores_of(number: int) -> list[list[int]]:
    """The cores of this process, dealt out to several; each has at least one, and shares it if it must.

    Example:
        >>> [len(cores) > 0 for cores in cores_of(3)]
        [True, True, True]
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not cores:
        cores = list(range(os.cpu_count() or 1))
    each = max(1, len(cores) // number)
    return [[cores[(worker * each + i) % len(cores)] for i in range(each)] for worker in range(number)]


def _loopback_interface() -> str:
    names: Sequence[str] = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), "lo")
