"""Signs of life among the processes of MXNet's engine for several workers, by that engine's own heartbeats.

Workers and servers send them to the scheduler, which answers each. So the scheduler knows which of them is
silent, and every other process whether the scheduler is. MXNet itself does nothing about a silent process.

Source: ps-lite, ``Van::Heartbeat`` and ``Postoffice::GetDeadNodes``; the numbers of nodes are those of
``Postoffice::WorkerRankToID`` and ``ServerRankToID``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ctypes import byref, c_int
from typing import Any

import mxnet as mx

#: The number of the scheduler's node.
SCHEDULER = 1
#: The scheduler ends for a node that has been silent for so many seconds.
SCHEDULERS_PATIENCE = 12
#: The others end when the scheduler has been silent for so many seconds. It computes nothing.
PATIENCE = 8
#: A machine that was asleep wakes up with nothing but old signs; new ones come within a second.
_TIMES_IN_A_ROW = 3


def send_heartbeats() -> None:
    """Has this process send heartbeats, once a second, from its start in the engine on."""
    os.environ.setdefault("PS_HEARTBEAT_INTERVAL", "1")


def worker_nodes(size: int) -> dict[int, str]:
    """The nodes of workers, by number, and what to call them.

    Example:
        >>> worker_nodes(2)
        {9: 'worker 0 of 2', 11: 'worker 1 of 2'}
    """
    return {9 + 2 * rank: f"worker {rank} of {size}" for rank in range(size)}


def server_nodes(size: int) -> dict[int, str]:
    """The same of servers.

    Example:
        >>> server_nodes(1)
        {8: 'server 0 of 1'}
    """
    return {8 + 2 * rank: f"server {rank} of {size}" for rank in range(size)}


class Heartbeats:
    """What this process hears from others.

    Args:
        store: an ``mx.kv.KVStore`` that has begun.
        nodes: those to listen to, by number, and what to call them.
        patience: how many seconds each may be silent.
    """

    def __init__(self, store: Any, nodes: Mapping[int, str], patience: int) -> None:
        self._store, self._nodes, self._patience = store, nodes, patience
        self._times_silent = dict.fromkeys(nodes, 0)

    def silent(self) -> str | None:
        """What to call the one that is lost, if one is; to be asked every second."""
        for node, name in self._nodes.items():
            number = c_int()
            mx.base.check_call(
                mx.base._LIB.MXKVStoreGetNumDeadNode(
                    self._store.handle, c_int(node), byref(number), c_int(self._patience)
                )
            )
            self._times_silent[node] = self._times_silent[node] + 1 if number.value else 0
            if self._times_silent[node] >= _TIMES_IN_A_ROW:
                return name
        return None
