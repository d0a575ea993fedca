"""The book's own packages: the cells that it saved there, classes and functions, as a chapter on this tab.

A package is the code of its edition's chapters. Only its source is read, from the folders ``current`` and
``first`` in D2LRNN_BOOK_PACKAGES; what the cells need of ``d2l`` is d2lrnn's. The cells that train them are
this project's: most are those of its own chapters, with the saved names in place of d2lrnn's.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from d2lrnn.chapters.runner import load_tab, run_chapter
from d2lrnn.chapters.source import TAB_NAMES, Chapter
from d2lrnn.registry import BackendEntry, find_backend

FOLDER = os.environ.get("D2LRNN_BOOK_PACKAGES")
TAB = next(name for name in TAB_NAMES if find_backend(name) == find_backend(os.environ["D2LRNN_BACKEND"]))

#: By edition and subject, what the book saved.
SAVED = {
    ("current", "language models"): "TimeMachine Vocab RNNScratch RNNLMScratch RNN RNNLM GRU",
    ("first", "language models"): "read_time_machine tokenize Vocab count_corpus load_corpus_time_machine "
    "seq_data_iter_random seq_data_iter_sequential SeqDataLoader load_data_time_machine RNNModelScratch "
    "RNNModel predict_ch8 grad_clipping train_epoch_ch8 train_ch8",
    ("current", "translations"): "LinearRegression MTFraEng show_list_len_pair_hist Encoder Decoder "
    "EncoderDecoder Seq2SeqEncoder Seq2Seq bleu show_heatmaps masked_softmax DotProductAttention "
    "AdditiveAttention",
    # Without its `bleu`, which cannot measure a translation that is shorter than its pairs of words.
    ("first", "translations"): "load_array evaluate_loss read_data_nmt preprocess_nmt tokenize_nmt "
    "show_list_len_pair_hist truncate_pad build_array_nmt load_data_nmt Encoder Decoder EncoderDecoder "
    "Seq2SeqEncoder MaskedSoftmaxCELoss train_seq2seq predict_seq2seq show_heatmaps masked_softmax "
    "AdditiveAttention DotProductAttention AttentionDecoder",
    ("first", "reviews"): "load_array read_imdb load_data_imdb TokenEmbedding accuracy train_batch_ch13 "
    "train_ch13 predict_sentiment",
}
#: And what it saved of some tabs.
SAVED_OF_SOME = {
    "pytorch": {
        ("current", "translations"): "AttentionDecoder init_seq2seq",
        ("first", "translations"): "sequence_mask",
        ("first", "reviews"): "evaluate_accuracy_gpu",
    },
    "tensorflow": {
        ("current", "translations"): "AttentionDecoder",
        ("first", "translations"): "sequence_mask",
    },
    "mxnet": {
        ("current", "translations"): "AttentionDecoder",
        ("first", "reviews"): "evaluate_accuracy_gpus split_batch",
    },
}

#: This project's chapters on each subject, by the beginning of their names.
CHAPTERS = {
    "language models": ("first-edition",),
    "translations": ("sequence", "seq2seq", "translation"),
    "reviews": ("sentiment",),
}

IMPORTS = {
    "pytorch": "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
    "from torch.utils import data",
    "tensorflow": "import tensorflow as tf",
    "jax": "import jax\nimport optax\nfrom functools import partial\nfrom jax import numpy as jnp\n"
    "from flax import linen as nn",
    "mxnet": "from mxnet import autograd, gluon, init, np, npx\nfrom mxnet.gluon import nn, rnn\n"
    "npx.set_np()",
}

#: What the constructors and `predict` of the current edition take on this tab.
NUM_INPUTS = "len(data.vocab), " if TAB == "pytorch" else ""
WHERE = {"pytorch": ", d2l.try_gpu()", "mxnet": ", d2l.try_gpu()", "jax": ", trainer.state.params"}.get(
    TAB, ""
)

#: The pairs that are here have another checksum than the one in the book's method.
OWN_PAIRS = "@d2l.add_to_class(MTFraEng)\ndef _download(self):\n    return d2l.read_data_nmt()"

TRAINING = f"""
data = d2l.TimeMachine(batch_size=512, num_steps=16, num_train=2048, num_val=512)
layers = {{'RNNScratch': lambda: RNNScratch(len(data.vocab), 16), 'GRU': lambda: GRU({NUM_INPUTS}16, 2)}}
{"" if TAB == "jax" else f"layers['RNN'] = lambda: RNN({NUM_INPUTS}16)"}
for name, layer in layers.items():
    head = RNNLMScratch if name.endswith('Scratch') else RNNLM
    model = head(layer(), vocab_size=len(data.vocab), lr=1)
    trainer = d2l.Trainer(max_epochs=2, gradient_clip_val=1)
    trainer.fit(model, data)
    assert len(model.predict('it has', 10, data.vocab{WHERE})) == 16
