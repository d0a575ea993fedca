"""``d2lrnn bench --workers``: the report from given times, and what is refused; tests/parity measures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from d2lrnn.benchmark.group import Group, MemberError
from d2lrnn.benchmark.member import Job
from d2lrnn.benchmark.reference import write_reference
from d2lrnn.benchmark.workers import agreed
from d2lrnn.benchmark.workers_table import workers_table
from d2lrnn.cli.main import main

TIMES = {
    "one": {"step": [[0.8, 0.4], [0.4, 0.4]], "products": [[0.3, 0.3], [0.3, 0.3]]},
    "workers": {
        "step": [[0.4, 0.2], [0.2, 0.25]], "products": [[0.15, 0.15], [0.15, 0.2]],
        "own rows": [[0.3, 0.15], [0.15, 0.2]], "reduction": [[0.04, 0.02], [0.02, 0.05]],
    },
    "threads": {"step": [[0.5, 0.45], [0.3, 0.3]]},
}  # fmt: skip
ROW = {
    "name": "some", "setting": "Q", "model": "rnn", "status": "ok", "times": TIMES, "load": [0.5, None],
    "versions": {"some": "1.0"}, "message": 4_000_000, "off_from_one": 2e-7,
}  # fmt: skip


def _document(*rows: dict[str, Any]) -> dict[str, Any]:
    machine = {"processor": "P", "cores": 2, "system": "S", "threads": 1}
    schedule = {"settings": {"Q": "batch 32"}, "rounds": 2, "device": "cpu"}
    return {"quick": False, "workers": 2, "machine": machine, "schedule": schedule, "rows": list(rows)}


def test_figures_are_medians_of_ratios_within_a_turn() -> None:
    text = workers_table(_document(ROW))
    speed = (
        "| Q | some | rnn | 400 | 225 | 2.00 (1.90–2.00) | 2.00 (1.88–2.00) | 1.00 (1.00–1.02) | 375 |"
        " 1.33 (1.22–1.40) | workers |"
    )
    assert speed in text
    reduction = "| Q | some | rnn | 4.0 | 225 | 175 | 0.25 (0.24–0.25) | 30 | 0.10 (0.10–0.12) | 2e-07 |"
    assert reduction in text
    assert "load average 0.5 to 0.5" in text


def test_no_one_is_faster_within_the_noise_or_in_a_single_round() -> None:
    slower = {**TIMES, "threads": {"step": [[0.5, 0.45], [0.18, 0.2]]}}
    assert "| neither |" in workers_table(_document({**ROW, "times": slower}))
    first = {name: {what: rounds[:1] for what, rounds in each.items()} for name, each in TIMES.items()}
    assert "| 475 | 1.24 (1.07–1.42) | – |" in workers_table(_document({**ROW, "times": first}))


def test_what_failed_stays_with_its_reason() -> None:
    failed = {"name": "some", "setting": "Q", "model": "rnn", "status": "failed", "reason": "process 1 ended"}
    assert "| Q | some | rnn | ✗ process 1 ended |" in workers_table(_document(failed))


def test_several_workers_are_held_to_the_one() -> None:
    one = {"losses": [3.3, 3.2], "norms": [0.5, 0.4], "versions": {}, "message": 4, "off": {}}
    ready = {"one": [one], "workers": [one, {**one, "norms": [0.5, 0.40001]}], "threads": [one]}
    with pytest.raises(MemberError, match=r"norms of several workers: training step 2 is off by 2.5e-05"):
        agreed(ready)
    ready["workers"][1] = {**one, "losses": [3.3, 3.2 * (1 + 2e-7)]}
    assert agreed(ready)["off_from_one"] == pytest.approx(2e-7)


def test_processes_run_at_once_and_say_what_failed(tmp_path: Path) -> None:
    right, wrong = tmp_path / "4x3x8.npz", tmp_path / "5x3x8.npz"
    for path in (right, wrong):
        write_reference(path.stem, "rnn", path)
    job = Job("numpy", "4x3x8", "rnn", str(right))
    with Group(sys.executable, [job, job], [{}, {}], errors=tmp_path, timeout=60.0) as group:
        assert [each["runs"] for each in group.ready] == [["step", "products"]] * 2
        assert 0 < group.seconds("step", 0.01) < 60
    for reason, broken in {
        "the loss is off by": Job("numpy", "4x3x8", "rnn", str(wrong)),
        r"process 1 ended: FileNotFoundError": Job("numpy", "4x3x8", "rnn", str(tmp_path / "none.npz")),
    }.items():
        with (
            Group(sys.executable, [job, broken], [{}, {}], errors=tmp_path, timeout=60.0) as group,
            pytest.raises(MemberError, match=reason),
        ):
            _ = group.ready
    with (
        Group(sys.executable, [job], [{}], errors=tmp_path, timeout=0.01) as group,
        pytest.raises(MemberError, match=r"no answer within 0.01 s"),
    ):
        _ = group.ready


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "1"], "--workers is 1: it must be at least 2"),
        (["--workers", "2", "--threads", "2"], "--threads does not go with --workers"),
        (["--workers", "2", "--html", "x.html"], "--html does not go with --workers"),
        (["--workers", "2", "--backends", "numpy"], "the backend numpy computes in one process"),
    ],
)
def test_what_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err
