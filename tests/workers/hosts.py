"""Two hosts on this machine: network namespaces, each with a name and an address of its own, and one cable.

A host has a network and a name of its own, and shares everything else with the machine. Its table of names
has both hosts. What it calls itself, box-a, stands for 127.0.1.1, as on Debian: an engine that asks for the
address of its own machine's name hears of one that nobody else reaches.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

DELAY, LOSS = 0.02, 0.001

#: Tables of names for ``ip netns exec``, which shows them to a process in place of those in /etc.
_TABLES = Path("/etc/netns")
_number = count()


def why_not() -> str | None:
    """Why there can be no hosts here; None where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    if shutil.which("ip") is None or shutil.which("ss") is None:
        return "network namespaces need ip and ss (iproute2)"
    tried = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, text=True, check=False)
    return f"no network namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass
class Job:
    """A command line that runs on a host."""

    host: Host
    popen: subprocess.Popen[bytes]
    folder: Path

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    @property
    def errors(self) -> str:
        return (self.folder / "errors").read_text(errors="replace")

    @property
    def said(self) -> list[str]:
        """The lines of d2lrnn among the errors."""
        lines = self.errors.splitlines()
        return [line.removeprefix("d2lrnn: ") for line in lines if line.startswith("d2lrnn: ")]

    def wait(self, seconds: float) -> int:
        """Its exit code; fails with what it wrote where it takes longer."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            pids = self.host.processes()
            raise AssertionError(
                f"{self.host.name} still runs {pids} after {seconds:.0f} s:\n{self.output}\n{self.errors}"
            ) from None


@dataclass
class Host:
    """One of them.

    Attributes:
        name: what it and the other call it.
        namespace: its network namespace.
        address: on the cable.
        device: its end of the cable.
    """

    name: str
    namespace: str
    address: str
    device: str

    @property
    def own_name(self) -> str:
        """What it calls itself."""
        return f"box-{self.namespace[-1]}"

    @property
    def enter(self) -> str:
        """What stands before a command that is to run there."""
        return f"ip netns exec {self.namespace} unshare --uts"

    def start(self, line: str, folder: Path, environment: Mapping[str, str] | None = None) -> Job:
        """Runs a line of the shell in a folder; programs of this Python's environment are found first."""
        kept = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=folder))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        named = f"echo {self.own_name} > /proc/sys/kernel/hostname\n{line}"
        with (kept / "output").open("wb") as output, (kept / "errors").open("wb") as errors:
            popen = subprocess.Popen(
                [*self.enter.split(), "bash", "-c", named],
                cwd=folder,
                env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        return Job(self, popen, kept)

    def processes(self) -> dict[int, str]:
        """The command lines of all that runs there, by process."""
        found = {}
        for pid in _run("ip", "netns", "pids", self.namespace).split():
            with suppress(OSError):
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        return found

    def workers(self) -> list[int]:
        """The processes that train."""
        found = [pid for pid, line in self.processes().items() if " d2lrnn.cli.worker " in line]
        return [pid for pid in found if not _serves(pid)]

    def listening(self) -> set[tuple[str, int, str]]:
        """Address, port and program of all sockets that take connections."""
        found = set()
        pids = self.processes()
        for line in _run("ip", "netns", "exec", self.namespace, "ss", "-Hltnp").splitlines():
            address, _, port = line.split()[3].rpartition(":")
            pid = int(line.partition("pid=")[2].partition(",")[0] or 0)
            address = address.strip("[]").removeprefix("::ffff:")  # an address of IPv4 on a socket of IPv6
            found.add((address, int(port), pids.get(pid, "")))
        return found

    def end_all(self) -> None:
        """Ends what runs there."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class TwoHosts:
    """Both, and the cable.

    Attributes:
        a: ``host-a``.
        b: ``host-b``.
        slowed_by: what delays and loses frames, if something does.
    """

    a: Host
    b: Host
    slowed_by: str | None = None

    def __iter__(self) -> Iterator[Host]:
        return iter((self.a, self.b))

    def cut(self) -> None:
        """Cuts the cable."""
        _run("ip", "-n", self.a.namespace, "link", "set", self.a.device, "down")


@contextmanager
def two_hosts(*, slow: bool = False, names: tuple[str, str] = ("host-a", "host-b")) -> Iterator[TwoHosts]:
    """Two hosts; `slow` delays every frame by 20 ms, and loses one in a thousand."""
    _remove_leftovers()
    tag = f"{os.getpid()}x{next(_number)}"  # the name of a device has 15 characters at most
    a, b = (
        Host(name, f"d2l{tag}{letter}", f"10.77.0.{2 - number}", f"d{tag}{letter}")
        for number, (name, letter) in enumerate(zip(names, "ab", strict=True))
    )
    hosts = TwoHosts(a, b)
    wire: subprocess.Popen[str] | None = None
    try:
        for host in hosts:
            _run("ip", "netns", "add", host.namespace)
            table = _TABLES / host.namespace / "hosts"
            table.parent.mkdir(parents=True)
            table.write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.own_name}\n{_names(hosts)}")
        if slow and not _has_netem(hosts.a.namespace):
            hosts.slowed_by = "slow_wire.py, as this kernel has no netem"
            program = str(Path(__file__).with_name("slow_wire.py"))
            command = [sys.executable, program, *(host.device for host in hosts), str(DELAY), str(LOSS)]
            wire = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert wire.stdout is not None
            assert wire.stdout.readline() == "joined\n"
        else:
            _run("ip", "link", "add", hosts.a.device, "type", "veth", "peer", "name", hosts.b.device)
        for host in hosts:
            inside = ("ip", "-n", host.namespace)
            _run("ip", "link", "set", host.device, "netns", host.namespace)
            _run(*inside, "addr", "add", f"{host.address}/24", "dev", host.device)
            _run(*inside, "link", "set", "lo", "up")
            _run(*inside, "link", "set", host.device, "up")
            if slow and wire is None:
                hosts.slowed_by = "tc netem"
                _netem(host.namespace, host.device)
        yield hosts
    finally:
        for host in hosts:
            _remove(host)
        if wire is not None:
            wire.kill()
            wire.communicate()
        with suppress(OSError):
            _TABLES.rmdir()


def _remove(host: Host) -> None:
    with suppress(subprocess.CalledProcessError):
        host.end_all()
    shutil.rmtree(_TABLES / host.namespace, ignore_errors=True)
    with suppress(subprocess.CalledProcessError):
        _run("ip", "netns", "del", host.namespace)


def _remove_leftovers() -> None:
    """Those of tests that were killed."""
    for namespace, pid in re.findall(r"^(d2l(\d+)x\d+[ab])\b", _run("ip", "netns", "list"), re.MULTILINE):
        if not Path(f"/proc/{pid}").exists():
            _remove(Host("", namespace, "", ""))


def wait_until(what: str, condition: object, seconds: float, *jobs: Job) -> None:
    """Waits for `condition()`; fails with the jobs' output where it does not come or a job ends before."""
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        said = [f"{job.host.name}:\n{job.output}\n{job.errors}" for job in jobs]
        assert time.monotonic() < until, f"{what} did not come in {seconds:.0f} s\n" + "\n".join(said)
        assert all(job.popen.poll() is None for job in jobs), f"{what} did not come\n" + "\n".join(said)
        time.sleep(0.1)


def _serves(pid: int) -> bool:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return b"DMLC_ROLE=scheduler" in variables or b"DMLC_ROLE=server" in variables


def _names(hosts: TwoHosts) -> str:
    return "".join(f"{host.address} {host.name}\n" for host in hosts)


def _has_netem(namespace: str) -> bool:
    try:
        _netem(namespace, "lo")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
    _run("tc", "-n", namespace, "qdisc", "del", "dev", "lo", "root")
    return True


def _netem(namespace: str, device: str) -> None:
    words = ["delay", f"{DELAY * 1000:g}ms", "loss", f"{LOSS * 100:g}%"]
    _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "netem", *words)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
