"""Joins two network interfaces as a cable with a delay, which loses some frames: ``NAME NAME DELAY LOSS``.

What ``tc netem`` does in the kernel, for kernels without it. It makes both interfaces, prints a line, and
carries frames until it is ended; the interfaces end with it.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from links import Link, carry, open_tap  # found in the folder that was just named

if __name__ == "__main__":
    taps = [open_tap(name) for name in sys.argv[1:3]]
    print("joined", flush=True)
    carry(taps, Link(float(sys.argv[3]), math.inf), float(sys.argv[4]))
