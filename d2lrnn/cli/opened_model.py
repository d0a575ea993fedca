"""A saved model that is ready to write text."""

from __future__ import annotations

from dataclasses import dataclass

from d2lrnn.cli.output import describe_best
from d2lrnn.contract.protocols import Backend, Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.vocabulary import UNKNOWN, Vocab
from d2lrnn.errors import RunError
from d2lrnn.generation import RowChooser, Sampling, next_tokens
from d2lrnn.generation.prompts import prompt_from
from d2lrnn.saving.run_folder import load_run


@dataclass(frozen=True)
class OpenedModel:
    """What writing needs of a saved run.

    Attributes:
        learner: the model on a backend.
        spec: what it computes.
        vocab: its vocabulary.
        prompt: what it continues where no prefix is given.
        best: which epoch it is of, where that is not the newest.
    """

    learner: Learner
    spec: ModelSpec
    vocab: Vocab
    prompt: str
    best: str | None

    def warm_up(self) -> None:
        """Samples a token: what is compiled or imported for it is so now, and not while somebody waits."""
        next(next_tokens(self.learner, [[0]], RowChooser(Sampling(temperature=1.0), [0])))


def open_model(folder: str, chosen: Backend, device: str) -> OpenedModel:
    """The model of a run on a backend.

    Raises:
        RunError: there is no such run, it cannot be read, or it has no vocabulary.
        DeviceError: the backend has no such device.
    """
    run = load_run(folder, best=True)
    if run.vocab is None:
        raise RunError(
            f"{folder} holds a model without a vocabulary, which generating text needs: save the model "
            "with d2lrnn.save(model, folder, vocab=vocab)"
        )
    learner = chosen.learner(run.build(chosen), run.training or TrainingSpec(), device=device)
    prompt = run.prompt or prompt_from(run.vocab)
    return OpenedModel(learner, run.model, run.vocab, prompt, describe_best(run, folder))


def forbidden(*, no_unknown: bool) -> tuple[str, ...]:
    """The tokens that are never written."""
    return (UNKNOWN,) if no_unknown else ()
