"""``d2lrnn generate``: a saved model continues a text."""

from __future__ import annotations

import sys

from d2lrnn.cli.output import describe_best
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.prompts import prompt_from
from d2lrnn.cli.requests import GenerateRequest
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.errors import RunError
from d2lrnn.generation import generate as continue_text
from d2lrnn.registry import backend
from d2lrnn.saving.run_folder import load_run


def generate(request: GenerateRequest) -> int:
    """Prints the text; returns the exit code."""
    check_writable("--json", request.json)
    run = load_run(request.run, best=True)
    if run.vocab is None:
        raise RunError(
            f"{request.run} holds a model without a vocabulary, which generating text needs: save the model "
            "with d2lrnn.save(model, folder, vocab=vocab)"
        )
    chosen = backend(request.backend)
    learner = chosen.learner(run.build(chosen), run.training or TrainingSpec(), device=request.device)
    prefix = run.prompt or prompt_from(run.vocab) if request.prefix is None else request.prefix
    text = continue_text(
        learner,
        run.vocab,
        prefix,
        request.num_tokens,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        seed=request.seed,
    )
    if which := describe_best(run, request.run):
        # Beside the text, which is all that standard output gets.
        print(f"d2lrnn: from {which}", file=sys.stderr)
    print(text)
    write_json(request.json, {
        "text": text,
        "prefix": prefix,
        "backend": chosen.name,
        "versions": chosen.versions(),
    })  # fmt: skip
    return 0
