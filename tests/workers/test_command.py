"""``d2lrnn train --workers``: one run, whoever trains it and whatever dies."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from workers.conftest import BACKEND

import d2lrnn
from d2lrnn.data.corpus import load_corpus
from d2lrnn.data.encoded import Origin, read_header
from d2lrnn.data.encoder import encode_texts
from d2lrnn.errors import INTERRUPTED, WORKER_LOST, WRONG_INPUT
from d2lrnn.registry import engine_of
from d2lrnn.saving.run_folder import load_run

#: Small: what is tried is who trains.
MODEL = ["--cell", "gru", "--hidden", "8", "--batch-size", "33"]
WINDOWS = ["--num-train", "330", "--num-val", "70"]
LOOPBACK = "127.0.0.1"
#: The addresses at which the processes of an engine listen that has no setting for it. Its backend binds the
#: socket to the loopback device instead, which the system's table does not show.
OPEN_TO_ALL: dict[str, set[str]] = {"tensorflow": {"::"}}
#: Some time for a loaded machine to start frameworks in, and the time within which all must have ended.
PATIENCE, LIMIT = 240.0, 30.0


class Command:
    """A ``d2lrnn train`` under way."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "d2lrnn", "train", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def children(self) -> list[int]:
        """The processes that it has started, in their order."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sorted(map(int, children))

    def processes(self) -> dict[str, int]:
        """They by name: servers come first."""
        names = [*engine_of(BACKEND).server_roles, "worker 0", "worker 1"]
        return dict(zip(names, self.children(), strict=True))

    def wait_for(self, what: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not what():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until, "it takes too long"
            time.sleep(0.05)

    def ended(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error, as soon as it has ended."""
        printed, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, printed, errors


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def started(*words: str) -> Command:
        commands.append(Command(*words))
        return commands[-1]

    yield started
    for each in commands:
        if each.process.poll() is None:
            with suppress(OSError):
                for pid in each.children():
                    os.killpg(pid, signal.SIGKILL)
            each.process.kill()
        each.process.communicate()


def _losses(path: Path) -> list[tuple[float, float]]:
    epochs = json.loads(path.read_text())["epochs"]
    return [(epoch["train_perplexity"], epoch["val_perplexity"]) for epoch in epochs]


def _is_gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return True


