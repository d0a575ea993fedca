"""``d2lrnn translate run``: a saved translator translates."""

from __future__ import annotations

import sys

from d2lrnn.cli.commands.translate import TranslateRunRequest
from d2lrnn.cli.output_files import check_writable, write_json
from d2lrnn.cli.streams import in_one_line
from d2lrnn.data.sentences import words_of
from d2lrnn.errors import PromptError
from d2lrnn.registry import backend
from d2lrnn.saving.translator_folder import load_translator
from d2lrnn.translation.backends import make_translator
from d2lrnn.translation.trainer import translations


def translate_run(request: TranslateRunRequest) -> int:
    """Prints a line for every sentence; returns the exit code."""
    check_writable("--json", request.json)
    run = load_translator(request.run)
    chosen = backend(request.backend)
    translator = make_translator(chosen, run.spec, run.parameters, run.training, device=request.device)
    sentences = list(request.sentences) or [line.rstrip("\n") for line in sys.stdin]
    words = [words_of(sentence) for sentence in sentences]
    for sentence, its in zip(sentences, words, strict=True):
        if not its:
            raise PromptError("a sentence is empty: there is nothing to translate")
        if unknown := [word for word in its if word not in run.vocabs[0]]:
            shown = in_one_line(", ".join(unknown))
            print(f"d2lrnn: unknown words in {in_one_line(sentence)!r}: {shown}", file=sys.stderr)
        if len(its) > run.pairs.max_tokens:
            print(
                f"d2lrnn: {in_one_line(sentence)!r} is cut after {run.pairs.max_tokens} words and marks",
                file=sys.stderr,
            )
    written = translations(translator, run.vocabs, run.pairs, words, beam=request.beam)
    for line in written:
        print(line)
    write_json(request.json, {
        "backend": chosen.name,
        "versions": chosen.versions(),
        "translations": [
            {"source": source, "translation": line} for source, line in zip(sentences, written, strict=True)
        ],
    })  # fmt: skip
    return 0
