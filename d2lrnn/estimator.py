"""A language model in the manner of scikit-learn: parameters, `fit`, and what follows from it.

It follows scikit-learn's conventions for estimators without needing scikit-learn: the constructor keeps its
arguments as they are, `get_params` and `set_params` read and change them, so that ``sklearn.base.clone``
works, and what `fit` learns has a name with an underscore at its end. A class of it and of
``sklearn.base.BaseEstimator`` has what scikit-learn's searches ask for besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from d2lrnn.contract.optimizers import SGD, find_optimizer
from d2lrnn.contract.protocols import Learner
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import Implementation
from d2lrnn.data.batches import EvaluationText, SlidingWindows, shares_of_whole_text
from d2lrnn.data.corpus import Unit, corpus_from_text
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import SpecError, TextError
from d2lrnn.generation import generate
from d2lrnn.registry import backend
from d2lrnn.training.history import History
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.metrics import perplexity
from d2lrnn.training.trainer import Trainer


@dataclass(kw_only=True, eq=False)
class LanguageModel:
    """Trains on a text, measures others and writes; the defaults are those of ``d2lrnn train``.

    Attributes:
        cell: see `ModelSpec`, also for the next five.
        implementation: ``"scratch"`` or ``"concise"``.
        num_hiddens: h.
        num_layers: L.
        embedding_size: E; None takes one-hot vectors.
        dropout: the rate between layers.
        unit: what a token is, see `load_corpus`.
        batch_size: windows in a batch.
        num_steps: tokens in a window.
        optimizer: a name of `d2lrnn.contract.optimizers.OPTIMIZERS`.
        learning_rate: None takes the optimiser's.
        clip: the largest norm of the gradient; None never clips.
        num_epochs: how many.
        seed: of the initial parameters, the order of the windows and the dropout.
        backend: None takes ``D2LRNN_BACKEND``, see `d2lrnn.backend`.
        device: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        learner_: after `fit` the trained model, a `Learner`; ``learner_.model`` is the framework's own.
        vocab_: after `fit` the vocabulary.
        history_: after `fit` the `History` of the training.

    Example:
        >>> model = LanguageModel(cell="gru", num_hiddens=16, learning_rate=2.0, backend="numpy")
        >>> model.set_params(num_epochs=3).fit("so it goes " * 100)
        LanguageModel(cell='gru', num_hiddens=16, learning_rate=2.0, num_epochs=3, backend='numpy')
        >>> model.perplexity("it goes so " * 20) < len(model.vocab_) == 8
        True
        >>> len(model.generate("so it", 10))
        15
    """

    cell: str = ModelSpec.cell
    implementation: Implementation = ModelSpec.implementation
    num_hiddens: int = ModelSpec.num_hiddens
    num_layers: int = ModelSpec.num_layers
    embedding_size: int | None = None
    dropout: float = ModelSpec.dropout
    unit: Unit = DataSpec.unit
    batch_size: int = DataSpec.batch_size
    num_steps: int = DataSpec.num_steps
    optimizer: str = SGD.name
    learning_rate: float | None = None
    clip: float | None = TrainingSpec.clip
    num_epochs: int = 100
    seed: int = 0
    backend: str | None = None
    device: str = "auto"

    def fit(self, text: str | Sequence[str], y: None = None) -> LanguageModel:
        """Trains anew on a text, of which the last tenth is held out for the perplexities of `history_`.

        Args:
            text: the text, or several, which are joined by a line end.
            y: nothing; scikit-learn passes it.

        Returns:
            The object itself.

        Raises:
            TextError: the text is too short for a window.
            SpecError: a parameter is unknown or out of its range.
            DivergedError: a loss was not finite.
        """
        corpus = corpus_from_text(_joined(text), unit=self.unit)
        num_train, num_val = shares_of_whole_text(len(corpus), self.num_steps)
        if num_train < 1:
            raise TextError(
                f"the text has {len(corpus):,} tokens: to train on windows of {self.num_steps:,} steps it "
                f"needs at least {2 * self.num_steps + 2:,}"
            )
        data = SlidingWindows(
            corpus, batch_size=self.batch_size, num_steps=self.num_steps, num_train=num_train,
            num_val=num_val, seed=self.seed,
        )  # fmt: skip
        spec = ModelSpec(
            len(corpus.vocab), self.cell, self.implementation, self.num_hiddens, self.num_layers,
            self.dropout, embedding_size=self.embedding_size,
        )  # fmt: skip
        optimizer = find_optimizer(self.optimizer)()
        rate = optimizer.default_rate if self.learning_rate is None else self.learning_rate
        training = TrainingSpec(rate, self.clip, self.seed, optimizer)
        chosen = backend(self.backend)
        model = chosen.build(spec, initial_parameters(spec, self.seed))
        learner = chosen.learner(model, training, device=self.device)
        history = Trainer(learner, data).fit(self.num_epochs)
        self.learner_, self.vocab_, self.history_ = learner, corpus.vocab, history
        return self

    def perplexity(self, text: str | Sequence[str]) -> float:
        """The perplexity per token of a text, all of it: exp of the mean cross-entropy.

        Raises:
            SpecError: `fit` was not called.
            TextError: the text is too short for a window.
        """
        learner, vocab, _ = self._fitted()
        corpus = corpus_from_text(_joined(text), unit=self.unit, vocab=vocab)
        sizes = {"batch_size": self.batch_size, "num_steps": self.num_steps}
        return perplexity(*Trainer(learner, EvaluationText(SlidingWindows, corpus, **sizes)).validate())

    def score(self, text: str | Sequence[str], y: None = None) -> float:
        """The perplexity with a minus, so that more is better, as scikit-learn's searches want it."""
        return -self.perplexity(text)

    def generate(self, prefix: str, num_tokens: int, **options: Any) -> str:
        """Continues a text; the options are those of `d2lrnn.generate`, such as ``temperature=0.8``.

        Raises:
            SpecError: `fit` was not called.
            PromptError: the prefix is empty.
        """
        learner, vocab, _ = self._fitted()
        written: str = generate(learner, vocab, prefix, num_tokens, **options)
        return written

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments; `deep` changes nothing, as none of them is an estimator."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **params: Any) -> LanguageModel:
        """Changes some of them, for the next `fit`, and returns the object.

        Raises:
            SpecError: there is no such parameter; nothing is changed then.
        """
        known = [field.name for field in fields(self)]
        if unknown := [name for name in params if name not in known]:
            raise SpecError(f"unknown parameter {unknown[0]!r}: choose one of {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        given = (
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({', '.join(given)})"

    def _fitted(self) -> tuple[Learner, Vocab, History]:
        if not hasattr(self, "learner_"):
            raise SpecError("this LanguageModel knows no text yet: call fit(text) first")
        return self.learner_, self.vocab_, self.history_


def _joined(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "\n".join(text)
