"""From argv to a request, and from that to specifications."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from d2lrnn.cli.commands.backends import BackendsRequest
from d2lrnn.cli.commands.bench import BenchRequest
from d2lrnn.cli.commands.chapter import ChapterRequest
from d2lrnn.cli.commands.chat import ChatRequest
from d2lrnn.cli.commands.generate import GenerateRequest
from d2lrnn.cli.commands.train import TrainRequest
from d2lrnn.cli.main import main
from d2lrnn.cli.new_run import NUM_EPOCHS, new_run
from d2lrnn.cli.parser import parse
from d2lrnn.cli.train_options import OPTIONS, option_of
from d2lrnn.contract import optimizers
from d2lrnn.contract.cells import GRU
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.errors import SpecError
from d2lrnn.registry import backend
from d2lrnn.training.schedules import SCHEDULES, Cosine

SHORT = ["--num-train", "60", "--num-val", "20", "--steps", "8"]


def test_what_is_not_given_has_its_default() -> None:
    assert parse(["train"]) == TrainRequest()
    assert parse(["generate", "runs/a"]) == GenerateRequest("runs/a")
    assert parse(["chat", "runs/a"]) == ChatRequest("runs/a")
    assert parse(["chapter", "x.md"]) == ChapterRequest("x.md")
    assert parse(["bench"]) == BenchRequest()
    assert parse(["backends", "--debug"]) == BackendsRequest(debug=True)


def test_a_request_is_a_frozen_value() -> None:
    request = parse(["generate", "train", "--num", "3", "--top-k", "2"])
    assert request == GenerateRequest("train", num_tokens=3, top_k=2)
    with pytest.raises(FrozenInstanceError):
        request.debug = True  # type: ignore[misc]


def test_every_option_of_training_is_a_field_of_a_specification() -> None:
    kinds: dict[str, list[type[Any]]] = {"model": [ModelSpec], "data": [DataSpec], "training": [TrainingSpec]}
    kinds["optimizer"], kinds["schedule"] = [*optimizers.OPTIMIZERS.values()], [*SCHEDULES.values()]
    for option in OPTIONS:
        names = {field.name for kind in kinds[option.group] for field in fields(kind)} | {"name"}
        assert option.field in names, option
    # And the other way round: whatever an optimizer or a schedule has can be given.
    for group in ("optimizer", "schedule"):
        for kind in kinds[group]:
            assert {option_of(group, field.name).field for field in fields(kind)}


def test_the_help_says_the_defaults_of_the_specifications() -> None:
    values: dict[str, Any] = {
        "model": ModelSpec(1), "data": DataSpec(), "training": TrainingSpec(),
    }  # fmt: skip
    checked = set()
    for option in OPTIONS:
        expected = re.search(r"default: (\S+?)[;,)]", option.help)
        if expected is None or option.group not in values or option.flag in ("--lr", "--normalize"):
            continue
        default = getattr(values[option.group], option.field)
        if default is not None:
            assert expected[1] == (f"{default:g}" if isinstance(default, float) else str(default)), option
            checked.add(option.flag)
    assert {"--cell", "--hidden", "--iterator", "--batch-size", "--clip", "--accumulate"} <= checked


def _new(*argv: str) -> Any:
    request = parse(["train", *argv])
    assert isinstance(request, TrainRequest)
    return new_run(request, backend("numpy"))


def test_the_defaults_are_the_books() -> None:
    run, corpus, _ = _new()
    assert run.model == ModelSpec(len(corpus.vocab))
    assert run.training == TrainingSpec(learning_rate=1.0, clip=1.0, optimizer=optimizers.SGD())
    assert run.data == DataSpec()
    assert run.num_epochs == NUM_EPOCHS == 100
    assert _new("--iterator", "random")[0].data == DataSpec(iterator="random", batch_size=32, num_steps=35)


def test_options_become_specifications() -> None:
    options = [
        "--optimizer",
        "adamw",
        "--beta2",
        "0.99",
        "--schedule",
        "cosine",
        "--warmup",
        "5",
        "--seed",
        "3",
    ]
    model = [
        "--cell",
        "gru",
        "--embedding",
        "32",
        "--tied",
        "--input-dropout",
        "0.2",
        "--output-dropout",
        "0.3",
    ]
    batches = ["--batch-size", "10", "--accumulate", "3", "--epochs", "6", "--clip", "none"]
    run, corpus, data = _new(*SHORT, *options, *model, *batches)
    assert run.model == ModelSpec(
        len(corpus.vocab), GRU.name, embedding_size=32, tied=True, input_dropout=0.2, output_dropout=0.3
    )
    # The rate is the optimizer's own, and the decay as long as the run.
    assert run.training == TrainingSpec(
        optimizers.AdamW.default_rate,
        clip=None,
        seed=3,
        optimizer=optimizers.AdamW(beta2=0.99),
        schedule=Cosine(warmup=5, steps=12),
        accumulate=3,
    )
    assert (run.data.batch_size, run.data.seed, data.num_train_batches) == (30, 3, 2)


@pytest.mark.parametrize("iterator", ["sliding", "sequential"])
def test_accumulated_batches_are_a_batch_that_many_times_as_large(iterator: str, tmp_path: Any) -> None:
    """The numbers of K batches of B rows are those of one batch of K B rows."""
    import json

    found = []
    sizes = {"sliding": SHORT, "sequential": ["--steps", "8"]}[iterator]
    for batches in (["--batch-size", "24"], ["--batch-size", "8", "--accumulate", "3"]):
        file = tmp_path / "result.json"
        options = ["--iterator", iterator, "--epochs", "2", "--hidden", "6", *sizes, *batches]
        assert main(["train", *options, "--json", str(file)]) == 0
        found.append([epoch["val_perplexity"] for epoch in json.loads(file.read_text())["epochs"]])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_names_are_in_any_case() -> None:
    request = parse(["train", "--cell", "GRU", "--optimizer", "AdamW"])
    assert isinstance(request, TrainRequest)
    assert (request.model["cell"], request.optimizer["name"]) == ("gru", "adamw")


def test_a_schedule_without_decay_is_none() -> None:
    assert _new(*SHORT, "--schedule", "constant")[0].training.schedule is None
    assert _new(*SHORT, "--warmup", "4")[0].training.schedule == SCHEDULES["constant"](warmup=4)


def test_what_is_wrong_is_found_before_the_text_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataSpec, "load", lambda *_: pytest.fail("the text was read"))
    for options in (
        ["--cell", "x"], ["--optimizer", "x"], ["--beta1", "0.5"], ["--schedule", "x"], ["--warmup", "-1"],
        ["--schedule-gamma", "0.5"], ["--schedule", "cosine", "--schedule-final", "2"], ["--lr", "0"],
    ):  # fmt: skip
        with pytest.raises(SpecError):
            _new(*options)


def test_a_backend_that_lacks_the_cell_says_which_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = backend("numpy")
    monkeypatch.setattr(type(numpy), "cells", lambda self, implementation: ["rnn"])
    expected = "the backend numpy has no scratch model with the cell gru: choose one of rnn"
    with pytest.raises(SpecError, match=expected):
        new_run(TrainRequest(model={"cell": GRU.name}), numpy)
