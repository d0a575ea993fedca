"""A model, saved in one framework and loaded in another."""

from __future__ import annotations

import os

from d2lrnn.contract.values import Model
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import KindError
from d2lrnn.registry import backend as find
from d2lrnn.registry import backend_of
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import load_run, save_run


def save(
    model: Model, folder: str | os.PathLike[str], *, vocab: Vocab | None = None, overwrite: bool = False
) -> None:
    """Saves a model: what it computes and its parameters, in a folder that every backend can load.

    Args:
        model: what `Backend.build` or `load` returned, or `Learner.model`: an object of any framework's.
        folder: it is made where it is missing.
        vocab: what its tokens are; ``d2lrnn generate`` needs it to write.
        overwrite: whether another run or model in this folder goes when the new one is whole.

    Raises:
        OccupiedError: the folder holds another run or model, and `overwrite` is false.
        RunError: the folder cannot be written.
        SpecError: this is no model of a backend's.
        KindError: it is a learner.

    Example:
        >>> d2lrnn.save(learner.model, "runs/gru", vocab=corpus.vocab)  # doctest: +SKIP
        >>> model = d2lrnn.load("runs/gru", backend="jax")  # doctest: +SKIP
    """
    if hasattr(model, "export_parameters"):
        raise KindError(
            f"save takes a model, and this is a {type(model).__name__}: give learner.model, or save a whole "
            "run with save_run"
        )
    backend = backend_of(model)
    spec, parameters = backend.export_model(model)
    run = Run(spec, parameters, vocab, backend=backend.name, versions=backend.versions())
    save_run(run, folder, overwrite=overwrite)


def load(folder: str | os.PathLike[str], backend: str | None = None) -> Model:
    """The model of a saved run, or one that `save` wrote, as a framework's own object.

    Args:
        folder: a run's folder, its ``best``, or one checkpoint in it.
        backend: the name of the backend to build it on; None takes ``D2LRNN_BACKEND``, see `d2lrnn.backend`.

    Raises:
        RunError: there is no run, or it is damaged.
        UnknownBackendError: no backend has this name.
        BackendNotInstalledError: its framework is missing.
    """
    chosen = find(backend)
    return load_run(folder).build(chosen)
