"""Perplexity and bits per token: the formulas, once.

Both are made from totals, in float64: the mean of the batches' perplexities, which one sees reported, is
larger than the perplexity of the text (Jensen's inequality).
"""

from __future__ import annotations

import math


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
