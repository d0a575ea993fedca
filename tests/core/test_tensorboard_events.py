"""``d2lrnn train --tensorboard``: what TensorBoard shows, read from the files by its own rules."""

from __future__ import annotations

import errno
import json
import math
import os
import struct
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.cli import tensorboard_events
from d2lrnn.cli.main import main
from d2lrnn.cli.tensorboard_events import TensorBoardEvents
from d2lrnn.errors import RunError
from d2lrnn.saving.run_folder import load_run
from d2lrnn.training.history import EpochRecord, Progress

pytest.importorskip("tensorboardX")

# Five batches an epoch.
QUICK = ["--num-train", "600", "--num-val", "200", "--batch-size", "128", "--steps", "16", "--hidden", "8"]
BY_EPOCH = {
    "perplexity/train": "train_perplexity", "perplexity/validation": "val_perplexity",
    "bits_per_token/train": "train_bits_per_token", "bits_per_token/validation": "val_bits_per_token",
    "epoch/tokens_per_second": "tokens_per_second", "epoch/number": "epoch",
    "gradient_norm/mean": "grad_norm", "gradient_norm/largest": "grad_norm_max",
    "gradient_norm/clipped": "clipped",
}  # fmt: skip
BY_STEP = {"batch/perplexity", "batch/gradient_norm", "batch/learning_rate", "batch/tokens_per_second"}


def _train(*argv: str | Path) -> int:
    return main(["train", *map(str, argv)])


def _events(path: Path) -> list[Any]:
    """The events of a file: each has its length, a checksum, its bytes, a checksum."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length, checksum) = struct.unpack("<QI", data[at : at + 12])
        assert checksum == masked_crc32c(data[at : at + 8])
        found.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += 16 + length
    return found


def _shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: where a session starts at a step, it drops the later ones from before."""
    shown: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):  # as TensorBoard reads them
        assert path.name.startswith("events.out.tfevents.")
        for event in _events(path):
            if event.HasField("session_log"):
                for points in shown.values():
                    points[:] = [point for point in points if point[0] < event.step]
            for value in event.summary.value:
                shown[value.tag].append((event.step, value.simple_value))
    return dict(shown)


def _steps(points: list[tuple[int, float]]) -> list[int]:
    return [step for step, _ in points]


def test_epochs_and_steps_are_written(tmp_path: Path) -> None:
    folder, result = tmp_path / "deep" / "tb", tmp_path / "result.json"
    words = ["--schedule", "exponential", "--schedule-every", "10", "--schedule-gamma", "0.5"]
    assert _train(*QUICK, *words, "--epochs", "4", "--tensorboard", folder, "--json", result) == 0
    shown, epochs = _shown(folder), json.loads(result.read_text())["epochs"]
    assert set(shown) == {*BY_EPOCH, *BY_STEP}
    for tag, name in BY_EPOCH.items():
        assert _steps(shown[tag]) == [5, 10, 15, 20]
        assert [value for _, value in shown[tag]] == pytest.approx([epoch[name] for epoch in epochs])
    for tag in BY_STEP:
        assert _steps(shown[tag]) == [1, 10, 20]
    # The rate of the step itself, the tenth of which is the last but one before the first decay.
    rates = [0.5 ** (step / 10) for step in (0, 9, 19)]
    assert [rate for _, rate in shown["batch/learning_rate"]] == pytest.approx(rates)
    # Twenty-eight characters, and nothing learned.
    assert shown["batch/perplexity"][0][1] == pytest.approx(28, rel=0.01)
    assert all(0 < norm < 2 for _, norm in shown["batch/gradient_norm"])


def test_the_norms_of_steps_are_those_of_their_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard_events, "_EVERY", 1)
    assert _train(*QUICK, "--clip", "0.5", "--epochs", "2", "--tensorboard", tmp_path) == 0
    shown = _shown(tmp_path)
    norms = [norm for _, norm in shown["batch/gradient_norm"]]
    for epoch, steps in enumerate((norms[:5], norms[5:])):
        assert shown["gradient_norm/mean"][epoch][1] == pytest.approx(sum(steps) / 5)
        assert shown["gradient_norm/largest"][epoch][1] == pytest.approx(max(steps))
        assert shown["gradient_norm/clipped"][epoch][1] == pytest.approx(
            sum(norm > 0.5 for norm in steps) / 5
        )


def test_each_seed_has_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*QUICK, "--epochs", "1", "--tensorboard", tmp_path / "tb", "--seed"]
    assert _train(*words, "1,2") == 0
    assert [_steps(_shown(tmp_path / "tb" / f"seed-{seed}")["epoch/number"]) for seed in (1, 2)] == [[5], [5]]
    capsys.readouterr()
    assert _train(*words, "3,2") == 2
    printed = capsys.readouterr()
    assert f"--tensorboard {tmp_path / 'tb' / 'seed-2'} holds the events of another run" in printed.err
    assert printed.out == "", "before the first step of the first"


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    out, folder, whole = tmp_path / "run", tmp_path / "tb", tmp_path / "whole"
    assert _train(*QUICK, "--epochs", "2", "--out", out, "--tensorboard", folder) == 0
    assert _train("--resume", out, "--epochs", "4", "--tensorboard", folder) == 0
    assert _train(*QUICK, "--epochs", "4", "--tensorboard", whole) == 0
    resumed, other = _shown(folder), _shown(whole)
    for tag in {*BY_EPOCH, *BY_STEP} - {"epoch/tokens_per_second", "batch/tokens_per_second"}:
        assert resumed[tag] == other[tag]


