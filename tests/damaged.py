"""What befalls a file: a bit is flipped, it is cut, or bytes come between."""

from __future__ import annotations

import random
from collections.abc import Iterator


def damaged(content: bytes, times: int) -> Iterator[bytes]:
    """So many contents, each with one fault, at places drawn by chance: the same at every call."""
    chance = random.Random(0)
    for number in range(times):
        changed, at = bytearray(content), chance.randrange(len(content))
        if number % 3 == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif number % 3 == 1:
            del changed[at:]
        else:
            changed[at:at] = chance.randbytes(3)
        yield bytes(changed)
