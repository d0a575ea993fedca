"""Pairs of sentences, as the book's chapters on machine translation read them; no framework is in it.

A text has a pair a line: a sentence, a tab, its translation.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

_Token = TypeVar("_Token")

_NON_BREAKING = re.compile("[\u202f\xa0]")
#: A mark that does not stand after a space.
_ATTACHED_MARK = re.compile(r"(?<=[^ ])(?=[,.!?])")


def preprocess_nmt(text: str) -> str:
    r"""The text in lower case, with an ordinary space for each non-breaking one and before every mark.

    Example:
        >>> preprocess_nmt("Go.\tVa\u202f!")
        'go .\tva !'
    """
    return _ATTACHED_MARK.sub(" ", _NON_BREAKING.sub(" ", text).lower())


def tokenize_nmt(text: str, num_examples: int | None = None) -> tuple[list[list[str]], list[list[str]]]:
    r"""The words of the sentences and of their translations.

    Args:
        text: what `preprocess_nmt` returned. Lines that are not two texts with a tab between are left out.
        num_examples: of how many lines to take pairs, beside the first one; None or 0 takes all. As in the
            book, it is one line more than the name says.

    Example:
        >>> tokenize_nmt("go .\tva !\nno pair\nhi .\tsalut !")
        ([['go', '.'], ['hi', '.']], [['va', '!'], ['salut', '!']])
    """
    lines = text.split("\n")
    if num_examples:
        lines = lines[: num_examples + 1]
    pairs = [pair for pair in (line.split("\t") for line in lines) if len(pair) == 2]
    return [source.split(" ") for source, _ in pairs], [target.split(" ") for _, target in pairs]


def truncate_pad(line: list[_Token], num_steps: int, padding_token: _Token) -> list[_Token]:
    """A line of exactly `num_steps` tokens.

    Example:
        >>> truncate_pad([47, 4], 4, 1), truncate_pad([47, 4, 3], 2, 1)
        ([47, 4, 1, 1], [47, 4])
    """
    return line[:num_steps] + [padding_token] * (num_steps - len(line))


def bleu(pred_seq: str, label_seq: str, k: int) -> float:
    """How well a predicted text matches the right one; 1 where they are the same.

    With p_n the share of the prediction's n-grams that the label has too:
    exp(min(0, 1 - len(label) / len(prediction))) · Π_{n=1}^{k} p_n^(1/2^n).

    Args:
        pred_seq: the prediction, words with a space between them.
        label_seq: the right text.
        k: the longest n-gram that is looked at; one that is longer than the prediction counts for nothing.

    Example:
        >>> bleu("he is calm", "he is calm", k=2), round(bleu("he is", "he is calm", k=2), 3)
        (1.0, 0.607)

    Source: Papineni et al. 2002, with the weights of Zhang et al., Dive into Deep Learning, section 10.7.
    """
    predicted, right = pred_seq.split(" "), label_seq.split(" ")
    score = math.exp(min(0.0, 1 - len(right) / len(predicted)))
    for n in range(1, min(k, len(predicted)) + 1):
        found = _ngrams(predicted, n)
        matches = (found & _ngrams(right, n)).total()
        score *= (matches / found.total()) ** 0.5**n
    return score


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))
