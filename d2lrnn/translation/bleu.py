"""How well a translation matches the right one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


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
