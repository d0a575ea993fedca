"""Machines with a network between them, played on one: to time processes as if they were on several.

A `Network` is some network namespaces, each with one device, and a process that carries the frames between
them: every machine has a link of a given rate and delay to a switch, as ``tc netem delay D rate R`` on the
ports of a bridge would give. It is a program because kernels of small virtual machines have no netem. Frames
are as large as those of the loopback device, so that carrying them costs little. It needs root, and the
commands ``unshare``, ``nsenter``, ``ip`` and ``sysctl``; nothing is left when the processes have ended.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import itertools
import multiprocessing
import os
import random
import select
import struct
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

#: The name of the device in every namespace, and the bytes of a frame's payload.
DEVICE, FRAME = "link0", 65000

# From linux/if_tun.h.
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000

#: Set in every namespace: connections of a cluster's workers are idle while these compute, and are not to
#: begin slowly again each time.
_SETTINGS = ("net.ipv4.tcp_slow_start_after_idle=0", "net.ipv4.tcp_congestion_control=reno")


class Link(NamedTuple):
    """What connects a machine with the switch.

    Attributes:
        latency: seconds from machine to machine, one way.
        bandwidth: bytes a second, in each direction.
    """

    latency: float
    bandwidth: float

    @classmethod
    def of(cls, milliseconds: float, gigabits: float) -> Link:
        """A link in the units in which they are sold.

        Example:
            >>> Link.of(0.5, 1.0)
            Link(latency=0.0005, bandwidth=125000000.0)
        """
        return cls(milliseconds / 1e3, gigabits * 1e9 / 8)


class Network:
    """Some machines, each with `link` to one switch.

    Args:
        number: how many.
        link: of each.

    Attributes:
        prefixes: for each machine, what stands before a command that is to run on it.
        addresses: of each machine.
    """

    def __init__(self, number: int, link: Link) -> None:
        self.addresses = [f"10.77.0.{machine + 1}" for machine in range(number)]
        self.prefixes: list[list[str]] = []
        self._link = link

    def __enter__(self) -> Network:
        with ExitStack() as stack:
            taps = [self._added(machine, stack) for machine in range(len(self.addresses))]
            # A fork, as it is to have the descriptors.
            switch = multiprocessing.get_context("fork").Process(target=carry, args=(taps, self._link))
            switch.start()
            stack.callback(switch.join)
            stack.callback(switch.kill)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _added(self, machine: int, stack: ExitStack) -> int:
        """A namespace with its device, whose descriptor is returned."""
        holder = stack.enter_context(subprocess.Popen(["unshare", "--net", "sleep", "infinity"]))
        stack.callback(holder.kill)
        own, theirs = (Path(f"/proc/{process}/ns/net") for process in ("self", holder.pid))
        while os.readlink(own) == os.readlink(theirs):
            time.sleep(0.01)
        name = f"d2l{os.getpid()}.{machine}"[-15:]
        tap = open_tap(name)
        stack.callback(os.close, tap)
        _command("ip", "link", "set", name, "netns", str(holder.pid))
        inside = ["nsenter", f"--net={theirs}"]
        words = ("address", f"02:00:00:00:00:{machine:02x}", "mtu", str(FRAME), "up")
        _command(*inside, "ip", "link", "set", "dev", name, "name", DEVICE)
        _command(*inside, "ip", "link", "set", "dev", DEVICE, *words)
        _command(*inside, "ip", "address", "add", f"{self.addresses[machine]}/24", "dev", DEVICE)
        _command(*inside, "ip", "link", "set", "dev", "lo", "up")
        _command(*inside, "sysctl", "-q", "-w", *_SETTINGS)
        self.prefixes.append(list(inside))
        return tap


def open_tap(name: str) -> int:
    """A new network device of the kind TAP: the descriptor on which its frames are read and written."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return tap


def carry(taps: Sequence[int], link: Link, loss: float = 0.0) -> None:
    """Carries frames between machines without end.

    A frame takes its size / bandwidth on the link of its sender, and as long on that of its receiver, both
    overlapping as in a switch that does not wait for a frame's end; and the latency. On either link frames go
    in the order in which they come there. What comes to a device that is down is lost.

    Args:
        taps: the descriptors of the machines' devices. Of more than two, the addresses end in the number of
            the machine.
        link: of each.
        loss: which part of the frames is lost.
    """
    draw = random.Random(0)
    up, down = [0.0] * len(taps), [0.0] * len(taps)
    # When a frame is at its receiver's link, and then when it has passed it.
    waiting: list[tuple[float, int, bool, int, bytes]] = []
    count = itertools.count()
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for tap in select.select(taps, [], [], pause)[0]:
            sender, frame = taps.index(tap), os.read(tap, FRAME + 18)
            if draw.random() < loss:
                continue
            seconds, now = len(frame) / link.bandwidth, time.monotonic()
            start = max(now, up[sender])
            up[sender] = start + seconds
            for receiver in _receivers(frame, sender, len(taps)):
                heapq.heappush(waiting, (start + link.latency, next(count), False, receiver, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            when, _, passed, receiver, frame = heapq.heappop(waiting)
            if not passed:
                down[receiver] = max(when, down[receiver]) + len(frame) / link.bandwidth
                heapq.heappush(waiting, (down[receiver], next(count), True, receiver, frame))
                continue
            with suppress(BlockingIOError):
                try:
                    os.write(taps[receiver], frame)
                except OSError as error:
                    if error.errno != errno.EIO:  # the device is not up yet, or no more
                        raise


def _receivers(frame: bytes, sender: int, number: int) -> Sequence[int]:
    """The machines that a frame is for: that of its address, or all others."""
    if number == 2:
        return [1 - sender]
    if frame[0] & 1:
        return [machine for machine in range(number) if machine != sender]
    return [frame[5]] if frame[5] < number else []


def _command(*words: str) -> None:
    subprocess.run(words, check=True)
