"""``d2lrnn evaluate``: the validation loss of a saved model."""

from __future__ import annotations

from d2lrnn.cli.output import (
    describe_backend,
    describe_best,
    describe_measure,
    describe_model,
    describe_score,
)
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.requests import EvaluateRequest
from d2lrnn.contract.devices import choose_device
from d2lrnn.errors import RunError
from d2lrnn.registry import backend
from d2lrnn.saving.run_folder import load_run
from d2lrnn.training.metrics import bits_per_token, perplexity
from d2lrnn.training.trainer import Trainer


def evaluate(request: EvaluateRequest) -> int:
    """Prints perplexity and bits per token; returns the exit code."""
    check_writable("--json", request.json)
    run = load_run(request.run, best=True)
    if run.data is None or run.training is None:
        raise RunError(
            f"{request.run} holds a model alone, without the text that it was trained on: only a run of "
            "d2lrnn train can be evaluated"
        )
    chosen = backend(request.backend)
    device = choose_device(request.device, chosen.devices())
    corpus, data = run.data.load(run.vocab)
    learner = chosen.learner(run.build(chosen), run.training, device=device.name)
    nats, tokens = Trainer(learner, data).validate()
    print(describe_backend(chosen, device, asked=request.backend))
    print(f"text     {run.data.source}: {data.describe()}")
    print(f"model    {describe_model(run.model)}, {run.step:,} steps, trained with {run.backend}")
    if which := describe_best(run, request.run):
        print(f"from     {which}")
    print(f"measure  {describe_measure(corpus)}")
    scored = describe_score("validation", corpus.unit, perplexity(nats, tokens), bits_per_token(nats, tokens))
    print(f"{scored}, {tokens:,} tokens")
    write_json(request.json, {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "model": run.model.to_json(),
        "val_perplexity": perplexity(nats, tokens),
        "val_bits_per_token": bits_per_token(nats, tokens),
        "val_tokens": tokens,
    })  # fmt: skip
    return 0