def _listening(pid: int) -> list[tuple[str, int]]:
    """Addresses and ports at which a process listens."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            sockets.add(os.readlink(descriptor))
    return [(address, port) for address, port, inode in _sockets() if f"socket:[{inode}]" in sockets]


def _all_listening() -> list[tuple[str, int]]:
    return [(address, port) for address, port, _ in _sockets()]


def _sockets() -> Iterator[tuple[str, int, str]]:
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == "0A":  # it listens
                words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
                packed = struct.pack(f"={len(words)}I", *words)
                shown = socket.inet_ntop(family, packed).removeprefix("::ffff:")
                yield shown, int(port, 16), fields[9]


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    """The sample in a file, of which each worker reads its own rows."""
    corpus, file = load_corpus("sample"), tmp_path / "sample.enc"
    encode_texts("sample", file, Origin("char", True, "utf-8", 0), vocab=corpus.vocab)
    return file


@pytest.mark.of_the_core
def test_two_workers_show_and_come_to_what_one_does(command: Any, tmp_path: Path, encoded: Path) -> None:
    outputs: list[tuple[list[str], list[tuple[float, float]]]] = []
    for text, workers in (("sample", []), ("sample", ["--workers", "2"]), (str(encoded), ["--workers", "2"])):
        result = tmp_path / f"{len(outputs)}.json"
        words = [text, *MODEL, *WINDOWS, *workers, "--epochs", "3", "--json", str(result)]
        code, printed, errors = command(*words).ended()
        assert code == 0, errors
        if workers:
            assert len(errors.splitlines()) == 3, errors  # a line an epoch, and nothing of a framework
        outputs.append((printed.splitlines(), _losses(result)))
    (alone, expected), (shared, got), (_, again) = outputs
    assert got == again
    for one, other in zip(expected, got, strict=True):
        assert other == pytest.approx(one, rel=1e-6)
    without_numbers = [
        [line.split()[0] for line in lines if not line.startswith(("workers", "speed"))]
        for lines in (alone, shared)
    ]
    assert without_numbers[0] == without_numbers[1]
    assert "workers  2" in shared


@pytest.mark.of_the_core
def test_patience_ends_all_workers(command: Any, tmp_path: Path) -> None:
    """At a rate that changes no parameter no epoch is better than the first."""
    out = tmp_path / "run"
    words = [*MODEL, *WINDOWS, "--workers", "2", "--lr", "1e-20", "--epochs", "9", "--out", str(out)]
    code, printed, errors = command(*words, "--patience", "2").ended()
    assert code == 0, errors
    assert "stopped early after epoch 3 of 9: no better validation perplexity for 2 epochs" in printed
    assert [(each.epoch, each.clipped) for each in load_run(out).position.epochs] == [(1, 0), (2, 0), (3, 0)]


@pytest.mark.of_the_core
def test_several_seeds(command: Any, tmp_path: Path) -> None:
    result = tmp_path / "a.json"
    words = [*MODEL, *WINDOWS, "--workers", "2", "--epochs", "1", "--seed", "1,2", "--json", str(result)]
    code, printed, errors = command(*words).ended()
    assert code == 0, errors
    assert [run["seed"] for run in json.loads(result.read_text())["runs"]] == [1, 2]
    assert "median" in printed


@pytest.mark.of_the_core
@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_a_result_has_standard_output_for_itself(command: Any, option: str, tmp_path: Path) -> None:
    words = [*MODEL, *WINDOWS, "--epochs", "2", "--workers", "2", "--device", "cpu", "--out", str(tmp_path)]
    code, printed, errors = command(*words, option, "-").ended()
    assert code == 0, errors
    assert "validation  perplexity" in errors
    kept = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in kept] == [1, 2]
    if option == "--csv":
        rows = list(csv.DictReader(printed.splitlines()))
        assert [json.loads(row["val_perplexity"]) for row in rows] == [
            line["val_perplexity"] for line in kept
        ]
    else:
        assert [epoch["epoch"] for epoch in json.loads(printed)["epochs"]] == [1, 2]


@pytest.mark.of_the_core
def test_all_workers_save_in_the_one_folder_that_the_run_got(command: Any, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        'epochs = 1\n[model]\ncell = "gru"\nhidden = 8\n[data]\nnum-train = 330\nnum-val = 70\n'
    )
    for number in (1, 2):
        words = ["--config", str(config), "--workers", "2", "--device", "cpu", "--out", f"{tmp_path}/runs/"]
        code, printed, errors = command(*words).ended()
        assert code == 0, errors
        folder = tmp_path / "runs" / f"000{number}-gru-scratch-sample"
        assert printed.startswith(f"folder   {folder}\n")
        assert f"saved       {folder}\n" in printed
        assert load_run(folder).model.num_hiddens == 8
        assert (folder / "config.toml").is_file()
    assert len(list((tmp_path / "runs").iterdir())) == 2
    words = ["--config", str(config), "--workers", "2", "--out", f"{tmp_path}/runs/", "--hidden", "0"]
    assert command(*words).ended()[0] == WRONG_INPUT
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.of_the_core
def test_the_first_worker_alone_writes_for_tensorboard_and_draws(command: Any, tmp_path: Path) -> None:
    reason = "tensorboardX and plotille are in the requirements of torch"
    for name in ("tensorboardX", "plotille"):
        pytest.importorskip(name, reason=reason)
    folder, run = tmp_path / "tb", tmp_path / "run"
    words = ["--workers", "2", "--device", "cpu", "--tensorboard", str(folder), "--plot"]
    code, printed, errors = command(*MODEL, *WINDOWS, *words, "--epochs", "2", "--out", str(run)).ended()
    assert code == 0, errors
    assert len(list(folder.iterdir())) == 1
    assert printed.count("━━ validation") == 1
    code, printed, errors = command(*words, "--epochs", "3", "--resume", str(run)).ended()
    assert code == 0, errors
    assert len(list(folder.iterdir())) == 2
    assert re.search(r"1 +epoch +3\n", printed)


def test_a_run_that_is_stopped_and_resumed_is_the_same_to_the_bit(command: Any, tmp_path: Path) -> None:
    words = [*MODEL, "--layers", "2", "--dropout", "0.2", "--iterator", "sequential", "--epochs", "4"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    code, _, errors = command(*words, "--workers", "2", "--out", whole).ended()
    assert code == 0, errors
    assert len(errors.splitlines()) == 4, errors  # a line an epoch, and nothing of a framework
    first = command(*words, "--workers", "2", "--out", parts, "--save-every", "3")
    first.wait_for((tmp_path / "parts" / "latest").exists)
    os.kill(first.process.pid, signal.SIGINT)
    code, _, errors = first.ended()
    assert code == INTERRUPTED, errors
    code, _, errors = command("--resume", parts, "--workers", "2").ended()
    assert code == 0, errors
    one, other = load_run(whole), load_run(parts)
    assert [(each.train_perplexity, each.val_perplexity) for each in one.position.epochs] == [
        (each.train_perplexity, each.val_perplexity) for each in other.position.epochs
    ]
    for name, value in one.parameters.items():
        assert (value == other.parameters[name]).all(), name


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "who",
    [*(pytest.param(role, marks=pytest.mark.slow) for role in engine_of(BACKEND).server_roles),
     "worker 0", pytest.param("worker 1", marks=pytest.mark.of_the_core)],
)  # fmt: skip
def test_where_one_is_lost_all_end_and_say_so(command: Any, tmp_path: Path, who: str, how: int) -> None:
    out = tmp_path / "run"
    training = command(*MODEL, *WINDOWS, "--workers", "2", "--epochs", "100000", "--out", str(out))
    training.wait_for((out / "latest").exists)
    processes = training.processes()
    ports = [port for pid in processes.values() for port in _listening(pid)]
    assert {address for address, _ in ports} <= set(OPEN_TO_ALL.get(BACKEND, {LOOPBACK})), ports
    os.kill(processes[who], how)
    since = time.monotonic()
    code, _, errors = training.ended()
    assert time.monotonic() - since < LIMIT
    assert code == WORKER_LOST
    *progress, line = errors.splitlines()
    assert all(each.startswith(("epoch ", "step ")) for each in progress), errors
    title = f"{who} of 2" if who.startswith("worker") else f"the {who}"
    assert line.startswith(f"d2lrnn: {title} (process {processes[who]}) "), line
    assert line.endswith(f"; to go on: d2lrnn train --resume {out} --workers 2")
    assert all(_is_gone(pid) for pid in processes.values())
    assert not {port for _, port in ports} & {port for _, port in _all_listening()}
    assert load_run(out).step > 0


@pytest.mark.of_the_core
def test_a_run_is_started_again_as_often_as_was_asked(command: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [*MODEL, *WINDOWS, "--workers", "2", "--epochs", "100000", "--out", str(out), "--restart", "1"]
    training = command(*words)
    training.wait_for((out / "latest").exists)
    before = training.processes()
    os.kill(before["worker 1"], signal.SIGKILL)
    step = load_run(out).step
    training.wait_for(
        lambda: load_run(out).step > step and not set(before.values()) & set(training.children())
    )
    os.kill(training.processes()["worker 0"], signal.SIGKILL)
    code, _, errors = training.ended()
    lines = [line for line in errors.splitlines() if line.startswith("d2lrnn: ")]
    assert code == WORKER_LOST
    assert len(lines) == 2
    assert re.search(rf"worker 1 of 2 .* started again from {out} \(0 more times at most\)", lines[0])
    assert lines[1].startswith("d2lrnn: worker 0 of 2 ")


@pytest.mark.of_the_core
def test_without_the_command_no_worker_goes_on(command: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    training = command(*MODEL, *WINDOWS, "--workers", "2", "--epochs", "100000", "--out", str(out))
    training.wait_for((out / "latest").exists)
    processes = training.children()
    training.process.kill()
    training.process.communicate()
    until = time.monotonic() + LIMIT
    while not all(_is_gone(pid) for pid in processes):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.of_the_core
def test_an_error_of_one_worker_ends_all_in_one_line(command: Any, encoded: Path) -> None:
    """A damaged token is in a row of one of them, and the other waits for it."""
    content = bytearray(encoded.read_bytes())
    content[read_header(encoded).start + 100] = 255
    encoded.write_bytes(content)
    words = [*MODEL, *WINDOWS, str(encoded), "--workers", "2"]
    code, _, errors = command(*words).ended()
    assert code == WRONG_INPUT, errors
    assert re.fullmatch(
        rf"d2lrnn: (worker [01] of 2: )?{re.escape(str(encoded))} is damaged: it holds the token 255, .*\n",
        errors,
    )


@pytest.mark.of_the_core
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "--workers is 0: it must be at least 1"),
        (["--workers", "two"], "'two' is not a whole number"),
        (["-", "--workers", "2"], "standard input can be read by one process alone"),
        (["--workers", "2", "--restart", "1"], "--restart needs a folder to start again from"),
        (["--workers", "2", "--lr", "-1"], "--lr is -1.0: it must be a number above 0"),
        (["--workers", "2", "nothing.txt"], "nothing.txt"),
    ],
)
def test_an_error_is_one_line(command: Any, words: list[str], message: str) -> None:
    code, _, errors = command(*words).ended()
    assert code == WRONG_INPUT
    assert message in errors
    assert len(errors.splitlines()) == 1, errors


@pytest.mark.of_the_core
def test_auto_is_one_worker_where_there_is_no_gpu(command: Any) -> None:
    words = [*MODEL, *WINDOWS, "--workers", "auto", "--device", "cpu", "--epochs", "1"]
    code, printed, errors = command(*words).ended()
    assert code == 0, errors
    gpus = [device for device in d2lrnn.backend(BACKEND).devices() if device.name != "cpu"]
    assert f"workers  {max(1, len(gpus))}" in printed.splitlines()


@pytest.mark.of_the_core
def test_a_launcher_and_the_option_are_one_too_many(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = engine_of(BACKEND).launched[0]
    for name in names:
        monkeypatch.setenv(name, "2")
    code, _, errors = command(*MODEL, "--workers", "2").ended()
    assert code == WRONG_INPUT
    assert f"the environment ({', '.join(names)}) says that a launcher has done so" in errors
