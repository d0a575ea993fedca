"""``d2lrnn generate``: a saved model continues a text."""

from __future__ import annotations

import sys

from d2lrnn.cli.output import describe_best
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.requests import GenerateRequest
from d2lrnn.contract.specs import TrainingSpec
from d2lrnn.data.corpus import Unit
from d2lrnn.data.vocabulary import UNKNOWN
from d2lrnn.errors import RunError
from d2lrnn.generation import generate as continue_text
from d2lrnn.registry import backend
from d2lrnn.saving.run import Run
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
    text = continue_text(
        learner,
        run.vocab,
        request.prefix,
        request.num_tokens,
        unit=_unit(run),
        lower=run.data is not None and run.data.is_normalized,
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
        "prefix": request.prefix,
        "backend": chosen.name,
        "versions": chosen.versions(),
    })  # fmt: skip
    return 0


def _unit(run: Run) -> Unit:
    """What a token is; of a model that was saved alone, the vocabulary shows it."""
    if run.data is not None:
        return run.data.unit
    assert run.vocab is not None
    return "char" if all(len(token) == 1 for token in run.vocab.idx_to_token if token != UNKNOWN) else "word"
