"""The driver with workers that are well, wrong, failing, hanging and crashing."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2lrnn.benchmark.driver import Entrant, Schedule, read_document, run
from d2lrnn.benchmark.pace import Pacer
from d2lrnn.benchmark.settings import (
    MODELS,
    OWN_LAYERS,
    SCALING,
    batches,
    combinations,
    find_model,
    find_setting,
    own_layer,
    spec_of,
    text_of,
)
from d2lrnn.errors import RunError, SpecError

SMALL = find_setting("4x5x8")

#: A subject of a file: the reference, changed by what a test puts in.
SUBJECT = """
import os, time
from d2lrnn.benchmark.subject import BackendSubject, UnsupportedError
from d2lrnn.registry import backend

class Subject(BackendSubject):
    def contestant(self, spec, parameters, training, *, device):
        made = super().contestant(spec, parameters, training, device=device)
        {change}
        return made

def subject():
    return Subject(backend("numpy"))
"""


def _schedule(**changes: Any) -> Schedule:
    values: dict[str, Any] = {
        "settings": (SMALL,), "models": (find_model("rnn-scratch"),), "rounds": 1, "seconds": 0.01,
        "min_steps": 2, "timeout": 60.0, "target_seconds": 0.1, "quick": True,
    }  # fmt: skip
    return Schedule(**(values | changes))


def _entrant(folder: Path, name: str, change: str) -> Entrant:
    path = folder / f"{name}.py"
    path.write_text(SUBJECT.format(change=change.replace("\n", "\n        ")))
    return Entrant(name, "backend", name, str(path))


def _numpy(name: str = "numpy") -> Entrant:
    return Entrant(name, "backend", "numpy", "numpy")


def test_a_cell_is_measured(tmp_path: Path) -> None:
    save = tmp_path / "bench.json"
    document = run(_schedule(), [_numpy()], save=save)
    (row,) = document["rows"]
    assert row["status"] == "ok", row
    assert len(row["steps"]) >= 2
    assert len(row["forward"]) >= 2
    assert len(row["floor"]) >= 2
    assert all(sample > 0 for name in ("steps", "forward", "floor") for sample in row[name])
    assert len(row["losses"]) == 50
    assert row["losses"][-1] < row["losses"][0]
    assert max(row["off"].values()) < 1e-4
    assert set(row["off"]) == {"loss", "rnn.0.w_x", "rnn.0.w_h", "rnn.0.b", "head.w", "head.b"}
    assert row["first_step"] > 0
    assert row["versions"]["numpy"]
    assert len(row["load"]) == 2
    assert row["pace"] is None
    assert document["quick"] is True
    assert document["machine"]["threads"] == 1
    assert read_document(save) == json.loads(json.dumps(document))


def test_a_run_that_is_not_quick_records_how_quiet_the_machine_was(monkeypatch: pytest.MonkeyPatch) -> None:
    document = run(_schedule(quick=False), [_numpy()])
    (row,) = document["rows"]
    assert row["status"] == "ok", row
    assert 0 < row["pace"] < 1
    # Going on, it knows the least so far: a machine is never as fast as this one was.
    row["pace"] = 1e-9
    pauses: list[float] = []
    monkeypatch.setattr("d2lrnn.benchmark.driver.Pacer", partial(Pacer, sleep=pauses.append))
    run(_schedule(quick=False, rounds=2, patience=4.0), [_numpy()], document)
    assert len(pauses) == 2


def test_with_32_units_it_also_generates_and_learns() -> None:
    schedule = _schedule(settings=(find_setting("4x5x32"),))
    (row,) = run(schedule, [_numpy()])["rows"]
    assert row["generation"]["characters_per_second"] > 100
    assert row["generation"]["first_character"] > 0
    assert row["target"]["steps"] > 0


@pytest.mark.slow
def test_a_subject_with_its_own_generation_is_asked_for_as_much_as_time_allows(tmp_path: Path) -> None:
    own = """
def write(vocab, prefix, number):
    assert vocab[prefix[0]] > 0
    time.sleep({seconds} * (len(prefix) - 1 + number))
    return prefix
