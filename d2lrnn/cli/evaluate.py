"""``d2lrnn evaluate``: the loss of a saved model, on its validation text or on another one."""

from __future__ import annotations

from dataclasses import replace

from d2lrnn.cli.commands.evaluate import EvaluateRequest
from d2lrnn.cli.output import (
    describe_backend,
    describe_best,
    describe_measure,
    describe_model,
    describe_score,
)
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.resumed_run import with_text
from d2lrnn.contract.devices import choose_device
from d2lrnn.data.batches import DataModule
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import is_encoded
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.errors import RunError, SpecError
from d2lrnn.registry import backend
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import load_run
from d2lrnn.saving.run_text import check_text_may_be_read, check_tokens
from d2lrnn.training.metrics import bits_per_token, perplexity
from d2lrnn.training.trainer import Trainer


def evaluate(request: EvaluateRequest) -> int:
    """Prints perplexity and bits per token, character and byte; returns the exit code."""
    check_writable("--json", request.json)
    run = load_run(request.run, best=True)
    if run.data is None or run.training is None or run.vocab is None:
        raise RunError(
            f"{request.run} holds a model alone, without the text that it was trained on: only a run of "
            "d2lrnn train can be evaluated"
        )
    chosen = backend(request.backend)
    device = choose_device(request.device, chosen.devices())
    corpus, data = _load(request, run, run.data, run.vocab)
    num_unknown = int(corpus.frequencies()[run.vocab.unk]) if run.vocab.has_unknown else 0
    learner = chosen.learner(run.build(chosen), run.training, device=device.name)
    trainer = Trainer(learner, data)
    nats, tokens = trainer.validate()
    print(describe_backend(chosen, device, asked=request.backend))
    unknown = f", {num_unknown:,} of them unknown to the model" if num_unknown else ""
    print(f"text     {corpus.source}: {data.describe()}{unknown}")
    print(f"model    {describe_model(run.model)}, {run.step:,} steps, trained with {run.backend}")
    if which := describe_best(run, request.run):
        print(f"from     {which}")
    print(f"measure  {describe_measure(corpus)}")
    part = "whole text" if request.text else "validation"
    bits, covered = bits_per_token(nats, tokens), trainer.coverage
    assert covered is not None  # the text of a run is one of tokens that are texts
    per_char, per_byte = covered.per_character(bits), covered.per_byte(bits)
    scored = describe_score(
        part, corpus.unit, perplexity(nats, tokens), bits, per_char=per_char, per_byte=per_byte
    )
    print(f"{scored}, {tokens:,} tokens")
    prefix = "" if request.text else "val_"
    write_json(request.json, {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "model": run.model.to_json(),
        "text": corpus.source,
        f"{prefix}perplexity": perplexity(nats, tokens),
        f"{prefix}bits_per_token": bits,
        f"{prefix}bits_per_char": per_char,
        f"{prefix}bits_per_byte": per_byte,
        f"{prefix}tokens": tokens,
        f"{prefix}characters": covered.characters,
        f"{prefix}bytes": covered.bytes,
        "unknown_tokens": num_unknown,
    })  # fmt: skip
    return 0


def _load(request: EvaluateRequest, run: Run, data: DataSpec, vocab: Vocab) -> tuple[Corpus, DataModule]:
    """The text to evaluate on."""
    if not request.text:
        check_text_may_be_read(run, data.source, f"d2lrnn evaluate {request.run} TEXT")
        corpus, batches = data.load(vocab)
        check_tokens(run, corpus)
        return corpus, batches
    other = with_text(data, request.text)
    if request.encoding is not None and is_encoded(other.source):
        raise SpecError(f"--encoding does not fit: {other.source} is encoded already. Leave it out")
    return replace(other, encoding=request.encoding or data.encoding).load_to_evaluate(vocab)
