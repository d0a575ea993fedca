"""``d2lrnn verify`` on backends that are broken on purpose, as other packages bring them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from d2lrnn_numpy.adapter import NumpyBackend

import d2lrnn
from d2lrnn.benchmark.reference import check_parameters_of
from d2lrnn.cli.main import main
from d2lrnn.contract import cells
from d2lrnn.contract.values import Device, FloatArray, Implementation
from d2lrnn.installation.faults import Fault
from d2lrnn.registry import BackendEntry
from d2lrnn.verification import products, record, surroundings, worker
from d2lrnn.verification.comparison import Judge, compare
from d2lrnn.verification.models import BATCH_SIZE, TRAININGS, given, tasks
from d2lrnn.verification.pace import Pace
from d2lrnn.verification.products import check_products
from d2lrnn.verification.report import gathered
from d2lrnn.verification.surroundings import Processors
from d2lrnn.verification.worker import Plan

#: A backend for each fault: what its learner does in place of NumPy's.
LEARNERS = {
    "same": "",
    "off": """
    def _update(self, gradients, scale):
        if "rnn.1.w_h" in gradients:
            gradients["rnn.1.w_h"] *= 1.001
        super()._update(gradients, scale)
""",
    "nan": """
    def train_step(self, batch, state):
        result, state = super().train_step(batch, state)
        return StepResult(float("nan"), result.grad_norm), state
""",
    "raises": """
    def train_step(self, batch, state):
        raise OSError("out of handles\\nand more")
""",
    "dies": """
    def train_step(self, batch, state):
        print("out of memory", flush=True)
        os.kill(os.getpid(), 9)
""",
    "hangs": """
    def train_step(self, batch, state):
        Path(os.environ["HANGS"]).write_text(str(os.getpid()))
        threading.Event().wait()
""",
    "few": "",
    "short": """
    def __init__(self, model, training):
        if model.spec.dtype == "float64":
            raise SpecError("this device has no float64")
        super().__init__(model, training)
""",
}

ADAPTER = """
import os, threading
from pathlib import Path
from d2lrnn.contract.values import StepResult
from d2lrnn.errors import SpecError
from d2lrnn_numpy.adapter import NumpyBackend, NumpyLearner

class Learner(NumpyLearner):
    '''As NumPy's, but for one thing.'''
{learner}

class StubBackend(NumpyBackend):
    name = "{name}"

    def versions(self):
        return {{"{name}-framework": "7.1"}}

    def learner(self, model, training, *, device="auto"):
        return Learner(model, training)
"""

#: The product of a backend's own module ``verification``, which rounds its factors to 11 bits.
ROUNDING = """
import numpy as np

