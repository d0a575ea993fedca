"""The cap lowers what a cell gives as a number of epochs, and nothing else."""

from __future__ import annotations

import ast

import pytest

from d2lrnn.chapters.epoch_limit import cap_epochs


@pytest.mark.parametrize(
    ("code", "capped"),
    [
        ("num_epochs = 500", "num_epochs = 2"),
        ("num_epochs, lr = 500, 100", "num_epochs, lr = (2, 100)"),
        ("lr, (a, max_epochs) = 5, (6, 7)", "lr, (a, max_epochs) = (5, (6, 2))"),
        ("a = num_epochs = 500", "a = num_epochs = 2"),
        ("self.max_epochs = 10", "self.max_epochs = 2"),
        ("max_epochs: int = 10", "max_epochs: int = 2"),
        ("d2l.Trainer(max_epochs=100, num_gpus=5)", "d2l.Trainer(max_epochs=2, num_gpus=5)"),
        ("d2l.Trainer(100, 5)", "d2l.Trainer(2, 5)"),
        ("Trainer(100)", "Trainer(2)"),
        ("f(net, num_epochs=9)", "f(net, num_epochs=2)"),
        ("lambda lr=5, num_epochs=9: 7", "lambda lr=5, num_epochs=2: 7"),
        ("lambda *, max_epochs=9, n: 7", "lambda *, max_epochs=2, n: 7"),
        ("num_epochs = 1", "num_epochs = 1"),
        ("num_epochs = n", "num_epochs = n"),
        ("num_epochs = True", "num_epochs = True"),
        ("num_epochs = 5.5", "num_epochs = 5.5"),
        ("*a, num_epochs = 1, 2, 3", "*a, num_epochs = (1, 2, 3)"),
        ("num_hiddens = 256", "num_hiddens = 256"),
        ("Other(100)", "Other(100)"),
        ("Trainer()", "Trainer()"),
    ],
)
def test_cap(code: str, capped: str) -> None:
    tree = ast.parse(code)
    cap_epochs(tree, 2)
    # Not compared as text: Python 3.10 writes more parentheses.
    assert ast.dump(tree) == ast.dump(ast.parse(capped))