made.write = write
made.predict_step = None"""
    entrants = [_entrant(tmp_path, name, own.replace("{seconds}", seconds))
                for name, seconds in (("quick", "1e-5"), ("slow", "0.02"), ("slowest", "0.5"))]  # fmt: skip
    schedule = _schedule(settings=(find_setting("4x5x32"),), seconds=0.5)
    rows = {row["name"]: row for row in run(schedule, entrants)["rows"]}
    found = {name: row["generation"] for name, row in rows.items()}
    assert found["quick"]["characters"] >= 100
    assert found["quick"]["characters"] % 100 == 0
    # As much a second as in texts of 100: 100 characters in 105 steps. Sleep may take longer, never shorter.
    assert 5 < found["slow"]["characters_per_second"] <= 100 / 105 / 0.02
    assert 1 <= found["slow"]["characters"] < 50
    assert found["slow"]["first_character"] >= 6 * 0.02
    assert found["slowest"]["characters"] < 5
    assert 0.3 < found["slowest"]["characters_per_second"] <= 100 / 105 / 0.5


def test_subjects_have_their_turns_round_by_round() -> None:
    told: list[str] = []
    schedule = _schedule(rounds=2)
    run(schedule, [_numpy("a"), _numpy("b")], on_worker=lambda what, done, total: told.append(what))
    assert [what.split()[1] + what.split()[-1] for what in told] == ["1a", "1b", "2a", "2b"]


def test_wrong_numbers_have_no_time(tmp_path: Path) -> None:
    wrong_gradient = """
gradients = made.gradients
def changed(batch, state):
    loss, values = gradients(batch, state)
    values["rnn.0.w_h"] = values["rnn.0.w_h"] * 1.001
    return loss, values
made.gradients = changed"""
    wrong_training = """
made.learning_rate = 0.5"""
    missing = """
gradients = made.gradients
made.gradients = lambda batch, state: (gradients(batch, state)[0], {{}})"""
    not_a_number = """
