"""``d2lrnn encode``: a text of any size into a file that is trained on without loading it."""

from __future__ import annotations

from typing import Any

from d2lrnn.cli.commands.encode import EncodeRequest
from d2lrnn.cli.new_run import absolute_source
from d2lrnn.cli.output import TOKENS
from d2lrnn.cli.progress import EncodingDisplay, thousands
from d2lrnn.cli.train_options import option_of
from d2lrnn.data.encoded import Header, Origin, check_encoded
from d2lrnn.data.encoder import encode_texts
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import STANDARD_INPUT, describe_source, is_encoded, names_in
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import INTERRUPTED, RunError, SpecError, TextError
from d2lrnn.saving.run_folder import load_run
from d2lrnn.training.metrics import unigram_perplexity


def encode(request: EncodeRequest) -> int:
    """Encodes, or checks what was encoded; returns the exit code."""
    if request.check is not None:
        header = check_encoded(request.check)
        print(f"checked  {request.check}: {_described(header)}, all as they were written")
        return 0
    assert request.out is not None
    source = absolute_source(request.text)
    for name in names_in(source):
        if is_encoded(name):
            raise TextError(f"{name} is encoded already")
    origin, vocab = _origin_of(request, DataSpec(source, **request.data))
    display = EncodingDisplay()
    try:
        header = encode_texts(
            source, request.out, origin, vocab=vocab, overwrite=request.overwrite, progress=display.update
        )
    except KeyboardInterrupt:
        again = "" if STANDARD_INPUT in names_in(source) else ": the same command goes on where it stood"
        print(f"interrupted{again}")
        return INTERRUPTED
    finally:
        display.close()
    print(f"text     {describe_source(source)}: {_described(header)}")
    print(f"measure  by frequency, perplexity {unigram_perplexity(header.counts):,.1f}")
    print(f"saved    {request.out}, {thousands(header.num_bytes / 1e6)} MB; d2lrnn train {request.out}")
    return 0


def _origin_of(request: EncodeRequest, spec: DataSpec) -> tuple[Origin, Vocab | None]:
    """How a text is encoded, and the vocabulary that is given for it."""
    if request.like is None:
        return Origin(spec.unit, spec.is_normalized, spec.encoding, spec.min_freq, spec.vocab_size), None
    run = load_run(request.like)
    if run.data is None or run.vocab is None:
        raise RunError(f"{request.like} holds a model alone, without the text that it was trained on")
    own: dict[str, Any] = {
        "unit": run.data.unit,
        "normalized": run.data.is_normalized,
        "min_freq": run.data.min_freq,
        "vocab_size": run.data.vocab_size,
    }
    for name, value in request.data.items():
        if own.get(name, value) != value:
            flag = option_of("data", name).flag
            raise SpecError(f"{flag} does not fit: {request.like} was trained with {own[name]}. Leave it out")
    origin = Origin(own["unit"], own["normalized"], spec.encoding, own["min_freq"], own["vocab_size"])
    return origin, run.vocab


def _described(header: Header) -> str:
    unit = f"{TOKENS[header.origin.unit]}s"
    normalized = ", normalised" if header.origin.normalized else ""
    return f"{header.num_tokens:,} {unit}{normalized}, {len(header.vocab):,} symbols"
