"""``d2lrnn generate``: a saved model continues texts."""

from __future__ import annotations

import sys
from typing import Any

from d2lrnn.cli.commands.generate import TEMPERATURE, GenerateRequest
from d2lrnn.cli.live_text import write_live
from d2lrnn.cli.opened_model import OpenedModel, forbidden, open_model
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.prefix_file import read_prefixes
from d2lrnn.generation import beam_search, stream
from d2lrnn.generation import generate as continue_texts
from d2lrnn.registry import backend

#: The line between two texts, as grep has it between groups of lines.
SEPARATOR = "--"


def generate(request: GenerateRequest) -> int:
    """Prints the texts; returns the exit code."""
    check_writable("--json", request.json)
    prefixes = list(request.prefix)
    if request.prefixes is not None:
        prefixes += read_prefixes(request.prefixes)
    chosen = backend(request.backend)
    opened = open_model(request.run, chosen, request.device)
    prefixes = prefixes or [opened.prompt]
    if request.stream:
        opened.warm_up()
        _tell_epoch(opened)
        pieces = stream(opened.learner, opened.vocab, prefixes[0], request.num_tokens, **_sampling(request))
        texts = [[write_live(pieces)]]
    else:
        texts = _texts(request, opened, prefixes)
        _tell_epoch(opened)
        print(f"\n{SEPARATOR}\n".join(text for of_prefix in texts for text in of_prefix))
    listed = [
        {"text": text, "prefix": prefix, "seed": request.seed + number}
        for prefix, of_prefix in zip(prefixes, texts, strict=True)
        for number, text in enumerate(of_prefix)
    ]
    result: dict[str, Any] = {"texts": listed}
    if len(listed) == 1:
        result = {"text": texts[0][0], "prefix": prefixes[0]}
    write_json(request.json, result | {"backend": chosen.name, "versions": chosen.versions()})
    return 0


def _texts(request: GenerateRequest, opened: OpenedModel, prefixes: list[str]) -> list[list[str]]:
    """The texts of each prefix."""
    learner, vocab, number = opened.learner, opened.vocab, request.num_tokens
    if request.beam is None:
        return continue_texts(learner, vocab, prefixes, number, samples=request.samples, **_sampling(request))
    forbid = forbidden(no_unknown=request.no_unknown)
    found = beam_search(learner, vocab, prefixes, number, beam=request.beam, forbid=forbid)
    return [[text] for text in found]


def _sampling(request: GenerateRequest) -> dict[str, Any]:
    return {
        "temperature": TEMPERATURE if request.temperature is None else request.temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "seed": request.seed,
        "forbid": forbidden(no_unknown=request.no_unknown),
    }


def _tell_epoch(opened: OpenedModel) -> None:
    """Says which epoch it is, beside the text, which is all that standard output gets."""
    if opened.best:
        print(f"d2lrnn: from {opened.best}", file=sys.stderr)