made.gradients = lambda batch, state: (float("nan"), {})""".replace(
        "{}", "type(made).gradients(made, batch, state)[1]"
    )
    entrants = [
        _entrant(tmp_path, "gradient", wrong_gradient),
        _entrant(tmp_path, "training", wrong_training),
        _entrant(tmp_path, "missing", missing.replace("{{}}", "{}")),
        _entrant(tmp_path, "nan", not_a_number),
        _numpy(),
    ]
    rows = {row["name"]: row for row in run(_schedule(), entrants)["rows"]}
    assert rows["gradient"]["reason"] == "the gradient of rnn.0.w_h is off by 1.0e-03; 1e-04 is allowed"
    assert rows["training"]["reason"].startswith("the loss of training step 2 is off by")
    assert rows["missing"]["reason"].startswith("gradients are missing or unknown: head.b")
    assert rows["nan"]["reason"] == "the loss is off by nan; 1e-05 is allowed"
    for name in ("gradient", "training", "missing", "nan"):
        assert rows[name]["status"] == "wrong"
        assert not {"steps", "forward", "floor", "first_step"} & set(rows[name])
    assert rows["numpy"]["status"] == "ok"


@pytest.mark.slow
def test_what_fails_hangs_or_crashes_is_a_row_with_its_reason(tmp_path: Path) -> None:
    entrants = [
        _entrant(tmp_path, "raises", "raise ValueError('no such thing\\nsecond line')"),
        _entrant(tmp_path, "unsupported", "raise UnsupportedError('it has no such model')"),
        _entrant(tmp_path, "hangs", "time.sleep(600)"),
        _entrant(tmp_path, "crashes", "os.abort()"),
        _entrant(tmp_path, "exits", "print('last words', flush=True); os._exit(3)"),
        Entrant("nowhere", "backend", "nowhere", str(tmp_path / "nowhere.py")),
        Entrant("no python", "backend", "numpy", "numpy", python=str(tmp_path / "python")),
        _numpy(),
    ]
    started = time.monotonic()
    rows = {row["name"]: row for row in run(_schedule(timeout=5.0), entrants)["rows"]}
    assert time.monotonic() - started < 100
    assert (rows["raises"]["status"], rows["raises"]["reason"]) == ("failed", "ValueError: no such thing")
    assert rows["unsupported"]["status"] == "unsupported"
    assert rows["unsupported"]["reason"] == "it has no such model"
    assert rows["hangs"]["reason"] == "no end after 5 s"
    assert rows["crashes"]["reason"].startswith("ended with signal SIGABRT")
    assert rows["exits"]["reason"] == "ended with exit code 3: last words"
    assert "there is no file" in rows["nowhere"]["reason"]
    assert "cannot be started: No such file" in rows["no python"]["reason"]
    assert rows["numpy"]["status"] == "ok"


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    save, told = tmp_path / "bench.json", []

    def watch(what: str, done: int, total: int) -> None:
        told.append(what.split()[-1])

    bad = _entrant(tmp_path, "b", "raise ValueError('not today')")
    first = run(_schedule(), [_numpy("a"), bad], save=save, on_worker=watch)
    assert [row["status"] for row in first["rows"]] == ["ok", "failed"]
    good = _entrant(tmp_path, "b", "pass")
    second = run(_schedule(), [_numpy("a"), good], read_document(save), save=save, on_worker=watch)
    assert told == ["a", "b", "b"]
    assert [row["status"] for row in second["rows"]] == ["ok", "ok"]
    assert second["rows"][0] == first["rows"][0]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}'])
def test_what_is_no_document_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"bench\.json"):
        read_document(path)


def test_scaling_changes_length_and_batch_alone() -> None:
    settings = [find_setting(name) for name in SCALING]
    assert {setting.num_hiddens for setting in settings} == {256}
    assert {setting.num_steps for setting in settings} >= {16, 256}
    assert {setting.batch_size for setting in settings} >= {32, 1024}


def test_equal_models_of_a_setting_are_measured_once() -> None:
    large = [model.name for _, model in combinations([find_setting("L")], list(MODELS.values()))]
    assert "stacked-scratch" not in large  # two layers, as rnn-scratch has there
    assert len(large) == 6
    assert len(combinations([find_setting("C")], list(MODELS.values()))) == 7


def test_every_model_has_an_own_layer_of_its_size() -> None:
    for name in ("M", "L"):
        for model in MODELS.values():
            spec, own = (
                spec_of(find_setting(name), m) for m in (model, own_layer(find_setting(name), model))
            )
            assert (own.cell, own.num_layers, own.implementation) == (spec.cell, spec.num_layers, "concise")
            assert own.reset_after in (None, True)
    assert own_layer(find_setting("C"), MODELS["stacked-scratch"]) == OWN_LAYERS["rnn-2"]


def test_batches_are_the_same_for_everybody_and_fit_the_setting() -> None:
    one, other = batches(SMALL), batches(SMALL)
    first, again = next(one), next(other)
    assert first.inputs.shape == first.targets.shape == (4, 5)
    assert (first.inputs == again.inputs).all()
    assert (first.inputs[:, 1:] == first.targets[:, :-1]).all()
    assert (next(one).inputs != first.inputs).any()


def test_words_are_as_unequal_as_those_of_a_text() -> None:
    setting = find_setting("W")
    text = text_of(setting)
    assert (text.dtype, text.shape) == (np.int32, (2_000_000,))
    counts = np.bincount(text, minlength=setting.vocab_size)
    assert len(counts) == 10_000
    assert (counts > 0).all()
    # Zipf's law, within four standard deviations of drawing.
    expected = len(text) / np.arange(1, 10_001) / (1 / np.arange(1, 10_001)).sum()
    assert (abs(counts - expected) < 4.5 * np.sqrt(expected) + 1).all()
    assert next(batches(setting, text)).inputs.shape == (20, 35)
    assert setting.describe() == "batch 20, steps 35, hidden 650, 2 layers, embedding 650, 10000 words"


def test_a_setting_of_words_is_for_the_models_of_words() -> None:
    settings = [find_setting("W"), find_setting("C")]
    assert [model.name for setting, model in combinations(settings, None) if setting.name == "W"] == [
        "lstm-2"
    ]
    assert len(combinations(settings, None)) == 1 + 7
    spec = spec_of(settings[0], MODELS["lstm-2"])
    assert (spec.vocab_size, spec.embedding_size, spec.num_layers) == (10_000, 650, 2)
    asked = combinations(settings[:1], [MODELS["rnn-scratch"]])
    assert [model.name for _, model in asked] == ["rnn-scratch"]


@pytest.mark.parametrize("name", ["X", "0x5x8", "4x5", "4x5x8x2", ""])
def test_unknown_settings(name: str) -> None:
    with pytest.raises(SpecError, match="choose from M, C, L, W, W33, Q"):
        find_setting(name)


def test_unknown_models() -> None:
    with pytest.raises(SpecError, match="unknown model 'transformer': choose from rnn-scratch"):
        find_model("transformer")
