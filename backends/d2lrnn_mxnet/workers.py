"""Several workers on MXNet's own engine, the key-value store ``dist_sync``.

The place among them comes from the variables of its launcher: DMLC_ROLE, DMLC_PS_ROOT_URI,
DMLC_PS_ROOT_PORT, DMLC_NUM_WORKER and DMLC_NUM_SERVER; the scheduler gives out the ranks. Sums are those of
one flat array for a whole training step, which the servers add up; there is no optimiser on a server.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import mxnet as mx
import numpy

from d2lrnn.contract.values import FloatArray
from d2lrnn.errors import SpecError, WorkerLostError
from d2lrnn_mxnet.arrays import on_device
from d2lrnn_mxnet.heartbeats import PATIENCE, SCHEDULER, Heartbeats, send_heartbeats
from d2lrnn_mxnet.recurrence import Array
from d2lrnn_mxnet.servers import PATIENCE_AT_START
from d2lrnn_mxnet.sums import Sum, Sums

_NUMBERS = ("DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
_VARIABLES = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", *_NUMBERS)

#: How many seconds leaving may take, once all workers want to leave.
_PATIENCE_AT_END = 20.0


def join(context: Any) -> MXNetWorkers:
    """Joins the other workers; see `d2lrnn.workers.protocols.SharingBackend.join_workers`."""
    _check_variables()
    send_heartbeats()
    made: list[Any] = []
    # In a thread: the engine waits without end for the scheduler, and for all others.
    finished = _in_time(lambda: made.append(_store()), PATIENCE_AT_START)
    if not finished:
        address = f"{os.environ['DMLC_PS_ROOT_URI']}:{os.environ['DMLC_PS_ROOT_PORT']}"
        raise WorkerLostError(
            f"not all {os.environ['DMLC_NUM_WORKER']} workers and {os.environ['DMLC_NUM_SERVER']} servers "
            f"have come to the scheduler at {address} in {PATIENCE_AT_START:.0f} s"
        )
    if isinstance(made[0], Exception):
        raise WorkerLostError(f"the other workers cannot be reached: {_first_line(made[0])}") from made[0]
    return MXNetWorkers(made[0], context)


def _check_variables() -> None:
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        raise SpecError(f"the place among the workers is not known: {', '.join(missing)} is not set")
    if os.environ["DMLC_ROLE"] != "worker":
        raise SpecError(f"DMLC_ROLE is {os.environ['DMLC_ROLE']!r}: a process that trains is a worker")
    for name in _NUMBERS:
        value = os.environ[name]
        if not value.isdecimal() or not int(value):
            raise SpecError(f"{name} is {value!r}: it must be a whole number from 1 on")


def _store() -> Any:
    try:
        return mx.kv.create("dist_sync")
    except mx.MXNetError as error:
        return error


@mx.util.use_np
class MXNetWorkers:
    """The store; see `d2lrnn.workers.protocols.Workers` for the methods.

    Args:
        store: of ``mx.kv.create``.
        context: MXNet's device, where the arrays lie that are summed.
    """

    def __init__(self, store: Any, context: Any) -> None:
        self.rank, self.size = int(store.rank), int(store.num_workers)
        self._store, self._context = store, context
        self._sums = Sums(store, self.size, context)
        self._places: dict[tuple[Any, ...], tuple[Sum, list[Array]]] = {}
        self._heartbeats: Heartbeats | None = Heartbeats(store, {SCHEDULER: "the scheduler"}, PATIENCE)
        self._using = threading.Lock()

    def sum(self, array: FloatArray) -> FloatArray:
        """Over all workers."""
        own = on_device(array, array.dtype.name, self._context)
        result: FloatArray = self.summed([own])[0].asnumpy()
        return result

    def summed(self, arrays: Sequence[Array]) -> list[Array]:
        """The sums of arrays of one precision; they are overwritten by the next call for these shapes."""
        whole, pieces = self._place(arrays)
        for piece, array in zip(pieces, arrays, strict=True):
            array.copyto(piece)
        whole.add_up()
        return pieces

    def lost(self) -> str | None:
        """The scheduler, if it is silent: it ends itself, with a message, for any other that is lost."""
        with self._using:
            return self._heartbeats.silent() if self._heartbeats else None

    def close(self) -> None:
        """Waits for all, and leaves; the servers end with the last worker."""
        mx.npx.waitall()
        self._store._barrier()
        with self._using:
            # The store leaves when nobody has it any more.
            leaving: list[Any] = [self._store, self._sums, self._places]
            del self._store, self._sums, self._places
            self._heartbeats = None
        if not _in_time(leaving.clear, _PATIENCE_AT_END):
            raise WorkerLostError("another worker or a server was lost when all were about to leave")

    def _place(self, arrays: Sequence[Array]) -> tuple[Sum, list[Array]]:
        """Where arrays of these shapes are summed, and its memory in these shapes.

        All workers come here with the same shapes in the same order, and so make the same places.
        """
        dtype, shapes = arrays[0].dtype, tuple(array.shape for array in arrays)
        if (dtype, shapes) not in self._places:
            whole = self._sums.place(sum(array.size for array in arrays), numpy.dtype(dtype).name)
            pieces, start = [], 0
            for array in arrays:
                part = whole.flat[start : start + array.size]
                pieces.append(part.reshape(array.shape).as_np_ndarray())
                start += array.size
            self._places[dtype, shapes] = whole, pieces
        return self._places[dtype, shapes]


def _in_time(call: Any, seconds: float) -> bool:
    """Calls what may wait without end, and waits for it no longer than this."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
