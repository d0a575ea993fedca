"""Files that flax and orbax wrote, with recurrent layers in them: read, written, damaged."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import msgpack
import numpy as np
import optax
import pytest
from d2lrnn_jax.saved_msgpack import leaves
from damaged import damaged
from flax import linen, nnx, serialization
from flax.training.train_state import TrainState
from jax import numpy as jnp
from orbax import checkpoint as ocp

import d2lrnn
from d2lrnn.cli.main import main
from d2lrnn.errors import PortError
from d2lrnn.ports.formats.conversion import read, write
from d2lrnn.ports.formats.protocol import Hints
from d2lrnn.ports.formats.table import find_format, format_of

SIZE = 3
X = jnp.ones((1, 2, SIZE))


def _both(kind: Any, make: Callable[[], Any], **options: Any) -> Any:
    return kind.Bidirectional(kind.RNN(make()), kind.RNN(make()), **options)


@cache
def _linen() -> tuple[Any, Any]:
    first = linen.RNN(linen.MGUCell(SIZE))
    module = linen.Sequential([first, _both(linen, lambda: linen.OptimizedLSTMCell(SIZE))])
    return module, module.init(jax.random.key(1), X)


@cache
def _nnx() -> Any:
    rngs = nnx.Rngs(2)
    first = nnx.RNN(nnx.GRUCell(SIZE, SIZE, rngs=rngs))
    second = _both(nnx, lambda: nnx.OptimizedLSTMCell(SIZE, SIZE, rngs=rngs))
    return nnx.Sequential(first, second, nnx.RNN(nnx.LSTMCell(2 * SIZE, 2, rngs=rngs)))


class Compact(linen.Module):
    """Cells that are made in a module around them, beside what is not recurrent."""

    @linen.compact
    def __call__(self, X: Any) -> Any:
        for _ in range(2):
            X = linen.RNN(linen.GRUCell(SIZE))(X)
        return linen.Dense(4)(X)


class Around(nnx.Module):
    """The same of nnx."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(3)
        self.rnn = nnx.RNN(nnx.SimpleCell(SIZE, SIZE, rngs=rngs))
        self.dense = nnx.Linear(SIZE, 4, rngs=rngs)


def _orbax(path: Path, tree: Any) -> Path:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
        checkpointer.wait_until_finished()
    return path


def _msgpack(path: Path, tree: Any) -> Path:
    path.write_bytes(serialization.to_bytes(tree))
    return path


def _read(path: Path, **hints: Any) -> Any:
    return read(path, format_of(path), Hints(**hints))


def _same(found: Any, module: Any) -> None:
    expected = d2lrnn.port(module)
    assert found.spec == expected.spec
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)


def test_what_flax_wrote_of_linen_is_read(tmp_path: Path) -> None:
    module, variables = _linen()
    state = TrainState.create(apply_fn=module.apply, params=variables["params"], tx=optax.adam(0.1))
    for tree in (variables, variables["params"]):
        _same(_read(_msgpack(tmp_path / "a.msgpack", tree)), (module, variables))
    trained = _msgpack(tmp_path / "state.msgpack", state)
    with pytest.raises(PortError, match="several stacks are in it: say by --prefix"):
        _read(trained)
    found = _read(trained, prefix="params/")
    _same(found, (module, variables))
    assert any("arrays beside those of the layers are left out: opt_state/" in note for note in found.notes)


def test_what_flax_wrote_of_nnx_is_read(tmp_path: Path) -> None:
    module = _nnx()
    state = nnx.state(module, nnx.Param)
    _same(_read(_msgpack(tmp_path / "a.nnx.msgpack", nnx.to_pure_dict(state))), module)
    _same(_read(_msgpack(tmp_path / "a.msgpack", nnx.to_pure_dict(state))), module)


def test_what_orbax_wrote_is_read(tmp_path: Path) -> None:
    (module, variables), other = _linen(), _nnx()
    _same(_read(_orbax(tmp_path / "a.orbax", variables)), (module, variables))
    _same(_read(_orbax(tmp_path / "b.orbax", nnx.to_pure_dict(nnx.state(other, nnx.Param)))), other)
    # With the streams of random numbers, and `value` behind each name.
    found = _read(_orbax(tmp_path / "c.nnx.orbax", nnx.state(other)))
    _same(found, other)
    assert "arrays beside those of the layers are left out" in found.notes[-1]