"""


def _names(edition: str, subject: str) -> list[str]:
    of_some = SAVED_OF_SOME.get(TAB, {}).get((edition, subject), "")
    return f"{SAVED[edition, subject]} {of_some}".split()


def _saved_cells(edition: str, names: list[str], entry: BackendEntry) -> list[str]:
    """The source of every class and function, with the methods that were added to them."""
    source = (Path(FOLDER or "") / edition / "d2l" / f"{entry.name}.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    cells, found = [], set()
    for node in ast.parse(source).body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            continue
        owners = [ast.unparse(call.args[0]).removeprefix("d2l.")
                  for call in node.decorator_list if isinstance(call, ast.Call) and call.args]  # fmt: skip
        if node.name in names or set(owners) & set(names):
            found.add(node.name)
            first = min([node.lineno, *(call.lineno for call in node.decorator_list)])
            cells.append("\n".join(lines[first - 1 : node.end_lineno]))
        if node.name == "TimeMachine" and node.name in names and isinstance(node, ast.ClassDef):
            # As its chapter does, one after the other, to the library's class.
            methods = (ast.unparse(method) for method in node.body if isinstance(method, ast.FunctionDef))
            cells += [f"@d2l.add_to_class(d2l.TimeMachine)\n{method}" for method in methods]
    assert set(names) - found == set()
    return cells


def _own_cells(edition: str, subject: str, names: list[str]) -> list[str]:
    """Cells that train, by the saved names themselves and not by d2lrnn's of the same name."""
    if (edition, subject) == ("current", "language models"):
        return [TRAINING]
    files = (Path(__file__).parent / "chapters").glob("*.md")
    chapters = [Chapter(path) for path in sorted(files) if path.name.startswith(CHAPTERS[subject])]
    cells = [
        cell.code
        for chapter in chapters
        if TAB in chapter.tabs and chapter.of_first_edition == (edition == "first")
        for cell in chapter.cells(TAB)
    ]
    assert cells
    code = [re.sub(rf"\bd2l\.({'|'.join(names)})\b", r"\1", cell) for cell in cells]
    return [OWN_PAIRS, *code] if "MTFraEng" in names else code


@pytest.mark.skipif(not FOLDER, reason="D2LRNN_BOOK_PACKAGES names no folder with the book's packages")
@pytest.mark.parametrize(("edition", "subject"), SAVED)
@pytest.mark.usefixtures("small_data")
# Keras about the book's layers, which make their weights without a `build`.
@pytest.mark.filterwarnings("ignore:Layer .* looks like it has unbuilt state")
@pytest.mark.filterwarnings("ignore:`build.*` was called on layer")
# Gluon about layers of the library, which have values, inside the book's own blocks.
@pytest.mark.filterwarnings("ignore:Parameter .* is already initialized")
def test_the_books_own_classes_and_functions_run(
    edition: str, subject: str, entry: BackendEntry, tmp_path: Path
) -> None:
    if edition == "first" and TAB == "jax":
        pytest.skip("the first edition has no tab for JAX")
    if subject == "reviews" and TAB == "tensorflow":
        pytest.skip("the book has no reviews on TensorFlow")
    names = _names(edition, subject)
    start = f"import collections, math, os, random, re\n{IMPORTS[TAB]}\nfrom d2l import {entry.name} as d2l"
    name = "d2l.DATA_HUB['time_machine'] = (d2l.DATA_URL + 'timemachine.txt', None)"
    cells = [start, name, *_saved_cells(edition, names, entry), *_own_cells(edition, subject, names)]
    file = tmp_path / "chapter.md"
    # Of the first edition's cells those of MXNet, and only they, have no mark.
    of_first = "" if TAB == "mxnet" else f"#@tab {TAB}\n"
    mark = of_first if edition == "first" else f"%%tab {TAB}\n"
    file.write_text("".join(f"```{{.python .input}}\n{mark}{code}\n```\n\n" for code in cells), "utf-8")
    library, restored = load_tab(TAB)
    run = run_chapter(Chapter(file), TAB, library, restored=restored, epochs=2)
    assert [result.error for result in run.failed] == []
    assert len(run.results) == len(cells)
