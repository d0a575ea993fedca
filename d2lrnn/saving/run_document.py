"""The description of a saved run as JSON: everything but the arrays.

Format 3 of ``run.json``, an object with exactly these fields:

===================  =========================================================================================
``format``           3
``identity``         the same for all checkpoints of one run
``model``            `ModelSpec`
``training``         `TrainingSpec`, or null where a model was saved alone; its optimiser and its schedule are
                     objects with their ``name``
``data``             `DataSpec`, which says what a token is and carries the seed of the order; or null
``text_digest``      SHA-256 of the corpus's tokens, in the smallest type that holds them; or null
``text_size``        the bytes of the text's files, or null
``vocabulary``       the tokens in order, or null
``unit``             what a token of the vocabulary is, ``"char"``, ``"word"``, ``"byte"`` or ``"bpe"``; or
                     null. Of the last two, the vocabulary is the tokenizer (`d2lrnn.data.byte_level`)
``lower``            whether the text was turned to lower case
``prompt``           the beginning of the text, which generating text continues; or null
``num_epochs``       how many epochs were asked for
``early_stopping``   `Patience`, or null
``position``         ``step``; ``epochs``, one `EpochRecord` each; ``part``, the epoch under way, or null: its
                     ``num_batches``, ``nats``, ``num_tokens``, ``seconds``, ``norms``, `GradientNorms`, and
                     ``state``, whether ``state.safetensors`` has the hidden state after them
``optimizer_state``  whether ``optimizer.safetensors`` has what the optimiser remembers
``changes``          where the run went on otherwise than before: objects with ``step`` and the `TrainingSpec`
                     ``before``
``backend``          the backend that trained last
``versions``         what it computed with, by package
===================  =========================================================================================

The order of the batches and the dropout masks follow from the seeds and the position alone
(`d2lrnn.data.batches`, `d2lrnn.contract.dropout`).

``model`` comes before ``vocabulary``, whose length it says. ``text_size``, ``unit``, ``lower``, ``prompt``
and ``early_stopping`` may be missing, and so may ``vocab_size`` of the data, ``norms`` of a part, and of an
epoch what `EpochRecord` has behind ``num_steps``. No token, record or other value takes more than
`d2lrnn.saving.json_reader.LONGEST_VALUE` bytes.

Format 2 had no optimiser but SGD, no embedding, and no changes. Format 1 had ``step`` and ``history`` in
place of ``position``, digests inside, and no identity. Both are read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, asdict, fields, replace
from typing import Any

from d2lrnn.contract.cells import cell_names
from d2lrnn.contract.optimizers import OPTIMIZERS, SGD
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.byte_level import read_vocab
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.vocabulary import Unit
from d2lrnn.errors import MissingCellError, RunError
from d2lrnn.saving.json_fields import check_names, check_type, decode
from d2lrnn.saving.json_reader import JSONReader
from d2lrnn.saving.run import Change, Run
from d2lrnn.training.gradient_norms import GradientNorms
from d2lrnn.training.history import EpochPart, EpochRecord, Position
from d2lrnn.training.model_size import parameter_bytes
from d2lrnn.training.patience import Patience
from d2lrnn.training.schedules import SCHEDULES

#: The version of ``run.json`` and of the folder around it (`d2lrnn.saving.run_folder`) that is written.
FORMAT_VERSION = 3
#: The versions that are read.
READABLE_VERSIONS = (1, 2, 3)

#: No model has more layers; a file that says so is damaged.
_MAX_LAYERS = 1024


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
        "text_size": run.text_size,
        "vocabulary": run.vocab.to_json() if run.vocab else None,
        "unit": run.vocab.unit if run.vocab else None,
        "lower": bool(run.vocab and run.vocab.lower),
        "prompt": run.prompt,
        "num_epochs": run.num_epochs,
        "early_stopping": asdict(run.early_stopping) if run.early_stopping else None,
        "position": {
            "step": run.position.step,
            "epochs": run.history,
            "part": _describe_part(part) if part else None,
        },
        "optimizer_state": bool(run.optimizer_state),
        "changes": [{"step": each.step, "before": each.before.to_json()} for each in run.changes],
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
        elif name == "changes":
            document[name] = tuple(_read_change(change) for change in reader.elements())
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
    size = parameter_bytes(spec)
    if size > model_bytes:
        raise RunError(f"the model has parameters of {size:,} bytes: their file has {model_bytes:,}")
    tokens: list[Any] = []
    for token in reader.elements():
        tokens.append(token)
        if len(tokens) > spec.vocab_size:
            raise RunError(f"the vocabulary has more tokens than the model, {spec.vocab_size:,}")
    return tokens


def _read_epochs(reader: JSONReader) -> tuple[EpochRecord, ...]:
    return tuple(read_record(record, number) for number, record in enumerate(reader.elements(), start=1))


def read_run(document: dict[str, Any]) -> Run:
    """The run that a parsed ``run.json`` describes, without its arrays: no parameters, no carried state.

    Raises:
        RunError: a field is missing, unknown, or has a value of another kind.
    """
    document = dict(document)
    version = document.pop("format")
    if version == 1:
        document = _from_format_1(document)
    if version < 3:
        document |= {"optimizer_state": False, "changes": ()}
    document = {**_MAY_BE_MISSING, **document}
    check_names(document, list(_FIELDS), "it")
    values = {name: check_type(hint, document[name], name) for name, hint in _FIELDS.items() if hint}
    model = _read_model(document["model"])
    data, training = document["data"], document["training"]
    spec = None if data is None else _read_data(data)
    patience = document["early_stopping"]
    unit, lower = values.pop("unit"), values.pop("lower")
    if spec is not None:
        unit, lower = spec.unit, spec.is_normalized
    vocab = None if document["vocabulary"] is None else read_vocab(document["vocabulary"], unit)
    if vocab is not None and len(vocab) != model.vocab_size:
        raise RunError(f"the vocabulary has {len(vocab):,} tokens, the model {model.vocab_size:,}")
    if vocab is not None:
        vocab.unit, vocab.lower = unit, lower
    if check_type(bool, document["optimizer_state"], "optimizer_state") and training is None:
        raise RunError("it has the state of an optimizer, and no training")
    versions = check_type(dict, document["versions"], "versions")
    for package, number in versions.items():
        check_type(str, number, f"the version of {package!r}")
    return Run(
        model=model,
        parameters={},
        vocab=vocab,
        data=spec,
        training=None if training is None else read_training(training, "the training"),
        position=_read_position(document["position"]),
        versions=versions,
        changes=document["changes"],
        early_stopping=None if patience is None else decode(Patience, patience, "early_stopping"),
        **values,
    )


def _read_model(data: Any) -> ModelSpec:
    if isinstance(data, dict) and not any(name in data for name in _SINCE_FORMAT_3):
        data = {**data, **_SINCE_FORMAT_3}
    cell = data.get("cell") if isinstance(data, dict) else None
    if isinstance(cell, str) and cell not in cell_names():
        raise MissingCellError(f"the cell {cell[:60]!r}")
    model = decode(ModelSpec, data, "the model")
    if model.num_layers > _MAX_LAYERS:
        raise RunError(f"the model has {model.num_layers:,} layers: at most {_MAX_LAYERS:,} are read")
    return model


def _read_data(data: Any) -> DataSpec:
    if isinstance(data, dict) and not any(name in data for name in _DATA_SINCE_FORMAT_3):
        data = {**data, **_DATA_SINCE_FORMAT_3}
    if isinstance(data, dict):
        data = {"vocab_size": None, **data}
    return decode(DataSpec, data, "the data")


def read_training(data: Any, where: str) -> TrainingSpec:
    """How a model is trained; a RunError says what is wrong with `data`."""
    check_type(dict, data, where)
    if not any(name in data for name in ("optimizer", "schedule", "accumulate")):  # before format 3
        data = {**data, "optimizer": SGD().to_json(), "schedule": None, "accumulate": 1}
    optimizer = _read_named(OPTIMIZERS, data.get("optimizer"), f"the optimizer of {where}")
    schedule = data.get("schedule")
    if schedule is not None:
        schedule = _read_named(SCHEDULES, schedule, f"the schedule of {where}")
    return decode(TrainingSpec, data, where, known={"optimizer": optimizer, "schedule": schedule})


def _read_named(kinds: Mapping[str, type[Any]], data: Any, where: str) -> Any:
    """A value of one of several classes, which its name says."""
    check_type(dict, data, where)
    values = dict(data)
    name = values.pop("name", None)
    if not isinstance(name, str) or name not in kinds:
        raise RunError(f"{where} must have a name, one of {', '.join(kinds)}")
    return decode(kinds[name], values, where)


def _read_change(data: Any) -> Change:
    check_type(dict, data, "a change")
    check_names(data, ["step", "before"], "a change")
    return Change(
        check_type(int, data["step"], "the step of a change"), read_training(data["before"], "a change")
    )


def has_optimizer_state(document: dict[str, Any]) -> bool:
    """Whether a document that `read_run` has read says that the optimiser remembers something."""
    return document["format"] > 2 and bool(document["optimizer_state"])


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


#: The fields, and the type of those that are plain values.
_FIELDS: dict[str, Any] = {
    "identity": str,
    "model": None,
    "training": None,
    "data": None,
    "text_digest": str | None,
    "text_size": int | None,
    "vocabulary": None,
    "unit": Unit | None,
    "lower": bool,
    "prompt": str | None,
    "num_epochs": int,
    "early_stopping": None,
    "position": None,
    "optimizer_state": None,
    "changes": None,
    "backend": str,
    "versions": None,
}
#: The fields that came later, as runs without them were.
_MAY_BE_MISSING: dict[str, Any] = {
    "prompt": None, "text_size": None, "unit": None, "lower": False, "early_stopping": None,
}  # fmt: skip
#: What the data have had since format 3, as data before it were.
_DATA_SINCE_FORMAT_3: dict[str, Any] = {"encoding": DataSpec.encoding, "min_freq": DataSpec.min_freq}
#: The same of a model.
_SINCE_FORMAT_3: dict[str, Any] = {
    "embedding_size": None,
    "tied": False,
    "input_dropout": 0.0,
    "output_dropout": 0.0,
}
#: The same of an epoch's record.
_RECORD_SINCE_FORMAT_3: dict[str, Any] = {
    field.name: field.default for field in fields(EpochRecord) if field.default is not MISSING
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


def read_record(data: Any, number: int) -> EpochRecord:
    """The record of an epoch; a RunError says what is wrong with `data`."""
    where = f"the record of epoch {number}"
    check_type(dict, data, where)
    # A perplexity that overflowed is infinite, for which JSON has no number.
    overflowed = [name for name in ("train_perplexity", "val_perplexity") if data.get(name, 0) is None]
    data = {**_RECORD_SINCE_FORMAT_3, **data, **dict.fromkeys(overflowed, 0.0)}
    record = decode(EpochRecord, data, where)
    for name in overflowed:
        object.__setattr__(record, name, math.inf)
    if record.epoch != number:
        raise RunError(f"{where} says that it is of epoch {record.epoch}")
    return record


def _read_part(data: Any) -> EpochPart:
    check_type(dict, data, "part")
    data = {"norms": asdict(GradientNorms()), **data}
    names = ["num_batches", "nats", "num_tokens", "seconds", "norms"]
    check_names(data, [*names, "state"], "part")
    check_type(bool, data["state"], "state of part")
    part = EpochPart(
        check_type(int, data["num_batches"], "num_batches"),
        check_type(float, data["nats"], "nats"),
        check_type(int, data["num_tokens"], "num_tokens"),
        check_type(float, data["seconds"], "seconds"),
        norms=decode(GradientNorms, data["norms"], "norms of part"),
    )
    if part.num_batches < 1 or part.num_tokens < 1 or part.seconds < 0:
        raise RunError("part has no batch, no token or a time below 0")
    return part


def _identity_of(document: dict[str, Any]) -> str:
    """What a run of format 1, which has no identity, is known by: the same for all its checkpoints."""
    described = json.dumps([document[name] for name in ("model", "training", "data")], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _from_format_1(document: dict[str, Any]) -> dict[str, Any]:
    check_names(document, _FIELDS_1, "it")
    epochs = document["history"]
    return {
        "identity": _identity_of(document),
        **{name: document[name] for name in ("model", "training", "data", "vocabulary")},
        "text_digest": None,
        "num_epochs": len(epochs),
        "position": {"step": document["step"], "epochs": epochs, "part": None},
        **{name: document[name] for name in ("backend", "versions")},
    }
