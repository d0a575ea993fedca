"""Joins two network interfaces of the kind TAP, as a cable of 20 ms that loses a frame in a thousand.

What ``tc netem`` does in the kernel, for kernels without it: ``python slow_wire.py NAME NAME DELAY LOSS``
makes both interfaces, prints a line, and carries frames until it is ended; the interfaces end with it.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import sys
import time

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_LARGEST_FRAME = 1 << 16


def main(names: list[str], delay: float, loss: float) -> None:
    ends = [_tap(name) for name in names]
    print("joined", flush=True)
    draw, number = random.Random(0), itertools.count()
    waiting: list[tuple[float, int, int, bytes]] = []
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for end in select.select(ends, [], [], pause)[0]:
            frame = os.read(end, _LARGEST_FRAME)
            if draw.random() >= loss:
                other = ends[1 - ends.index(end)]
                heapq.heappush(waiting, (time.monotonic() + delay, next(number), other, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(waiting)
            try:
                os.write(end, frame)
            except OSError:
                continue  # the interface is down: what comes then is lost, as on a cut cable


def _tap(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return end


if __name__ == "__main__":
    main(sys.argv[1:3], float(sys.argv[3]), float(sys.argv[4]))
