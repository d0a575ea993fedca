"""Perplexity and bits per token: the formulas, once.

Both are made from totals, in float64: the mean of the batches' perplexities, which one sees reported, is
larger than the perplexity of the text (Jensen's inequality).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def perplexity(total_nats: float, num_tokens: int) -> float:
    """exp(total cross-entropy in nats / number of tokens); infinity where that overflows, NaN for no token.

    Example:
        >>> round(perplexity(100 * math.log(28), 100), 6)
        28.0
    """
    if num_tokens == 0:
        return math.nan
    try:
        return math.exp(total_nats / num_tokens)
    except OverflowError:
        return math.inf


def bits_per_token(total_nats: float, num_tokens: int) -> float:
    """The cross-entropy in bits per token: bits per character where tokens are characters.

    Example:
        >>> bits_per_token(10 * math.log(2), 10)
        1.0
    """
    return total_nats / num_tokens / math.log(2) if num_tokens else math.nan


def unigram_perplexity(counts: npt.NDArray[np.integer]) -> float:
    """The perplexity of a model that knows nothing but how often every token occurs: a yardstick for others.

    Args:
        counts: how often each token occurs, (V,).

    Returns:
        exp(H), where H is the entropy of the tokens' frequencies in nats.

    Example:
        >>> round(unigram_perplexity(np.array([7, 7, 0, 7, 7])), 6)
        4.0
    """
    shares = counts[counts > 0] / counts.sum()
    return math.exp(-float(shares @ np.log(shares)))
