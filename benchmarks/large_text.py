"""Texts that do not fit into memory: how fast they are encoded, and what memory encoding and training take.

    python benchmarks/large_text.py [--megabytes 200,1000,4000] [--out benchmarks/results/large_text.json]

A text of random words is written, encoded, and trained on in steps whose windows lie anywhere in it. Each of
these runs in a process of its own. Text and encoded file need twice the size of the largest text on disk, in
``TMPDIR``, and are removed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.benchmark import memory
from d2lrnn.cli.main import main as d2lrnn
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.batches import SlidingWindows, shares_of_whole_text
from d2lrnn.data.corpus import load_corpus
from d2lrnn.registry import backend
from d2lrnn.saving.run import text_digest
from d2lrnn.training.initialization import initial_parameters
from d2lrnn.training.metrics import unigram_perplexity

RESULTS = Path(__file__).resolve().parent / "results"

NUM_STEPS, BATCH_SIZE, TRAINING_STEPS, NUM_READ = 32, 1024, 20, 100
#: Up to so many megabytes the text is also trained on in memory, to compare batches and losses.
LOADED_UP_TO = 200
#: Words are encoded up to this size.
WORDS_UP_TO = 200


def write_text(path: Path, megabytes: int) -> None:
    """Random words of one to nine letters, one in fifty not ASCII, in pieces that come in any order."""
    random = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(random.choice(letters, random.integers(1, 10))) for _ in range(20_000)]
    words[::50] = [word[:-1] + "é" for word in words[::50]]
    # Common words are far more frequent than rare ones, as in a language.
    weights = 1 / np.arange(10, 10 + len(words))
    drawn = random.choice(np.array(words, dtype=object), (32, 150_000), p=weights / weights.sum())
    pieces = [(" ".join(row) + ".\n").encode() for row in drawn]
    left = megabytes * 1_000_000
    with open(path, "wb") as file:
        while left > 0:
            left -= file.write(pieces[random.integers(len(pieces))])


def encode(text: str, file: str, unit: str) -> dict[str, Any]:
    """``d2lrnn encode`` in this process."""
    started, worked = time.perf_counter(), time.process_time()
    code = d2lrnn(["encode", text, "--tokens", unit, "--out", file])
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    if code:
        sys.exit(code)
    megabytes = os.path.getsize(text) / 1e6
    return {
        "megabytes": megabytes,
        "file_megabytes": os.path.getsize(file) / 1e6,
        "seconds": seconds,
        "processor_seconds": processor,
        "peak_megabytes": memory.peak_megabytes(),
    }


def train(path: str, unit: str) -> dict[str, Any]:
    """Some steps on windows anywhere in the text, and what comes before them in ``d2lrnn train``."""
    base = memory.current_megabytes()
    started = time.perf_counter()
    corpus = load_corpus(path, unit="char" if unit == "char" else "word")
    digest, yardstick = text_digest(corpus), unigram_perplexity(corpus.frequencies())
    num_train, num_val = shares_of_whole_text(len(corpus), NUM_STEPS)
    sizes = {"batch_size": BATCH_SIZE, "num_steps": NUM_STEPS}
    data = SlidingWindows(corpus, num_train=num_train, num_val=num_val, **sizes)
    ready = time.perf_counter() - started
    started, worked = time.perf_counter(), time.process_time()
    content = hashlib.sha256()
    for batch in islice(data.train_batches(1), NUM_READ):
        content.update(batch.inputs.tobytes())
    read, processor = time.perf_counter() - started, time.process_time() - worked
    for batch in islice(data.validation_batches(), NUM_READ):
        content.update(batch.inputs.tobytes())
    return {
        "tokens": len(corpus),
        "symbols": len(corpus.vocab),
        "text_digest": digest,
        "unigram_perplexity": yardstick,
        "base_megabytes": base,
        "ready_seconds": ready,
        "milliseconds_a_batch": 1000 * read / NUM_READ,
        "processor_milliseconds_a_batch": 1000 * processor / NUM_READ,
        "batches_sha256": content.hexdigest(),
        # The logits over all words would be what takes the memory.
        "losses": losses(data, len(corpus.vocab)) if unit == "char" else [],
        "peak_megabytes": memory.peak_megabytes(),
    }


def losses(data: SlidingWindows, vocab_size: int) -> list[float]:
    """Those of the first training steps."""
    numpy = backend("numpy")
    spec = ModelSpec(vocab_size, num_hiddens=32)
    learner = numpy.learner(numpy.build(spec, initial_parameters(spec)), TrainingSpec())
    state = learner.initial_state(BATCH_SIZE)
    batches = islice(data.train_batches(1), TRAINING_STEPS)
    return [float(learner.train_step(batch, state)[0].loss) for batch in batches]


def in_process(*words: str) -> dict[str, Any]:
    """One of the functions above in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--do", *words], check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(sizes: list[int]) -> list[dict[str, Any]]:
    """All sizes, characters and words."""
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in sizes:
            text, file = Path(folder, "text.txt"), Path(folder, "text.enc")
            write_text(text, megabytes)
            for unit in ("char", "word") if megabytes <= WORDS_UP_TO else ("char",):
                found: dict[str, Any] = {"unit": unit, "megabytes": megabytes, "load": os.getloadavg()[0]}
                found["encode"] = in_process("encode", str(text), str(file), unit)
                found["train"] = in_process("train", str(file), unit)
                if megabytes <= LOADED_UP_TO:
                    loaded = found["loaded"] = in_process("train", str(text), unit)
                    found["same"] = all(
                        loaded[name] == found["train"][name]
                        for name in (
                            "tokens",
                            "text_digest",
                            "losses",
                            "batches_sha256",
                            "unigram_perplexity",
                        )
                    )
                file.unlink()
                measured.append(found)
                print(json.dumps(found), file=sys.stderr)
    return measured