def test_what_came_after_the_checkpoint_is_dropped(tmp_path: Path) -> None:
    out, folder = tmp_path / "run", tmp_path / "tb"
    assert _train(*QUICK, "--epochs", "4", "--keep", "9", "--out", out, "--tensorboard", folder) == 0
    earlier = next(path for path in out.iterdir() if path.is_dir() and load_run(path).step == 10)
    assert _train("--resume", earlier, "--epochs", "3", "--overwrite", "--tensorboard", folder) == 0
    shown = _shown(folder)
    assert _steps(shown["perplexity/train"]) == [5, 10, 15]
    assert _steps(shown["batch/perplexity"]) == [1, 10]


def test_a_run_that_had_no_events_begins_with_its_epochs(tmp_path: Path) -> None:
    out, folder = tmp_path / "run", tmp_path / "tb"
    assert _train(*QUICK, "--epochs", "2", "--out", out) == 0
    assert _train("--resume", out, "--epochs", "3", "--tensorboard", folder) == 0
    points = _shown(folder)["perplexity/validation"]
    assert points == [
        (5 * record.epoch, pytest.approx(record.val_perplexity)) for record in load_run(out).position.epochs
    ]


def test_another_runs_events_are_not_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, folder = tmp_path / "run", tmp_path / "tb"
    assert _train(*QUICK, "--epochs", "1", "--out", out, "--tensorboard", folder) == 0
    other = tmp_path / "other"
    assert _train(*QUICK, "--epochs", "1", "--out", other) == 0
    capsys.readouterr()
    before = sorted(folder.iterdir())
    for words in ([*QUICK, "--out", tmp_path / "new"], ["--resume", other, "--epochs", "2"]):
        assert _train(*words, "--tensorboard", folder) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"d2lrnn: --tensorboard {folder} holds the events of another run")
    assert sorted(folder.iterdir()) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("name", "said"), [("", "needs the name of a folder"), ("file", "is a file")])
def test_a_name_that_does_not_fit_is_found_before_training(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert _train(*QUICK, "--tensorboard", name and tmp_path / name) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert (captured.err.count("\n"), captured.out) == (1, "")


def test_without_tensorboardx_the_command_that_installs_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard_events, "find_spec", lambda name: None)
    assert _train(*QUICK, "--tensorboard", tmp_path / "tb") == 2
    message = "--tensorboard needs tensorboardX, which is not installed here: pip install tensorboardX"
    assert capsys.readouterr() == ("", f"d2lrnn: {message}\n")
    assert list(tmp_path.iterdir()) == []


class _Unread:
    """A number of a device; it is an error to ask for it too early."""

    ready = False

    def __float__(self) -> float:
        assert self.ready, "the step would wait for the device"
        return 2.0


def test_no_step_waits_for_the_device(tmp_path: Path) -> None:
    events, numbers = TensorBoardEvents(str(tmp_path), "a" * 32, 0, []), [_Unread() for _ in range(20)]
    for step, number in enumerate(numbers, 1):
        if step > 9:
            numbers[step - 10].ready = True
        events.step(step, 0.1, Progress(1, 1, step, 20, 9.0, 100.0, number, number))
    numbers[-1].ready = True
    events.close()
    shown = _shown(tmp_path)
    assert shown["batch/gradient_norm"] == [(1, 2.0), (10, 2.0), (20, 2.0)]
    assert shown["batch/perplexity"][0][1] == pytest.approx(math.exp(2))


def test_a_perplexity_that_overflowed_is_left_out(tmp_path: Path) -> None:
    events = TensorBoardEvents(str(tmp_path), "a" * 32, 0, [])
    events.epoch(4, EpochRecord(1, math.inf, 9.0, 3.2, 3.0, 500.0, 4))
    events.close()
    assert "perplexity/train" not in _shown(tmp_path)
    assert _shown(tmp_path)["perplexity/validation"] == [(4, 9.0)]


def test_a_full_disk_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events, tried = TensorBoardEvents(str(tmp_path), "a" * 32, 0, []), []

    def full(event: Any) -> None:
        tried.append(event.step)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(events._writer, "write_event", full)
    record = EpochRecord(1, 9.0, 9.0, 3.2, 3.0, 500.0, 4)
    events.epoch(4, record)
    events.epoch(8, record)
    assert tried == [4]
    with pytest.raises(RunError, match=r"--tensorboard .* cannot be written: No space left on device"):
        events.close()


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is not installed here")
def test_tensorboard_itself_reads_the_same(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, folder = tmp_path / "run", tmp_path / "tb"
    assert _train(*QUICK, "--epochs", "4", "--keep", "9", "--out", out, "--tensorboard", folder) == 0
    earlier = next(path for path in out.iterdir() if path.is_dir() and load_run(path).step == 10)
    assert _train("--resume", earlier, "--epochs", "3", "--overwrite", "--tensorboard", folder) == 0
    read = EventAccumulator(str(folder))
    read.Reload()
    found = {
        tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]
    }
    assert found == _shown(folder)
