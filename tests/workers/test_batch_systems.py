"""The lines of docs/workers.md for Slurm, Kubernetes and Open MPI, on two hosts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from workers.hosts import two_hosts, why_not
from workers.page import blocks, shortened
from workers.runs import PATIENCE, RUN, SMALL, alone, read, write_text
from workers.slurm import slurm, why_no_slurm

BACKEND = os.environ.get("D2LRNN_BACKEND", "")
OPTIONS = "--epochs 2"
SHORT = f"{SMALL} {OPTIONS} --json result.json"

pytestmark = [
    pytest.mark.of_the_core,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif((f"slurm-{BACKEND}", "batch") not in blocks(), reason=f"{BACKEND} has one process"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_text(tmp_path)
    return tmp_path


def same_as_alone(folder: Path) -> None:
    result, expected = read(folder / "result.json"), alone(folder, OPTIONS)
    for epoch, other in zip(result["epochs"], expected["epochs"], strict=True):
        for name in ("train_perplexity", "val_perplexity"):
            assert epoch[name] == pytest.approx(other[name], rel=1e-6)
    assert (folder / RUN / "latest").exists()


@pytest.mark.slow
@pytest.mark.skipif(why_no_slurm() is not None, reason=str(why_no_slurm()))
def test_slurm(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "book.sh").write_text(shortened(blocks()[f"slurm-{BACKEND}", "batch"], SHORT))
    with two_hosts() as hosts, slurm(hosts, tmp_path_factory.mktemp("slurm"), PATIENCE) as environment:
        job = hosts.a.start("sbatch --wait --output printed.txt book.sh", folder, environment)
        code = job.wait(PATIENCE)
    printed = (folder / "printed.txt").read_text()
    assert code == 0, printed + job.errors
    assert printed.count("workers  2\n") == 1
    same_as_alone(folder)


def test_kubernetes(folder: Path) -> None:
    container = container_of(BACKEND)
    assert container["command"][:2] == ["bash", "-c"]
    (folder / "command.sh").write_text(shortened(container["command"][2], SHORT))
    environment = {each["name"]: each["value"] for each in container["env"]}
    with two_hosts(names=("book-0.book", "book-1.book")) as hosts:
        jobs = [
            host.start("exec bash command.sh", folder, {**environment, "JOB_COMPLETION_INDEX": str(index)})
            for index, host in enumerate(hosts)
        ]
        codes = [job.wait(PATIENCE) for job in jobs]
    assert codes == [0, 0], jobs[0].errors + jobs[1].errors
    assert "workers  2\n" in jobs[0].output
    assert jobs[1].output == ""
    same_as_alone(folder)


def container_of(backend: str) -> Mapping[str, Any]:
    """The container of the manifest; of other backends with their own variables and command."""
    service, job = yaml.safe_load_all(blocks()["kubernetes-torch", "manifest"])
    pod = job["spec"]["template"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    # Names of pods are JOB-INDEX.SUBDOMAIN, where a service without an address selects them.
    assert pod["spec"]["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"] == "book"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": "book"}
    (container,) = pod["spec"]["containers"]
    if backend == "torch":
        return dict(container)
    other = yaml.safe_load(blocks()[f"kubernetes-{backend}", "container"])
    assert set(other) == {"env", "command"}
    return {**container, **other}


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="the page starts JAX alone with mpirun")
@pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun (Debian: openmpi-bin)")
def test_open_mpi(folder: Path) -> None:
    with two_hosts() as hosts:
        # In place of ssh.
        agent = folder / "agent"
        agent.write_text(
            "#!/bin/bash\nhost=$1\nshift\n"
            + "".join(f'[ $host = {host.name} ] && exec {host.enter} bash -c "$*"\n' for host in hosts)
        )
        agent.chmod(0o755)
        line = shortened(blocks()["mpirun", "host-a"], SHORT)
        environment = {"OMPI_MCA_plm_rsh_agent": str(agent), "OMPI_ALLOW_RUN_AS_ROOT": "1",
                       "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # fmt: skip
        job = hosts.a.start(line, folder, environment)
        code = job.wait(PATIENCE)
    assert code == 0, job.output + job.errors
    assert job.output.count("workers  2\n") == 1
    same_as_alone(folder)
