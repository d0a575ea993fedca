"""Pairs of sentences, and how translations are scored."""

from __future__ import annotations

import pytest

from d2lrnn.book.translation import preprocess_nmt, tokenize_nmt, truncate_pad
from d2lrnn.translation.bleu import bleu


def test_marks_stand_alone_and_spaces_are_ordinary() -> None:
    assert preprocess_nmt("Go.\tVa !\nWho?!\tQui\u202f?\n.x") == "go .\tva !\nwho ? !\tqui ?\n .x"
    assert preprocess_nmt("...") == ". . ."
    assert preprocess_nmt(" .") == " ."


def test_lines_that_are_no_pairs_are_left_out() -> None:
    text = "a b\tc\nno pair\nd\te\tf\ng\th i\nj\tk"
    assert tokenize_nmt(text) == ([["a", "b"], ["g"], ["j"]], [["c"], ["h", "i"], ["k"]])
    assert tokenize_nmt(text, 3) == ([["a", "b"], ["g"]], [["c"], ["h", "i"]])


def test_a_line_is_cut_or_filled_up() -> None:
    assert [truncate_pad(line, 2, 0) for line in ([], [1], [1, 2, 3])] == [[0, 0], [1, 0], [1, 2]]


@pytest.mark.parametrize(
    ("predicted", "right", "k", "score"),
    [
        ("a b c", "a b c", 2, 1.0),
        ("d e f", "a b c", 2, 0.0),
        # Three of four words and two of three pairs.
        ("a b c x", "a b c d", 2, (3 / 4) ** 0.5 * (2 / 3) ** 0.25),
        # A word that the label has once counts once.
        ("a a a", "a b c", 1, (1 / 3) ** 0.5),
        # What is shorter than the label is less likely to be wrong, and pays for it.
        ("a b", "a b c d", 2, 0.36787944117144233),
        ("a b c d", "a b", 1, (2 / 4) ** 0.5),
        ("a", "a b", 4, 0.36787944117144233),
        ("", "a", 2, 0.0),
    ],
)
def test_bleu(predicted: str, right: str, k: int, score: float) -> None:
    assert bleu(predicted, right, k) == pytest.approx(score, rel=1e-12)
