"""Which part of a text is for training and which for validation, and whether it is long enough for both.

Shapes are written with n = tokens, T = time steps.
"""

from __future__ import annotations

from d2lrnn.data.vocabulary import TokenArray
from d2lrnn.errors import SpecError, TextError

#: How many windows the book's current edition trains on, and validates with.
BOOK_NUM_TRAIN, BOOK_NUM_VAL = 10_000, 5_000


def split_text(tokens: TokenArray, val_fraction: float) -> tuple[TokenArray, TokenArray]:
    """The tokens to train on and, behind them, those to validate with."""
    if not 0 < val_fraction < 1:
        raise SpecError(f"the validation fraction is {val_fraction}: it must be above 0 and below 1")
    num_train = len(tokens) - round(len(tokens) * val_fraction)
    return tokens[:num_train], tokens[num_train:]


def check_split(
    train: TokenArray, val: TokenArray, batch_size: int, num_steps: int, largest_offset: int
) -> None:
    """Whether every epoch has a training batch, whatever its offset, and validation a target."""
    whole = len(train) + len(val)
    needed = batch_size * num_steps + largest_offset + 1
    if len(train) < needed:
        rows = (len(train) - largest_offset - 1) // num_steps
        # Each step takes a token in every row and one of the offset.
        steps = (len(train) - (largest_offset + 1 - num_steps)) // (batch_size + 1)
        raise TextError(
            f"the text has {whole:,} tokens, {len(train):,} of them for training: a batch of {batch_size:,} "
            f"sequences of {num_steps:,} steps needs at least {needed:,}. Take a longer text"
            + (f", a batch size of at most {rows:,}" if rows > 0 else "")
            + _or_fewer_steps(steps)
        )
    if len(val) < 2:
        raise TextError(
            f"the text has {whole:,} tokens, {len(val):,} of them for validation, which needs at least 2. "
            f"Take a longer text or a larger validation fraction"
        )


def window_shares(
    num_train: int | None, num_val: int | None, num_tokens: int, num_steps: int
) -> tuple[int, int]:
    """How many sliding windows to train on and to validate with."""
    # The T windows between the two parts belong to neither.
    room = num_tokens - 2 * num_steps
    if room < 2:
        raise TextError(
            f"the text has {num_tokens:,} tokens: a training and a validation window of {num_steps:,} steps "
            f"need at least {2 * num_steps + 2:,}. Take a longer text"
            + _or_fewer_steps((num_tokens - 2) // 2)
        )
    if (num_train or 1) + (num_val or 1) > room:
        train, val = (f"{number:,}" if number else "1 or more" for number in (num_train, num_val))
        raise TextError(
            f"{train} training and {val} validation windows of {num_steps:,} steps do not fit: the text has "
            f"{num_tokens:,} tokens, room for {room:,} windows in all. Take fewer windows or a longer text"
        )
    if num_train is None and num_val is None and room < BOOK_NUM_TRAIN + BOOK_NUM_VAL:
        num_train = 2 * room // 3
    if num_train is None:
        num_train = min(BOOK_NUM_TRAIN, room - (num_val or 0))
    if num_val is None:
        num_val = min(BOOK_NUM_VAL, room - num_train)
    return num_train, num_val


def shares_of_whole_text(num_tokens: int, num_steps: int, num_val: int | None = None) -> tuple[int, int]:
    """How many sliding windows use all of a text: the last tenth for validation, the others for training.

    Args:
        num_tokens: n.
        num_steps: T.
        num_val: the windows for validation, where they are not to be a tenth.

    Returns:
        `num_train` and `num_val` of `SlidingWindows`; they are below 1 where the text is too short.

    Example:
        >>> shares_of_whole_text(1_064, 32)
        (900, 100)
    """
    room = num_tokens - 2 * num_steps
    if num_val is None:
        num_val = -(-room // 10)
    return room - num_val, num_val


def _or_fewer_steps(most: int) -> str:
    return f" or at most {most:,} steps (--steps {most})" if most > 0 else ""
