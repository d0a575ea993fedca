"""A Slurm cluster of two nodes, each on a host of its own: Debian's packages slurmctld, slurmd and munge."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from workers.hosts import TwoHosts

_PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol")

_CONFIGURATION = """ClusterName=two
SlurmctldHost={controller}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
NodeName={nodes} State=UNKNOWN
PartitionName=all Nodes={nodes} Default=YES State=UP
"""


def why_no_slurm() -> str | None:
    """Why there can be no cluster here; None where there can."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    return (
        f"there is no {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)" if missing else None
    )


@contextmanager
def slurm(hosts: TwoHosts, folder: Path, seconds: float) -> Iterator[Mapping[str, str]]:
    """Starts one; gives the variables with which its commands find it."""
    values = {
        "controller": hosts.a.own_name,
        "address": hosts.a.name,
        "folder": folder,
        "nodes": ",".join(host.name for host in hosts),
    }
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(**values))
    # No plugin here uses control groups, but a node does not start without them.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "state").mkdir()
    key = folder / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = (
        f"exec munged --foreground --force --key-file {key} --socket {folder}/munge.socket "
        f"--pid-file {folder}/munge.pid --seed-file {folder}/seed --log-file {folder}/munge.log"
    )
    daemons = [hosts.a.start(munge, folder), hosts.a.start("exec slurmctld -D -i", folder, environment)]
    for host in hosts:
        (folder / f"spool-{host.name}").mkdir()
        line = f"mount -t tmpfs none /sys/fs/cgroup; exec slurmd -D -N {host.name}"
        daemons.append(host.start(line, folder, environment))
    try:
        until = time.monotonic() + seconds
        while True:
            asked = hosts.a.start("sinfo -h -o %D -t idle", folder, environment)
            if asked.wait(seconds) == 0 and asked.output == "2\n":
                break
            said = "\n".join(daemon.errors for daemon in daemons)
            assert time.monotonic() < until, f"Slurm does not start:\n{said}"
            time.sleep(0.3)
        yield environment
    finally:
        for daemon in daemons:
            daemon.popen.terminate()
        for host in hosts:
            host.end_all()
        for daemon in daemons:
            daemon.popen.wait()