def report(measured: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    lines = [
        "# Texts that do not fit into memory",
        "",
        "`python benchmarks/large_text.py`: random words, encoded by `d2lrnn encode`, then",
        f"{TRAINING_STEPS} training steps of the default RNN on the NumPy backend (of words none: the logits",
        f"would be the memory), in batches of {BATCH_SIZE:,} windows of {NUM_STEPS} steps from anywhere in",
        "the text. Memory is the largest resident size of the process, with Python, NumPy and the library",
        "in it. *In memory* is the same training on the text itself, and *same* whether digest, batches and",
        "losses are equal to the last bit. Speeds are by processor time; the load average shows what else",
        "the machine was doing. Rows that the system does not have in its page cache are random reads of the",
        "disk: so it is with 4 GB, in part.",
        "",
        " ".join(
            [
                "| text | tokens | encoded at | peak, encoding | peak, training | in memory | batch read in",
                "| in memory | same | load |",
            ]
        ),
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    for found in measured:
        encoded, trained, loaded = found["encode"], found["train"], found.get("loaded")
        row = [
            f"{found['megabytes']:,} MB, {'characters' if found['unit'] == 'char' else 'words'}",
            f"{trained['tokens']:,}",
            f"{encoded['megabytes'] / encoded['processor_seconds']:.0f} MB/s",
            f"{encoded['peak_megabytes']:,.1f} MB",
            f"{trained['peak_megabytes']:,.1f} MB",
            f"{loaded['peak_megabytes']:,.1f} MB" if loaded else "–",
            f"{trained['processor_milliseconds_a_batch']:.1f} ms",
            f"{loaded['processor_milliseconds_a_batch']:.1f} ms" if loaded else "–",
            ("yes" if found["same"] else "NO") if loaded else "–",
            f"{found['load']:.0f}",
        ]
        lines.append(f"| {' | '.join(row)} |")
    characters = [found for found in measured if found["unit"] == "char"]
    for what, title in (("encode", "Encoding"), ("train", "Training")):
        peaks = [found[what]["peak_megabytes"] for found in characters]
        sizes = f"{characters[0]['megabytes']:,} to {characters[-1]['megabytes']:,} MB of characters"
        lines.append(f"\n{title}: from {sizes} the peaks differ by {max(peaks) - min(peaks):.1f} MB.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, and writes the files."""
    parser = argparse.ArgumentParser(description="Texts that do not fit into memory.")
    parser.add_argument("--megabytes", default="200,1000,4000")
    parser.add_argument("--out", default=str(RESULTS / "large_text.json"))
    parser.add_argument("--do", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.do:
        what, *words = arguments.do
        print("\n" + json.dumps({"encode": encode, "train": train}[what](*words)))
        return
    measured = measure([int(size) for size in arguments.megabytes.split(",")])
    out = Path(arguments.out)
    out.write_text(json.dumps(measured, indent=1) + "\n")
    out.with_suffix(".md").write_text(report(measured))
    print(report(measured))


if __name__ == "__main__":
    main()
