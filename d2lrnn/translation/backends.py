"""Translators of the backends that have them."""

from __future__ import annotations

from typing import Protocol

from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.contract.values import Parameters
from d2lrnn.errors import SpecError
from d2lrnn.translation.spec import TranslatorSpec
from d2lrnn.translation.values import Translator


class TranslatorMaker(Protocol):
    """The method of a `d2lrnn.contract.protocols.Backend` that has translators."""

    def translator(
        self, spec: TranslatorSpec, parameters: Parameters, training: TrainingSpec, *, device: str = "auto"
    ) -> Translator:
        """A translator with these parameters, on a device as of `Backend.learner`.

        Raises:
            ParameterError: the parameters do not fit `spec`.
            DeviceError: there is no such device.
        """


def make_translator(
    backend: Backend,
    spec: TranslatorSpec,
    parameters: Parameters,
    training: TrainingSpec,
    *,
    device: str = "auto",
) -> Translator:
    """A backend's translator; see `TranslatorMaker.translator`.

    Raises:
        SpecError: the backend has none; or `training` has a schedule or accumulates gradients, which a
            translator's does not.

    Example:
        >>> import d2lrnn
        >>> from d2lrnn.translation.spec import initial_translator
        >>> spec = TranslatorSpec(source_size=20, target_size=30)
        >>> translator = make_translator(
        ...     d2lrnn.backend("numpy"), spec, initial_translator(spec), d2lrnn.TrainingSpec()
        ... )
        >>> translator.step
        0
    """
    maker: TranslatorMaker | None = backend if hasattr(backend, "translator") else None  # type: ignore[assignment]
    if maker is None:
        raise SpecError(f"the backend {backend.name} has no translator")
    if training.accumulate != 1 or training.schedule is not None:
        raise SpecError(
            "a translator is trained at a constant rate, on whole batches: leave schedule and accumulate out"
        )
    return maker.translator(spec, parameters, training, device=device)
