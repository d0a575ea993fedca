"""Backends by name: the table, the choice, and the errors where one is not there.

The choice is made when it is asked for and never stored: `backend()` reads ``D2LRNN_BACKEND`` at every call,
objects carry their own backend, and so two backends can be used side by side in one process. Nothing falls
back: a backend that was named and is not there is an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.values import Model
from d2lrnn.errors import BackendNotInstalledError, SpecError, UnknownBackendError
from d2lrnn.installation.diagnosis import diagnose, error_text, summary
from d2lrnn.installation.faults import Fault
from d2lrnn.workers.engine import Engine

#: The environment variable that names the backend.
ENVIRONMENT_VARIABLE = "D2LRNN_BACKEND"

#: Third-party packages announce a backend in this entry-point group: ``name = "package.module:Class"``.
ENTRY_POINT_GROUP = "d2lrnn.backends"


@dataclass(frozen=True)
class BackendEntry:
    """What the core knows of a backend without importing it.

    Attributes:
        name: what `backend` and ``D2LRNN_BACKEND`` call it.
        package: its tab, the module behind ``from d2lrnn import <name> as d2l``.
        adapter: ``module:class`` of the `d2lrnn.contract.protocols.Backend`.
        requires: the modules that must be importable, the framework first.
        install: the one command that installs them.
        aliases: other names for it.
        engine: with which several processes train one model; None where it has none.
        exports: the format that it exports models to (`d2lrnn.saving.exporting`); None where it has none.
    """

    name: str
    package: str
    adapter: str
    requires: tuple[str, ...]
    install: str
    aliases: tuple[str, ...] = ()
    engine: Engine | None = None
    exports: str | None = None

    @property
    def installed(self) -> bool:
        """Whether the framework can be found; it is not imported."""
        return not self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """The required modules that cannot be found here."""
        return tuple(module for module in self.requires if find_spec(module) is None)

    @property
    def begun(self) -> bool:
        """Whether the framework itself can be found, if not all that goes with it."""
        return self.requires[0] not in self.missing

    def faults(self, error: str | None, devices: Sequence[str] = ()) -> list[Fault]:
        """What is wrong with its installation, where it is `begun`; nothing is imported.

        Args:
            error: what its import failed with, `d2lrnn.installation.diagnosis.error_text` of it; None where
                it works or was not tried.
            devices: the names of the devices that it computes on, where it works.
        """
        own = self.own_file("installation.py")
        return diagnose(self.package, self.requires, self.install, own, error, devices)

    def own_file(self, name: str) -> Path | None:
        """A file in its package, which is not imported: that would import its framework."""
        found = find_spec(self.package.partition(".")[0])
        for folder in (found and found.submodule_search_locations) or ():
            if (path := Path(folder, name)).is_file():
                return path
        return None

    def require(self) -> None:
        """Raises a BackendNotInstalledError, with the command that installs it, if anything is missing."""
        if self.missing:
            here = ", ".join(other.name for other in backends() if other.installed)
            raise BackendNotInstalledError(
                f"the backend {self.name} needs {', '.join(self.missing)}, which is not installed here. "
                f"Install it with: {self.install}  (installed: {here})"
            )


#: Documentation: pytorch.org/docs/stable/elastic/run.html and pytorch.org/docs/stable/distributed.html.
_TORCH_DISTRIBUTED = Engine(
    "torch.distributed",
    launched=(("RANK", "WORLD_SIZE"),),
    local={
        "RANK": "$rank", "LOCAL_RANK": "$rank", "WORLD_SIZE": "$size", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "$port", "GLOO_SOCKET_IFNAME": "$loopback", "NCCL_SOCKET_IFNAME": "$loopback",
    },
    unset=("TORCHELASTIC_USE_AGENT_STORE",),
    local_rank=("LOCAL_RANK",),
)  # fmt: skip

#: Documentation: docs.jax.dev/en/latest/multi_process.html. JAX_NUM_PROCESSES and JAX_PROCESS_ID are read by
#: the backend, the rest by JAX itself.
_JAX_DISTRIBUTED = Engine(
    "jax.distributed",
    launched=(
        ("JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID", "JAX_NUM_PROCESSES"),
        ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
        ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ),
    local={
        "JAX_COORDINATOR_ADDRESS": "127.0.0.1:$port", "JAX_COORDINATOR_BIND_ADDRESS": "127.0.0.1:$port",
        "JAX_NUM_PROCESSES": "$size", "JAX_PROCESS_ID": "$rank", "JAX_LOCAL_DEVICE_IDS": "$rank",
    },
    fatal=(
        r"stopped sending heartbeats\):\s*(?:/job:\S*/task:)?(\d+)",
        r"Either the leader task was preempted",
        r"DEADLINE_EXCEEDED.*RPC: /xla\.coordination\.CoordinationService/(?:Heartbeat|PollForError)",
    ),
)  # fmt: skip

#: Documentation: tensorflow.org/api_docs/python/tf/distribute/MultiWorkerMirroredStrategy.
_TENSORFLOW_STRATEGY = Engine(
    "MultiWorkerMirroredStrategy",
    launched=(("TF_CONFIG",),),
    local={
        "TF_CONFIG": '{"cluster": {"worker": $addresses}, "task": {"type": "worker", "index": $rank}}',
    },
)

#: Documentation: mxnet.apache.org/versions/1.9.1/api/faq/distributed_training.
_MXNET_STORE = Engine(
    "dist_sync",
    launched=(("DMLC_NUM_WORKER", "DMLC_PS_ROOT_URI", "DMLC_ROLE"),),
    local={
        "DMLC_ROLE": "$role", "DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": "$port",
        "DMLC_NUM_WORKER": "$size", "DMLC_NUM_SERVER": "1", "DMLC_NODE_HOST": "127.0.0.1",
        # The scheduler gives out the ranks of a machine in the order of the ports.
        "PORT": "$own_port",
    },
    unset=("PORT", "DMLC_INTERFACE"),
    server_roles=("scheduler", "server"),
    role="DMLC_ROLE",
    server_module="d2lrnn_mxnet",
)  # fmt: skip

#: The only place in the core where frameworks are named. Where none is chosen, the first that
#: is installed is taken.
BACKENDS = (
    BackendEntry("torch", "d2lrnn_torch", "d2lrnn_torch.adapter:TorchBackend",
                 ("torch",), "pip install torch", ("pytorch",), _TORCH_DISTRIBUTED, "onnx"),
    BackendEntry("jax", "d2lrnn_jax", "d2lrnn_jax.adapter:JaxBackend",
                 ("jax", "flax", "optax"), "pip install jax flax optax", ("flax",), _JAX_DISTRIBUTED,
                 "stablehlo"),
    BackendEntry("tensorflow", "d2lrnn_tensorflow", "d2lrnn_tensorflow.adapter:TensorFlowBackend",
                 ("tensorflow", "keras"), "pip install tensorflow keras", ("tf", "keras"),
                 _TENSORFLOW_STRATEGY, "savedmodel"),
    BackendEntry("mxnet", "d2lrnn_mxnet", "d2lrnn_mxnet.adapter:MXNetBackend",
                 ("mxnet",), 'pip install mxnet==1.9.1 "numpy<1.24"', ("mx",), _MXNET_STORE),
    BackendEntry("numpy", "d2lrnn_numpy", "d2lrnn_numpy.adapter:NumpyBackend",
                 ("numpy",), "pip install numpy", ("np",)),
)  # fmt: skip

#: What trains no model, but has recurrent layers that are ported (`d2lrnn.ports`): not among `backends`.
RUNTIMES = (
    BackendEntry("onnx", "d2lrnn_onnx", "d2lrnn_onnx.runtime:OnnxRuntime",
                 ("onnx", "onnxruntime"), "pip install onnx onnxruntime"),
)  # fmt: skip


def backend(name: str | None = None) -> Backend:
    """The backend called `name`.

    Args:
        name: a name or an alias; None takes ``D2LRNN_BACKEND``, and where that is unset or empty the first
            installed of the table.

    Raises:
        UnknownBackendError: no backend has this name; the message lists those that there are.
        BackendNotInstalledError: its framework is missing, and the message has the command that installs it;
            or its package cannot be imported.

    Example:
        >>> backend("numpy").name
        'numpy'
    """
    found: Backend = _adapter(find_backend(name))
    return found


def porting(name: str | None = None) -> Any:
    """The adapter of a backend or a runtime, for `d2lrnn.ports.porter`; see `backend` for the errors."""
    return _adapter(find_porting(name))


def _adapter(entry: BackendEntry) -> Any:
    entry.require()
    module, _, attribute = entry.adapter.partition(":")
    kind = getattr(_imported(entry, module), attribute, None)
    if kind is None:
        raise BackendNotInstalledError(
            f"the backend {entry.name} cannot be used: its package announces {entry.adapter}, but {module} "
            f"has no {attribute}. This is an error of that package"
        )
    return kind()


def find_porting(name: str | None = None) -> BackendEntry:
    """The entry that `porting` would load: a runtime by its name, or what `find_backend` finds.

    Raises:
        UnknownBackendError: there is none of this name; the message lists those that there are.

    Example:
        >>> find_porting("onnx").requires
        ('onnx', 'onnxruntime')
    """
    for entry in RUNTIMES:
        if name is not None and name.strip().lower() == entry.name:
            return entry
    try:
        return find_backend(name)
    except UnknownBackendError as error:
        others = ", ".join(entry.name for entry in RUNTIMES)
        raise UnknownBackendError(f"{error}, or {others} for recurrent layers alone") from error


def find_backend(name: str | None = None) -> BackendEntry:
    """The entry that `backend` would load; see there for the choice and the errors."""
    name = name or os.environ.get(ENVIRONMENT_VARIABLE) or None
    if name is None:
        return next(entry for entry in BACKENDS if entry.installed)
    wanted = name.strip().lower()
    for entry in _entries():
        if wanted == entry.name.lower() or wanted in entry.aliases:
            return entry
    known = ", ".join(entry.name for entry in backends())
    raise UnknownBackendError(f"unknown backend {name!r}: choose one of {known}")


def backend_of(model: Model) -> Backend:
    """The backend that made `model`.

    Raises:
        SpecError: it was made by none.
    """
    package = type(model).__module__.partition(".")[0]
    for entry in _entries():
        if package == entry.package.partition(".")[0]:
            return backend(entry.name)
    kind = f"{type(model).__module__}.{type(model).__name__}"
    raise SpecError(f"{kind} is not a model of any backend: build one with d2lrnn.backend(…).build(…)")


def engine_of(name: str | None = None) -> Engine:
    """The engine with which several workers train one model on the backend called `name`.

    Raises:
        UnknownBackendError: no backend has this name.
        SpecError: it has no engine; the message lists those that have one.

    Example:
        >>> engine_of("numpy")
        Traceback (most recent call last):
            ...
        d2lrnn.errors.SpecError: the backend numpy computes in one process, ...
    """
    entry = find_backend(name)
    if entry.engine is None:
        others = ", ".join(each.name for each in BACKENDS if each.engine)
        raise SpecError(
            f"the backend {entry.name} computes in one process, and has no engine for several workers: "
            f"choose one of {others}"
        )
    return entry.engine


def backends() -> list[BackendEntry]:
    """The table, and behind it the backends that other packages announce."""
    return list(_entries())


def _entries() -> Iterator[BackendEntry]:
    yield from BACKENDS
    # The scan for other packages takes time: for a name in the table it does not come to that.
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        yield _third_party(point.name, point.value)


def _third_party(name: str, adapter: str) -> BackendEntry:
    """Its tab is the package that the adapter lies in, and what it needs it brings with it."""
    module = adapter.partition(":")[0]
    package = module.rpartition(".")[0] or module
    root = package.partition(".")[0]
    return BackendEntry(name, package, adapter, (root,), f"pip install {root.replace('_', '-')}")


def tab(name: str) -> ModuleType:
    """The module behind ``from d2lrnn import <name> as d2l``.

    Raises:
        UnknownBackendError: no backend has this name.
        BackendNotInstalledError: its framework is missing, or its package cannot be imported.
    """
    entry = find_backend(name)
    entry.require()
    return _imported(entry, entry.package)


def _imported(entry: BackendEntry, module: str) -> ModuleType:
    try:
        return import_module(module)
    except Exception as error:
        # A framework that is there and broken raises anything: an OSError of the loader, an AttributeError of
        # a NumPy that is too new.
        text = error_text(error)
        faults = "; ".join(str(fault) for fault in entry.faults(text))
        raise BackendNotInstalledError(
            f"the backend {entry.name} cannot be imported: {summary(text).rstrip('.')}. {faults}"
        ) from error
