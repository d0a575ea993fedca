"""A saved run as a value, and its description as JSON: everything but the arrays.

Format 2 of ``run.json``, an object with exactly these fields:

=================  ===========================================================================================
``format``         2
``identity``       the same for all checkpoints of one run
``model``          `ModelSpec`
``training``       `TrainingSpec`, or null where a model was saved alone
``data``           `DataSpec`, which says what a token is and carries the seed of the order; or null
``text_digest``    SHA-256 of the corpus's tokens, in the smallest type that holds them; or null
``vocabulary``     the tokens in order, or null
``num_epochs``     how many epochs were asked for
``position``       ``step``; ``epochs``, one `EpochRecord` each; ``part``, the epoch under way, or null: its
                   ``num_batches``, ``nats``, ``num_tokens``, ``seconds``, and ``state``, whether
                   ``state.safetensors`` has the hidden state after them
``backend``        the backend that trained last
``versions``       what it computed with, by package
=================  ===========================================================================================

The optimiser is SGD, which has no state. The order of the batches and the dropout masks follow from the seeds
and the position alone (`d2lrnn.data.batches`, `d2lrnn.contract.dropout`).

``model`` comes before ``vocabulary``, whose length it says. No token, record or other value takes more than
`d2lrnn.saving.json_reader.LONGEST_VALUE` bytes.

Format 1 had ``step`` and ``history`` in place of ``position``, digests inside, and no identity.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from d2lrnn.contract.parameters import parameter_shapes
from d2lrnn.contract.protocols import Backend
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.contract.values import FloatArray, Model
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import RunError
from d2lrnn.saving.json_fields import check_names, check_type, decode
from d2lrnn.saving.json_reader import JSONReader
from d2lrnn.training.trainer import EpochPart, EpochRecord, Position, record_to_json

#: The version of ``run.json`` and of the folder around it (`d2lrnn.saving.checkpoint`) that is written.
FORMAT_VERSION = 2
#: The versions that are read.
READABLE_VERSIONS = (1, 2)

#: No model has more layers; a file that says so is damaged.
_MAX_LAYERS = 1024


def new_identity() -> str:
    """A name for a run that no other run has."""
    return uuid.uuid4().hex


def text_digest(corpus: Corpus) -> str:
    """What tells whether a text is still the one that a run was trained on."""
    tokens = np.ascontiguousarray(corpus.tokens)
    return hashlib.sha256(tokens.astype(tokens.dtype.newbyteorder("<"), copy=False).data).hexdigest()


@dataclass(frozen=True)
class Run:
    """A model, where it came from, and where its training stands.

    A model that was saved alone (`d2lrnn.save`) has no text and no training: those fields are None.

    Attributes:
        model: which function it computes.
        parameters: canonical names to arrays.
        vocab: what its tokens are.
        data: the text and the iterator that it is trained on.
        training: rate, clipping, seed.
        position: how far training has come.
        num_epochs: how many epochs were asked for.
        text_digest: of the text, see `text_digest`.
        backend: the name of the backend that trained it last.
        versions: of what computed, by package.
        identity: the same for all checkpoints of one run.
    """

    model: ModelSpec
    parameters: dict[str, FloatArray] = field(repr=False)
    vocab: Vocab | None = field(default=None, repr=False)
    data: DataSpec | None = None
    training: TrainingSpec | None = None
    position: Position = field(default_factory=Position)
    num_epochs: int = 0
    text_digest: str | None = None
    backend: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    identity: str = field(default_factory=new_identity)

    @property
    def step(self) -> int:
        """Training steps taken."""
        return self.position.step

    @property
    def history(self) -> list[dict[str, Any]]:
        """One object a whole epoch, as `History.to_json` gives them."""
        return [record_to_json(record) for record in self.position.epochs]

    def build(self, backend: Backend) -> Model:
        """The model on a backend, which need not be the one that trained it."""
        return backend.build(self.model, self.parameters)


def describe(run: Run) -> bytes:
    """The content of ``run.json``."""
    part = run.position.part
    document = {
        "format": FORMAT_VERSION,
        "identity": run.identity,
        "model": run.model.to_json(),
        "training": run.training.to_json() if run.training else None,
        "data": run.data.to_json() if run.data else None,
        "text_digest": run.text_digest,
        "vocabulary": run.vocab.to_json() if run.vocab else None,
        "num_epochs": run.num_epochs,
        "position": {
            "step": run.position.step,
            "epochs": run.history,
            "part": _describe_part(part) if part else None,
        },
        "backend": run.backend,
        "versions": run.versions,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _describe_part(part: EpochPart) -> dict[str, Any]:
    # Python writes a float so that reading gives the same float again, to the last bit.
    return {**asdict(replace(part, state=None)), "state": part.state is not None}


def parse(content: bytes, model_bytes: int) -> dict[str, Any]:
    """The object in a ``run.json`` of a format that can be read, its epochs as tuples of `EpochRecord`.

    Args:
        content: the file's.
        model_bytes: the size of the file with the model's parameters. No more tokens are read than a model of
            that size has, so that memory stays near the size of both files.

    Raises:
        RunError: it is not JSON, not of such a format, has a field that is in none, or a vocabulary that
            cannot belong to such a model.
    """
    reader = JSONReader(content)
    document: dict[str, Any] = {}
    for name in _known(reader.members(), {*_FIELDS, *_FIELDS_1, "format"}, "it"):
        if name == "vocabulary":
            document[name] = (
                None if reader.null() else _read_tokens(reader, document.get("model"), model_bytes)
            )
        elif name == "history":
            document[name] = _read_epochs(reader)
        elif name == "position":
            position = document[name] = {}
            for inner in _known(reader.members(), _POSITION, name):
                position[inner] = _read_epochs(reader) if inner == "epochs" else reader.value()
        else:
            document[name] = reader.value()
    reader.end()
    if document.get("format") not in READABLE_VERSIONS:
        known = " or ".join(map(str, READABLE_VERSIONS))
        raise RunError(f"it is not of format {known}, which is what this version of d2lrnn reads")
    return document


def _known(names: Iterator[str], known: Collection[str], where: str) -> Iterator[str]:
    for name in names:
        if name not in known:
            raise RunError(f"{where} has {name[:60]!r}, which is unknown")
        yield name


def _read_tokens(reader: JSONReader, model: Any, model_bytes: int) -> list[Any]:
    """As many tokens as the model has, which comes before them in the file."""
    spec = _read_model(model)
    size = np.dtype(spec.dtype).itemsize * sum(map(math.prod, parameter_shapes(spec).values()))
    if size > model_bytes:
        raise RunError(f"the model has parameters of {size:,} bytes: their file has {model_bytes:,}")
    tokens: list[Any] = []
    for token in reader.elements():
        tokens.append(token)
        if len(tokens) > spec.vocab_size:
            raise RunError(f"the vocabulary has more tokens than the model, {spec.vocab_size:,}")
    return tokens


def _read_epochs(reader: JSONReader) -> tuple[EpochRecord, ...]:
    return tuple(_read_record(record, number) for number, record in enumerate(reader.elements(), start=1))


def read_run(document: dict[str, Any]) -> Run:
    """The run that a parsed ``run.json`` describes, without its arrays: no parameters, no carried state.

    Raises:
        RunError: a field is missing, unknown, or has a value that cannot be.
    """
    document = dict(document)
    version = document.pop("format")
    if version == 1:
        document = _from_format_1(document)
    check_names(document, list(_FIELDS), "it")
    values = {name: check_type(hint, document[name], name) for name, hint in _FIELDS.items() if hint}
    model = _read_model(document["model"])
    vocab = None if document["vocabulary"] is None else Vocab.from_json(document["vocabulary"])
    if vocab is not None and len(vocab) != model.vocab_size:
        raise RunError(f"the vocabulary has {len(vocab):,} tokens, the model {model.vocab_size:,}")
    data, training = document["data"], document["training"]
    versions = check_type(dict, document["versions"], "versions")
    for package, number in versions.items():
        check_type(str, number, f"the version of {package!r}")
    return Run(
        model=model,
        parameters={},
        vocab=vocab,
        data=None if data is None else decode(DataSpec, data, "the data"),
        training=None if training is None else decode(TrainingSpec, training, "the training"),
        position=_read_position(document["position"]),
        versions=versions,
        **values,
    )


def _read_model(data: Any) -> ModelSpec:
    model = decode(ModelSpec, data, "the model")
    if model.num_layers > _MAX_LAYERS:
        raise RunError(f"the model has {model.num_layers:,} layers: at most {_MAX_LAYERS:,} can be")
    return model


def has_state(document: dict[str, Any]) -> bool:
    """Whether a document that `read_run` has read says that there is a carried state."""
    part = document["position"]["part"] if document["format"] > 1 else None
    return part is not None and bool(part["state"])


def digest_in(document: dict[str, Any]) -> str | None:
    """The digest of the model that format 1 has in the document itself."""
    if document["format"] > 1:
        return None
    check_names(check_type(dict, document["digests"], "digests"), ["model.safetensors"], "digests")
    return str(document["digests"]["model.safetensors"])


#: The fields of format 2, and the type of those that are plain values.
_FIELDS: dict[str, Any] = {
    "identity": str,
    "model": None,
    "training": None,
    "data": None,
    "text_digest": str | None,
    "vocabulary": None,
    "num_epochs": int,
    "position": None,
    "backend": str,
    "versions": None,
}
_POSITION = ["step", "epochs", "part"]
#: The fields of format 1.
_FIELDS_1 = ["model", "training", "data", "vocabulary", "step", "history", "backend", "versions", "digests"]


def _read_position(data: Any) -> Position:
    check_type(dict, data, "position")
    check_names(data, _POSITION, "position")
    step = check_type(int, data["step"], "step")
    part = None if data["part"] is None else _read_part(data["part"])
    if step < 0:
        raise RunError(f"step is {step}: it must be at least 0")
    return Position(step, data["epochs"], part)


def _read_record(data: Any, number: int) -> EpochRecord:
    where = f"the record of epoch {number}"
    check_type(dict, data, where)
    # A perplexity that overflowed is infinite, for which JSON has no number.
    overflowed = [name for name in ("train_perplexity", "val_perplexity") if data.get(name, 0) is None]
    record = decode(EpochRecord, {**data, **dict.fromkeys(overflowed, 0.0)}, where)
    for name in overflowed:
        object.__setattr__(record, name, math.inf)
    if record.epoch != number:
        raise RunError(f"{where} says that it is of epoch {record.epoch}")
    return record


def _read_part(data: Any) -> EpochPart:
    check_type(dict, data, "part")
    names = ["num_batches", "nats", "num_tokens", "seconds"]
    check_names(data, [*names, "state"], "part")
    check_type(bool, data["state"], "state of part")
    part = EpochPart(
        check_type(int, data["num_batches"], "num_batches"),
        check_type(float, data["nats"], "nats"),
        check_type(int, data["num_tokens"], "num_tokens"),
        check_type(float, data["seconds"], "seconds"),
    )
    if part.num_batches < 1 or part.num_tokens < 1 or part.seconds < 0:
        raise RunError(f"part is {part}, which cannot be")
    return part


def _from_format_1(document: dict[str, Any]) -> dict[str, Any]:
    check_names(document, _FIELDS_1, "it")
    epochs = document["history"]
    return {
        "identity": new_identity(),
        **{name: document[name] for name in ("model", "training", "data", "vocabulary")},
        "text_digest": None,
        "num_epochs": len(epochs),
        "position": {"step": document["step"], "epochs": epochs, "part": None},
        **{name: document[name] for name in ("backend", "versions")},
    }
