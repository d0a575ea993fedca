"""The book's own packages: the cells that it saved there, classes and functions, as a chapter on this tab.

A package is the code of its edition's chapters. Only its source is read, from the folders ``current`` and
``first`` in D2LRNN_BOOK_PACKAGES; what the cells need of ``d2l`` is d2lrnn's. The cells that train them are
this project's.
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

SAVED = {
    "current": "TimeMachine Vocab RNNScratch RNNLMScratch RNN RNNLM GRU",
    "first": "read_time_machine tokenize Vocab count_corpus load_corpus_time_machine seq_data_iter_random "
    "seq_data_iter_sequential SeqDataLoader load_data_time_machine RNNModelScratch RNNModel predict_ch8 "
    "grad_clipping train_epoch_ch8 train_ch8",
}

IMPORTS = {
    "pytorch": "import torch\nfrom torch import nn\nfrom torch.nn import functional as F",
    "tensorflow": "import tensorflow as tf",
    "jax": "import jax\nfrom jax import numpy as jnp\nfrom flax import linen as nn",
    "mxnet": "from mxnet import autograd, gluon, np, npx\nfrom mxnet.gluon import nn, rnn\nnpx.set_np()",
}

#: What the constructors and `predict` of the current edition take on this tab.
NUM_INPUTS = "len(data.vocab), " if TAB == "pytorch" else ""
WHERE = {"pytorch": ", d2l.try_gpu()", "mxnet": ", d2l.try_gpu()", "jax": ", trainer.state.params"}.get(
    TAB, ""
)

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


def _saved_cells(edition: str, entry: BackendEntry) -> list[str]:
    """The source of every class and function, with the methods that were added to them."""
    source = (Path(FOLDER or "") / edition / "d2l" / f"{entry.name}.py").read_text(encoding="utf-8")
    names, lines = SAVED[edition].split(), source.splitlines()
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
        if node.name == "TimeMachine" and isinstance(node, ast.ClassDef):
            # As its chapter does, one after the other, to the library's class.
            methods = (ast.unparse(method) for method in node.body if isinstance(method, ast.FunctionDef))
            cells += [f"@d2l.add_to_class(d2l.TimeMachine)\n{method}" for method in methods]
    assert set(names) - found == set()
    return cells


def _own_cells(edition: str) -> list[str]:
    """Cells that train, by the saved names themselves and not by d2lrnn's of the same name."""
    if edition == "current":
        return [TRAINING]
    saved = "|".join(SAVED[edition].split())
    chapters = [Chapter(path) for path in Path(__file__).parent.glob("chapters/first-edition*.md")]
    cells = [cell.code for chapter in chapters if TAB in chapter.tabs for cell in chapter.cells(TAB)]
    return [re.sub(rf"\bd2l\.({saved})\b", r"\1", code) for code in cells]


@pytest.mark.skipif(not FOLDER, reason="D2LRNN_BOOK_PACKAGES names no folder with the book's packages")
@pytest.mark.parametrize("edition", ["current", "first"])
# Keras about the book's layers, which make their weights without a `build`.
@pytest.mark.filterwarnings("ignore:Layer .* looks like it has unbuilt state")
@pytest.mark.filterwarnings("ignore:`build.*` was called on layer")
def test_the_books_own_classes_and_functions_run(edition: str, entry: BackendEntry, tmp_path: Path) -> None:
    if edition == "first" and TAB == "jax":
        pytest.skip("the first edition has no tab for JAX")
    start = f"import collections, math, os, random, re\n{IMPORTS[TAB]}\nfrom d2l import {entry.name} as d2l"
    name = "d2l.DATA_HUB['time_machine'] = (d2l.DATA_URL + 'timemachine.txt', None)"
    cells = [start, name, *_saved_cells(edition, entry), *_own_cells(edition)]
    file = tmp_path / "chapter.md"
    # MXNet's cells, and only they, have no mark.
    mark = "" if TAB == "mxnet" else f"#@tab {TAB}\n"
    file.write_text("".join(f"```{{.python .input}}\n{mark}{code}\n```\n\n" for code in cells), "utf-8")
    library, restored = load_tab(TAB)
    run = run_chapter(Chapter(file), TAB, library, restored=restored, epochs=2)
    assert [result.error for result in run.failed] == []
    assert len(run.results) == len(cells)