def rounded(array):
    if array.dtype != np.float32:
        return array
    return ((array.view(np.uint32) + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)

def products(device):
    def product(left, right, transpose_left, transpose_right):
        left, right = rounded(left), rounded(right)
        return (left.T if transpose_left else left) @ (right.T if transpose_right else right)
    return {"rounding": product}
"""

Verify = Callable[..., tuple[int, str, str]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package for each stub, and one whose framework is not there."""
    folder = tmp_path / "site"
    files = {}
    for name, learner in LEARNERS.items():
        files[f"{name}_rnn/__init__.py"] = ""
        files[f"{name}_rnn/adapter.py"] = ADAPTER.format(name=name, learner=learner)
        files[f"{name}_rnn-1.0.dist-info/METADATA"] = (
            f"Metadata-Version: 2.1\nName: {name}-rnn\nVersion: 1.0\n"
        )
        files[f"{name}_rnn-1.0.dist-info/entry_points.txt"] = (
            f"[d2lrnn.backends]\n{name} = {name}_rnn.adapter:StubBackend\n"
        )
    points = "same_rnn-1.0.dist-info/entry_points.txt"
    files[points] += "gone = gone_rnn.adapter:Gone\nbroken = broken_rnn.adapter:Broken\n"
    files["broken_rnn/__init__.py"] = ""
    files["broken_rnn/adapter.py"] = "import a_framework_that_is_not_here"
    files["short_rnn/verification.py"] = ROUNDING
    files["few_rnn/adapter.py"] += """
    def cells(self, implementation):
        return ["gru"]
"""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("HANGS", str(tmp_path / "hangs"))
    return folder


@pytest.fixture
def verify(site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verifies models of one cell, and returns the exit code and what was printed."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["verify", "--cell", "rnn", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_what_agrees_and_what_is_not_there(verify: Verify, tmp_path: Path) -> None:
    code, printed, log = verify("--backend", "same", "--json", str(tmp_path / "a.json"))
    assert code == 0, printed
    assert printed.startswith("same: agrees: same-framework 7.1\n")
    assert "   1/1  same\n" in log
    told = json.loads((tmp_path / "a.json").read_text())
    (backend,) = told["backends"]
    assert (told["agrees"], backend["verdict"]) == (True, "agrees")
    (device,) = backend["devices"]
    assert {(each["model"], each["dtype"], each["part"]) for each in device["comparisons"]} == {
        ("rnn scratch", "float32", "outputs"), ("rnn scratch", "float32", "gradients"),
        ("rnn scratch", "float32", "sgd"), ("rnn scratch", "float64", "outputs"),
        ("rnn concise", "float32", "outputs"), ("rnn concise", "float32", "gradients"),
        ("rnn concise", "float32", "adam"), ("rnn concise", "float64", "outputs"),
        ("rnn concise", "float64", "gradients"), ("rnn concise", "float64", "sgd"),
    }  # fmt: skip
    bounds = {(each["dtype"], each["part"]): each["bound"] for each in device["comparisons"]}
    assert bounds["float32", "outputs"] == 1e-6
    assert bounds["float32", "gradients"] == 1e-5
    lines = printed.splitlines()
    assert lines[-2] == "For a bug report:"
    assert lines[-1] == backend["line"]
    assert re.search(
        r"^d2lrnn \S+ \| same \| same-framework 7\.1 \| Python .* \| numpy .* \| cpu \(.*\): "
        r"float32 outputs \d\.\de-0\d of 1e-06, gradients .* of 1e-05, sgd .*; float64 .* \| agrees$",
        lines[-1],
    )  # fmt: skip


def test_a_gradient_that_is_off(verify: Verify, tmp_path: Path) -> None:
    code, printed, _ = verify("--backend", "off", "--json", str(tmp_path / "a.json"))
    assert code == 1
    assert printed.startswith("off: differs: off-framework 7.1\n")
    told = re.search(r"gradients of rnn scratch in float32: rnn\.1\.w_h is off by (\S+); 1e-05 is", printed)
    assert told is not None
    assert 1e-4 < float(told[1]) < 2e-3
    assert printed.rstrip().endswith(" | differs")
    (backend,) = json.loads((tmp_path / "a.json").read_text())["backends"]
    (off, *_) = [each for each in backend["devices"][0]["comparisons"] if each["part"] == "gradients"]
    assert off["where"] == "rnn.1.w_h"


def test_no_number_is_a_difference(verify: Verify, tmp_path: Path) -> None:
    code, printed, _ = verify("--backend", "nan", "--json", str(tmp_path / "a.json"))
    assert code == 1
    assert "sgd of rnn scratch in float32: the loss after 0 steps is off by inf; 1e-05 is allowed" in printed
    (backend,) = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)["backends"]
    assert None in [each["worst"] for each in backend["devices"][0]["comparisons"]]


def test_an_error_of_a_model_is_told_and_the_others_are_compared(verify: Verify) -> None:
    code, printed, _ = verify("--backend", "raises")
    assert code == 1
    assert "raises: broken: raises-framework 7.1\n" in printed
    assert "rnn scratch in float32 on cpu: OSError: out of handles\n" in printed
    assert re.search(r"^raises cpu float32 +\d\.\de-0\d +- +- +-$", printed, re.MULTILINE)


def test_a_process_that_dies_keeps_what_was_found(verify: Verify) -> None:
    code, printed, _ = verify("--backend", "dies")
    assert code == 1
    assert "dies: broken: dies-framework 7.1\n" in printed
    assert "its process ended with SIGKILL, after: out of memory; it was at: rnn scratch in" in printed
    assert re.search(r"^dies cpu float32 +\d\.\de-0\d +- +- +-$", printed, re.MULTILINE)


@pytest.mark.slow
def test_a_process_that_hangs_is_ended(verify: Verify) -> None:
    code, printed, _ = verify("--backend", "hangs", "--timeout", "3")
    assert code == 1
    assert "it told nothing for 3 seconds, and was ended; it was at: " in printed


def test_without_float64_and_with_short_factors_it_agrees(verify: Verify) -> None:
    code, printed, _ = verify("--backend", "short")
    assert code == 0, printed
    told = " ".join(printed.split())
    assert "note: rnn concise in float64 on cpu: this device has no float64" in told
    assert "note: rounding in float32 keeps 11 of 24 bits of its factors, as TF32 or float16 does" in told


def test_a_cell_that_it_does_not_have(verify: Verify) -> None:
    code, printed, log = verify("--backend", "few")
    assert code == 2
    assert printed.startswith("few: nothing compared: few-framework 7.1\n")
    assert log.endswith("d2lrnn: no backend here has any of the cells of --cell: nothing was compared\n")


def test_what_is_missing_is_no_failure_and_what_cannot_be_imported_is(verify: Verify) -> None:
    code, printed, log = verify("--backend", "gone")
    assert (code, printed) == (2, "")
    assert "the backend gone needs gone_rnn, which is not installed here" in log
    code, printed, _ = verify("--backend", "broken")
    assert code == 1
    assert "broken: broken: ModuleNotFoundError: No module named 'a_framework_that_is_not_here'" in printed


@pytest.mark.slow
def test_all_of_an_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a name all that the table has: one line for what is missing, and exit code 0."""
    monkeypatch.setenv("COLUMNS", "30")
    assert main(["verify", "--cell", "gru", "--json", str(tmp_path / "a.json")]) == 0
    printed = capsys.readouterr().out
    assert "\nnumpy: agrees: numpy" in printed
    assert "torch: not installed: pip\ninstall torch\n" in printed
    shown, _, pasted = printed.partition("\nFor a bug report:\n")
    assert max(map(len, shown.splitlines())) <= 30
    assert len(pasted.splitlines()) == 1
    told = json.loads((tmp_path / "a.json").read_text())
    verdicts = {each["name"]: each["verdict"] for each in told["backends"]}
    assert verdicts == dict.fromkeys(("torch", "jax", "tensorflow", "mxnet"), "not installed") | {
        "numpy": "agrees"
    }
    models = [each["model"] for each in told["backends"][-1]["devices"][0]["comparisons"]]
    assert set(models) == {"gru scratch", "gru scratch, reset after", "gru concise"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--backend", "pandas"], "unknown backend 'pandas': choose one of "),
        (["--backend", "torch"], "the backend torch needs torch, which is not installed here. Install it "),
        (["--cell", "grue"], "--cell: unknown cell 'grue': choose one of "),
        (["--device", "tpu"], "'tpu' is not the name of a device: use auto, cpu, gpu or gpu:0"),
        (["--backend", "numpy", "--device", "gpu"], "there is no device gpu:0 for this backend. "),
        (["--env", "numpy"], "--env numpy: it must be a backend and an interpreter, as in numpy=/path/"),
        (["--env", "numpy=/nowhere/python"], "--env numpy=/nowhere/python: there is no program /nowhere/py"),
        (["--env", f"pandas={sys.executable}"], "unknown backend 'pandas'"),
        (["--backend", "torch", "--env", f"numpy={sys.executable}"], "the backend torch needs torch, which "),
        (["--timeout", "0"], "--timeout is 0: it must be a number above 0"),
        (["--json", "/nowhere/a.json"], "--json /nowhere/a.json cannot be written"),
    ],
)
def test_wrong_requests_are_one_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *argv]) == 2
    log = capsys.readouterr().err
    assert f"d2lrnn: {message}" in log
    assert log.rstrip().splitlines()[-1].startswith("d2lrnn: ")


@pytest.mark.slow
def test_another_environment(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The interpreter is this one, with what is installed in it, or another that has no d2lrnn."""
    code = main(["verify", "--cell", "rnn", "--backend", "numpy", "--env", f"numpy={sys.executable}"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert printed.startswith("numpy: agrees: numpy ")
    assert "in the environment of" in printed

    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'd2lrnn'\" >&2; exit 1\n")
    python.chmod(0o755)
    assert main(["verify", "--backend", "torch", "--env", f"torch={python}"]) == 2
    captured = capsys.readouterr()
    mend = f"{python} -m pip install d2lrnn=="
    assert "".join(captured.out.split()).startswith(f"torch: not installed: {mend}".replace(" ", ""))
    assert captured.err.splitlines()[-1].startswith(
        f"d2lrnn: the backend torch of {python} is not installed: {mend}"
    )

    event = {"event": "environment", "d2lrnn": "0.0.1", "python": "3.11", "numpy": "2.0", "processors": 1}
    event |= {"system": "Linux", "processor": "x86"}
    python.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"print({json.dumps(event)!r}, file=open(json.loads(sys.argv[4])['events'], 'w'))\n"
    )
    assert main(["verify", "--backend", "torch", "--env", f"torch={python}"]) == 1
    assert "d2lrnn 0.0.1 is installed there, and " in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_json_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    code = subprocess.run(
        [sys.executable, "-m", "d2lrnn", "verify", "--backend", "numpy", "--cell", "mgu", "--json", "-"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert code.returncode == 0, code.stderr
    assert json.loads(code.stdout)["agrees"] is True
    assert "numpy: agrees" in code.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_no_process(site: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(site), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-m", "d2lrnn", "verify", "--backend", "hangs", "--cell", "rnn"],
        env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    hangs = tmp_path / "hangs"
    while not (hangs.exists() and hangs.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, log = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert log.splitlines()[-1] == "d2lrnn: interrupted"
    with pytest.raises(ProcessLookupError):
        os.kill(int(hangs.read_text()), 0)


def _numpys(left: FloatArray, right: FloatArray, transpose_left: bool, transpose_right: bool) -> FloatArray:
    product: FloatArray = (left.T if transpose_left else left) @ (right.T if transpose_right else right)
    return product


def _verified(plan: Plan) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    worker.verify(plan, lambda event, **values: told.append({"event": event, **values}))
    return told


def test_a_blas_that_is_wrong_in_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    module = worker._products(d2lrnn.backend("numpy"), "cpu")
    right = np.matmul

    def wrong(left: FloatArray, other: FloatArray, **options: Any) -> FloatArray:
        product: FloatArray = right(left, other, **options)
        if len(product) > 500:
            product[-1, 3] += 1
        return product

    monkeypatch.setattr(np, "matmul", wrong)
    checks = list(check_products(module))
    assert [each.fault for each in checks] == [
        "(513, 384) times (384, 257): 1 of 131841 entries are wrong, one of them by 1"
    ] * 2
    told = _verified(Plan("numpy", cells=(cells.MGU.name,)))
    assert [each["check"]["fault"] is None for each in told if each["event"] == "products"] == [False] * 2


def test_numpys_products_are_tried_beside_a_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(NumpyBackend):
        name = "other"

    numpy = d2lrnn.backend("numpy")
    products_of = {"cpu": lambda *given: _numpys(*given) + (len(given[0]) == 17)}
    monkeypatch.setattr(
        worker, "_products", lambda found, on: {} if found.name == "other" else {"matmul": products_of[on]}
    )
    told: list[dict[str, Any]] = []
    worker._verify_on(
        Other(), list(numpy.devices()), (cells.MGU.name,),
        lambda event, **values: told.append({"event": event, **values}),
    )  # fmt: skip
    assert [each["what"][:55] for each in told if each["event"] == "broken"] == [
        f"NumPy's matmul in {dtype}: (17, 33) times (33, 65): 1105"[:55] for dtype in ("float32", "float64")
    ]


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (lambda *given: _numpys(*given)[:-1], "has the shape (0, 5)"),
        (lambda *given: np.nan_to_num(_numpys(*given)), "it loses a NaN"),
        (lambda *given: _numpys(*given) + 0 * _numpys(*given).sum(), "it spreads a NaN to rows"),
        (lambda a, b, *flags: _numpys(a, b, False, False) if a.shape[1] == b.shape[0]
         else _numpys(a, b, *flags) + flags[1], "the right one transposed: "),
        (lambda a, b, *flags: _numpys(a, b, *flags) + flags[0], "the left one transposed: "),
    ],
)  # fmt: skip
def test_wrong_products(wrong: products.Product, fault: str) -> None:
    for check in check_products({"wrong": wrong}):
        assert check.fault is not None
        assert fault in check.fault


@pytest.mark.parametrize("bits", [8, 11, 20])
@pytest.mark.parametrize("cut", [False, True])
def test_how_many_bits_a_product_keeps(bits: int, cut: bool) -> None:
    def short(array: FloatArray) -> FloatArray:
        if array.dtype == np.float64:
            return array
        drop = 24 - bits
        patterns = array.view(np.uint32) + np.uint32(0 if cut else 1 << (drop - 1))
        return (patterns >> drop << drop).astype(np.uint32).view(np.float32)

    narrow, wide = check_products({"short": lambda a, b, *flags: _numpys(short(a), short(b), *flags)})
    assert (narrow.fault, wide.fault) == (None, None)  # small integers fit into any of these
    assert abs(narrow.bits - bits) <= cut
    assert (narrow.rounds, wide.rounds) == (True, False)


def test_the_reference_gives_the_numbers_that_are_kept() -> None:
    kept, fresh = record.recorded(), json.loads(record.write(d2lrnn.backend("numpy")))
    assert list(fresh) == list(kept)
    np.testing.assert_allclose(list(fresh.values()), list(kept.values()), rtol=1e-12)
    assert len(set(kept.values())) == 3 * 6  # a concise model is the function of a scratch one


def test_a_reference_that_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = record.recorded()
    wrong = {name: value * (1 + 1e-8 * ("adam" in name)) for name, value in kept.items()}
    monkeypatch.setattr(record, "recorded", lambda: wrong)
    told = _verified(Plan("numpy", cells=(cells.MGU.name,)))
    assert [each["what"] for each in told if each["event"] == "broken"] == [
        "the reference itself is wrong here: mgu scratch: adam is off by 1.0e-08; 1e-09 is allowed"
    ]


def test_a_cell_that_the_reference_does_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(NumpyBackend):
        def cells(self, implementation: Implementation) -> list[str]:
            return [cells.RNN.name, "unheard-of"] if implementation == "scratch" else []

    numpy = d2lrnn.backend("numpy")
    monkeypatch.setattr(worker, "pace", lambda *_: None)
    told: list[dict[str, Any]] = []
    worker._verify_on(
        Wider(), list(numpy.devices()), (), lambda event, **values: told.append({"event": event, **values})
    )
    compared = [each["comparison"]["model"] for each in told if each["event"] == "comparison"]
    assert set(compared) == {"rnn scratch"}
    assert [each["what"] for each in told if each["event"] == "remark"] == [
        "the cell unheard-of is not compared: the reference has no formula of it"
    ]
    assert not [each for each in told if each["event"] == "broken"]


def test_every_model_is_trained_and_every_cell_by_both_optimisers() -> None:
    numpy = d2lrnn.backend("numpy")
    chosen = list(tasks(numpy, numpy))
    assert {task.trainings for task in chosen if task.spec.dtype == "float32"} == {("sgd",), ("adam",)}
    for cell in numpy.cells("scratch"):
        trained = {name for task in chosen if task.spec.cell == cell for name in task.trainings}
        assert trained == set(TRAININGS), cell
        for implementation in ("scratch", "concise"):
            types = [task.spec.dtype for task in chosen
                     if (task.spec.cell, task.spec.implementation) == (cell, implementation)]  # fmt: skip
            assert set(types) in ({"float32", "float64"}, set())


def test_most_steps_are_clipped_and_something_is_learned() -> None:
    numpy = d2lrnn.backend("numpy")
    for task in tasks(numpy, numpy):
        for name in task.trainings:
            learner = numpy.learner(
                numpy.build(task.spec, check_parameters_of(task.spec)), TRAININGS[name], device="cpu"
            )
            state, norms, losses = learner.initial_state(BATCH_SIZE), [], []
            for batch in given(task.spec).batches:
                result, state = learner.train_step(batch, state)
                norms.append(float(result.grad_norm))
                losses.append(float(result.loss))
            assert len(losses) == 21
            assert sum(norm > 0.05 for norm in norms) > 15
            assert losses[-1] < losses[0] - 0.15


def test_no_unit_is_where_rounding_turns_it_on_or_off() -> None:
    """What a rectified unit is given stays further from 0 than float32 is off: 1e-7 times its size."""
    numpy = d2lrnn.backend("numpy")
    for task in tasks(numpy, numpy, [cells.RELU_RNN.name]):
        for name in task.trainings:
            model = numpy.build(task.spec, check_parameters_of(task.spec))
            learner = numpy.learner(model, TRAININGS[name], device="cpu")
            state, nearest = learner.initial_state(BATCH_SIZE), np.inf
            for batch in given(task.spec).batches:
                weights = learner.export_parameters()
                X = np.eye(task.spec.vocab_size)[batch.inputs.T]
                for l in range(task.spec.num_layers):
                    w_x, w_h, b = (weights[f"rnn.{l}.{part}"] for part in ("w_x", "w_h", "b"))
                    H, outputs = state[0][l], []
                    for X_t in X:
                        A = X_t @ w_x + H @ w_h + b
                        nearest = min(nearest, float(np.abs(A).min()))
                        H = np.maximum(A, 0)
                        outputs.append(H)
                    X = np.stack(outputs)
                _, state = learner.train_step(batch, state)
            assert nearest > 1e-6


def test_every_device_or_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    every = [Device(name, "a stub") for name in ("gpu:0", "gpu:1", "cpu")]
    monkeypatch.setattr(NumpyBackend, "devices", lambda self: every)
    monkeypatch.setattr(worker, "pace", lambda *_: None)
    for named, expected in ((None, ["cpu", "gpu:0"]), ("gpu:1", ["gpu:1"]), ("auto", ["gpu:0"])):
        told = _verified(Plan("numpy", named, (cells.MGU.name,)))
        assert [each["name"] for each in told if each["event"] == "device"] == expected
        report = gathered("numpy", None, told)
        assert report.verdict == "agrees"
        assert [len(device.comparisons) for device in report.devices.values()] == [6] * len(expected)
        begun = [each for each in told if each["event"] == "begin"]
        assert [each["done"] for each in begun] == list(range(begun[0]["total"]))
    (missing,) = [each for each in _verified(Plan("numpy", "gpu:7")) if each["event"] == "no device"]
    assert "there is no device gpu:7" in missing["error"]


def test_what_is_no_fault_is_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Fault("it is built for CUDA, and this machine has no NVIDIA GPU", "pip install another")
    monkeypatch.setattr(BackendEntry, "faults", lambda self, error, devices: [cuda])
    monkeypatch.setattr(worker, "pace", lambda *_: Pace(2.0, 0.1))
    report = gathered("numpy", None, _verified(Plan("numpy", cells=(cells.MGU.name,))))
    assert report.verdict == "agrees"
    assert str(cuda) in report.remarks
    assert "slow on cpu: a training step of an LSTM, 256 units, batch 32, 35 steps takes 2000 ms, its " in (
        " ".join(report.remarks)
    )


def test_what_slows_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    monkeypatch.setattr(surroundings, "_QUOTA", quota)
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    monkeypatch.setattr(surroundings, "load_average", lambda: 99.0)
    found = surroundings.processors()
    assert (found.quota, found.threads["OMP_NUM_THREADS"]) == (0.5, "1000")
    threads, container, load = found.remarks()
    assert threads.startswith("OMP_NUM_THREADS is 1000, and there are ")
    assert container.endswith("set OMP_NUM_THREADS to 1")
    assert load.startswith("the load average is 99.0 on ")
    assert not list(Processors(4, quota=2.0, load=1.0, threads={"OMP_NUM_THREADS": "2"}).remarks())
    quota.write_text("max 100000\n")
    assert surroundings.processors().quota is None


def test_a_comparison_needs_each_number_of_the_reference() -> None:
    """What lacks a parameter, or has another shape, differs."""
    numpy = d2lrnn.backend("numpy")

    class Lacking(NumpyBackend):
        def run_layers(self, *given: Any) -> Any:
            outputs, state = super().run_layers(*given)
            return outputs[:-1], state

    (task, *_) = tasks(numpy, numpy)
    found = {each.part: each for each in compare(Lacking(), Judge(numpy), task, "cpu")}
    assert (found["outputs"].agrees, found["outputs"].where) == (False, "outputs")
    assert found["sgd"].agrees
