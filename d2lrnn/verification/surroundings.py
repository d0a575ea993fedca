"""What the machine and the environment give a process: its processors, and what makes it slow."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from d2lrnn.benchmark.driver import THREAD_VARIABLES, load_average, processor

#: Where a container's share of the processors is written: version 2 of Linux' control groups, and version 1.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_1, _PERIOD_1 = (Path("/sys/fs/cgroup/cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period"))


@dataclass(frozen=True)
class Processors:
    """What may compute here.

    Attributes:
        usable: how many processors this process may run on; a framework starts as many threads, or fewer.
        quota: how many of them its container may keep busy, such as 1.5; None where there is no limit.
        load: the load average of the last minute; None where the system has none.
        threads: the variables that set numbers of threads, as they are.
    """

    usable: int
    quota: float | None = None
    load: float | None = None
    threads: Mapping[str, str] = field(default_factory=dict)

    def remarks(self) -> Iterator[str]:
        """What makes training slow, each with what mends it.

        Example:
            >>> next(Processors(usable=8, threads={"OMP_NUM_THREADS": "16"}).remarks())
            'OMP_NUM_THREADS is 16, and there are 8 processors: threads wait for each other; set it to 8'
        """
        wanted = {name: int(value) for name, value in self.threads.items() if value.isdigit()}
        for name, number in wanted.items():
            if number > self.usable:
                yield (
                    f"{name} is {number}, and there are {self.usable} processors: "
                    f"threads wait for each other; set it to {self.usable}"
                )
        if self.quota is not None and self.quota < min([self.usable, *wanted.values()]):
            yield (
                f"this container may use {self.quota:g} of the {self.usable} processors that it shows: more "
                f"threads than that wait for each other; set OMP_NUM_THREADS to {max(1, int(self.quota))}"
            )
        if self.load is not None and self.load > self.usable + 1:
            yield (
                f"the load average is {self.load:.1f} on {self.usable} processors: other work slows this one"
            )


def processors() -> Processors:
    """Those of this process."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    return Processors(usable, quota_of(_read(_QUOTA) or f"{_read(_QUOTA_1)} {_read(_PERIOD_1)}"),
                      load_average(), given)  # fmt: skip


def quota_of(text: str) -> float | None:
    """How many processors a control group may keep busy, from its quota and its period in microseconds.

    Example:
        >>> quota_of("150000 100000"), quota_of("max 100000"), quota_of("-1 100000"), quota_of("")
        (1.5, None, None, None)
    """
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or not int(words[1]):
        return None
    return int(words[0]) / int(words[1])


def machine() -> dict[str, str]:
    """The system, its processor and this Python, for a report."""
    return {"system": platform.platform(), "processor": processor(), "python": platform.python_version()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