def test_layers_in_a_module_around_them_are_found(tmp_path: Path) -> None:
    module = Compact()
    variables = module.init(jax.random.key(1), X)
    found = _read(_msgpack(tmp_path / "a.msgpack", variables))
    assert [layer.cell for layer in found.spec.layers] == ["gru", "gru"]
    kernel = variables["params"]["GRUCell_1"]["hr"]["kernel"]
    np.testing.assert_array_equal(found.parameters["rnn.1.w_h"][:, :SIZE], kernel)
    one = _read(tmp_path / "a.msgpack", prefix="params/GRUCell_0/")
    assert len(one.spec.layers) == 1
    around = nnx.to_pure_dict(nnx.state(Around(), nnx.Param))
    assert (
        _read(_msgpack(tmp_path / "b.msgpack", around), activation="relu").spec.layers[0].activation == "relu"
    )


@pytest.mark.parametrize(("name", "dtype"), [
    ("flax", jnp.float64), ("nnx", jnp.float32), ("orbax", jnp.float32), ("orbax-nnx", jnp.float64),
])  # fmt: skip
def test_what_is_written_flax_itself_loads(name: str, dtype: Any, tmp_path: Path) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        rngs = nnx.Rngs(4)
        module = nnx.Sequential(
            nnx.RNN(nnx.GRUCell(SIZE, 2, rngs=rngs, param_dtype=dtype), time_major=True),
            _both(nnx, lambda: nnx.LSTMCell(2, 2, rngs=rngs, param_dtype=dtype), time_major=True),
        )
        kind = find_format(name)
        path = tmp_path / f"a{kind.suffixes[0]}"
        written = write(d2lrnn.port(module), path, kind)
        assert [report.passed for report in written.reports] == [True] * 3
        own = d2lrnn.port(module, to="jax", namespace=kind.namespace).module
        tree = nnx.to_pure_dict(nnx.state(own, nnx.Param)) if "nnx" in name else own.variables
        zeros = jax.tree.map(jnp.zeros_like, tree)
        if kind.folder:
            with ocp.StandardCheckpointer() as checkpointer:
                loaded = checkpointer.restore(path, zeros)
        else:
            loaded = serialization.from_bytes(zeros, path.read_bytes())
        jax.tree.map(np.testing.assert_array_equal, loaded, tree)
        assert {str(each.dtype) for each in jax.tree.leaves(loaded)} == {np.dtype(dtype).name}


def test_what_a_file_cannot_say_is_not_written(tmp_path: Path) -> None:
    backward = nnx.RNN(nnx.GRUCell(SIZE, 2, rngs=nnx.Rngs(0)), reverse=True, keep_order=True)
    with pytest.raises(PortError, match="does not say all of this stack, and would be read as another one"):
        write(d2lrnn.port(backward), tmp_path / "a.msgpack", find_format("flax"))
    assert list(tmp_path.iterdir()) == []


def _gru_tree(**changes: Any) -> dict[str, Any]:
    tree = nnx.to_pure_dict(nnx.state(nnx.RNN(nnx.GRUCell(2, 2, rngs=nnx.Rngs(0))), nnx.Param))
    return {"rnn": tree, **changes}


@pytest.mark.parametrize(("tree", "hints", "message"), [
    ({"dense": {"kernel": np.ones((2, 2), np.float32)}}, {}, "no cell of flax is in it: none of its 1 arr"),
    (_gru_tree(), {"prefix": "other"}, "no cell of flax is in it.* behind 'other'"),
    (_gru_tree(), {"cell": "lstm"}, "--cell is lstm, and the names of the arrays are those of gru"),
    (_gru_tree(), {"reset_after": False}, r"--reset-before does not fit nnx.GRUCell: leave it out"),
    (_gru_tree(second=_gru_tree()), {}, "say by --prefix .* as rnn/cell, second/rnn/cell"),
    ({"layers": {1: _gru_tree()["rnn"]}}, {}, "its layers are numbered 1: one is missing"),
    ({"backward_rnn": _gru_tree()["rnn"]}, {}, "the two directions of a layer are not alike"),
    (jax.tree.map(lambda each: each.astype(jnp.float16), _gru_tree()), {}, "arrays of type float16"),
    ({"layers": {0: _gru_tree()["rnn"], 1: nnx.to_pure_dict(nnx.state(
        nnx.RNN(nnx.SimpleCell(3, 2, rngs=nnx.Rngs(0))), nnx.Param))}}, {}, "do not fit behind one another"),
])  # fmt: skip
def test_what_is_no_stack_is_refused(tree: Any, hints: Any, message: str, tmp_path: Path) -> None:
    path = _msgpack(tmp_path / "a.msgpack", tree)
    with pytest.raises(PortError, match=message):
        _read(path, **hints)


def _bomb(depth: int, length: int) -> bytes:
    """Lists in lists of which each claims many elements, and has one."""
    return (b"\xdd" + length.to_bytes(4, "big")) * depth


def test_what_a_file_claims_takes_no_memory(tmp_path: Path) -> None:
    length = 1 << 15
    bombs = [
        _bomb(60, length) + bytes(length),
        _bomb(60, (1 << 32) - 1),
        b"\xdf" + b"\xff" * 4,
        # In what flax takes for a complex number and for a number, after which the file is as it should be.
        msgpack.packb({"a": msgpack.ExtType(2, _bomb(60, length) + bytes(length))}),
        msgpack.packb({"a": msgpack.ExtType(3, _bomb(60, length) + bytes(length))}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((1 << 40,), "float32", b"")))}),
        msgpack.packb({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 1 << 40}}}),
        b"\x91" * 100_000,
        b"",
    ]
    for bomb in bombs:
        (tmp_path / "a.msgpack").write_bytes(bomb)
        tracemalloc.start()
        with pytest.raises(PortError):
            _read(tmp_path / "a.msgpack")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * len(bomb) + 1_000_000


def test_a_damaged_file_is_refused_or_is_the_same(tmp_path: Path) -> None:
    content = serialization.to_bytes(_linen()[1])
    names, same = set(leaves(content)), 0
    for changed in damaged(content, 400):
        try:
            found = leaves(changed)
        except PortError:
            continue
        same += set(found) == names
    assert same > 10


def test_what_flax_itself_cannot_read_is_refused(tmp_path: Path) -> None:
    path = _msgpack(tmp_path / "a.msgpack", _gru_tree(other=np.zeros(1, np.int32)))
    path.write_bytes(path.read_bytes().replace(b"int32", b"tin32"))
    with pytest.raises(PortError, match="flax does not read it: data type 'tin32' not understood"):
        _read(path)


def test_an_orbax_folder_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    """Zeros, as which a large array may be in a small file."""
    path = _orbax(tmp_path / "a.orbax", _gru_tree(large=np.zeros((1 << 11, 1 << 11), np.float32)))
    with pytest.raises(
        PortError, match=r"its arrays are to have 16,777,.* bytes, which its files cannot hold"
    ):
        _read(path)


def test_a_damaged_orbax_folder_is_refused(tmp_path: Path) -> None:
    path = _orbax(tmp_path / "a.orbax", _gru_tree())
    (path / "_METADATA").write_text("{")
    with pytest.raises(PortError, match="it is damaged, or no checkpoint of orbax"):
        _read(path)
    (path / "_METADATA").unlink()
    with pytest.raises(PortError, match=r"it has no _METADATA\. Of a CheckpointManager give"):
        _read(path)


def test_the_command_converts_and_says_what_it_took_for_granted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _msgpack(tmp_path / "a.nnx.msgpack", nnx.to_pure_dict(nnx.state(_nnx(), nnx.Param)))
    assert main(["convert", str(path), "--to", "orbax"]) == 0
    printed = capsys.readouterr().out
    assert (
        "note     the file has parameters alone; the rest is taken to be as flax has it: tanh, sigmoid, batch"
        in printed
    )
    assert "it has a bias inside the reset, which is zero" in printed
    assert _read(tmp_path / "a.orbax").spec.layers[0].biases == "one"
