"""flax's recurrent modules, linen's and nnx's, as it makes them itself, and what only it can say of them."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen, nnx
from flax.traverse_util import flatten_dict
from hypothesis import strategies as st
from jax import numpy as jnp

from d2lrnn.ports.conventions import Convention

NAME = "jax"

_seed = 0


def seed(number: int) -> None:
    global _seed
    _seed = number


def _in_double(wanted: bool) -> AbstractContextManager[object]:
    return jax.enable_x64(wanted)


def _cell(layer: str, num_inputs: int, num_hiddens: int, **options: Any) -> Any:
    """A cell of the class and with the settings that a name of the table has."""
    kind, name = layer.partition(".")[0], re.search(r"\w+Cell", layer).group()
    if "reset_gate=False" in layer:
        options["reset_gate"] = False
    if kind == "linen":
        return getattr(linen, name)(num_hiddens, **options)
    return getattr(nnx, name)(num_inputs, num_hiddens, rngs=nnx.Rngs(_seed), **options)


def _with_variables(module: Any, X: Any) -> Any:
    """A module that flax has initialised: of linen a pair."""
    if isinstance(module, nnx.Module):
        return module
    key = jax.random.key(_seed)
    if isinstance(module, linen.RNNCellBase):
        return module, module.init(key, module.initialize_carry(key, X.shape), X)
    return module, module.init(key, X)


#: Few sizes: everything is compiled once for each.
SIZES = st.sampled_from([2, 3])
FUNCTIONS = [jnp.tanh, jax.nn.relu, jax.nn.sigmoid, lambda x: x]
WAYS = ["forward", "backward", "backward in order", "concat", "sum", "mul", "ave"]
MERGES = {"sum": jnp.add, "mul": lambda a, b: a * b, "ave": lambda a, b: 0.5 * (a + b)}


@st.composite
def modules(draw: st.DrawFn, layer: str) -> Any:
    """What makes a module: a strategy may not use the framework's generator."""
    kind = linen if layer.startswith("linen") else nnx
    double, number, num_inputs = draw(st.booleans()), draw(st.integers(0, 9)), draw(SIZES)
    options: dict[str, Any] = {"activation_fn": draw(st.sampled_from(FUNCTIONS))}
    if "SimpleCell" not in layer:
        # Of gates without bounds the states grow beyond what numbers can hold.
        options["gate_fn"] = draw(st.sampled_from([jax.nn.sigmoid, jnp.tanh]))
    dtype = jnp.float64 if double else jnp.float32
    options |= {"param_dtype": dtype, "dtype": dtype if draw(st.booleans()) or kind is nnx else None}
    hidden = draw(st.lists(SIZES, min_size=1, max_size=3)) if "RNN" in layer else [draw(SIZES)]
    ways = [draw(st.sampled_from(WAYS)) for _ in hidden]
    time_major, whole, bind = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())

    def of(size: int, width: int, way: str) -> Any:
        if way not in ("forward", "backward", "backward in order"):
            both = [kind.RNN(_cell(layer, width, size, **options)) for _ in range(2)]
            merge = {"merge_fn": MERGES[way]} if way in MERGES else {}
            return kind.Bidirectional(*both, time_major=time_major, **merge)
        cell = _cell(layer, width, size, **options)
        order = way == "backward in order"
        return kind.RNN(cell, time_major=time_major, reverse=way != "forward", keep_order=order)

    def make() -> Any:
        seed(number)
        with _in_double(double):
            if "RNN" not in layer:
                return _with_variables(
                    _cell(layer, num_inputs, hidden[0], **options), jnp.ones((1, num_inputs), dtype)
                )
            made, width = [], num_inputs
            for size, way in zip(hidden, ways, strict=True):
                made.append(_with_variables(of(size, width, way), jnp.ones((1, 1, width), dtype)))
                width = size * (2 if way == "concat" else 1)
            if len(made) == 1:
                return made[0][0].bind(made[0][1]) if bind and kind is linen else made[0]
            if not whole:
                return made
            if kind is nnx:
                return nnx.Sequential(*made)
            params = {f"layers_{l}": variables["params"] for l, (_, variables) in enumerate(made)}
            module = linen.Sequential([module for module, _ in made])
            return module.bind({"params": params}) if bind else (module, {"params": params})

    return make


def default(convention: Convention, num_inputs: int, num_hiddens: int) -> Any:
    kind = linen if convention.namespace == "linen" else nnx
    cell, X = _cell(convention.layer, num_inputs, num_hiddens), jnp.ones((1, num_inputs))
    if convention.form == "cell":
        return _with_variables(cell, X)
    return _with_variables(kind.RNN(cell), X[None])


def _parts(module: Any) -> tuple[Any, Any]:
    """The module and its parameters as a tree."""
    if isinstance(module, nnx.Module):
        return module, nnx.to_pure_dict(nnx.state(module, nnx.Param))
    own, variables = module if isinstance(module, tuple) else module.unbind()
    return own, variables["params"]


def _names(module: Any) -> dict[str, Any]:
    """The parameters of a cell or of a layer's only cell, as `Convention.arrays` has them."""
    tree = _parts(module)[1]
    return flatten_dict(tree.get("cell", tree), sep="/")


def bias_vectors(module: Any, width: int) -> float:
    return sum(int(np.size(value)) for name, value in _names(module).items() if name.endswith("bias")) / width


def ask_arrays(convention: Convention) -> None:
    """The table names all arrays of a cell, and none that it has not."""
    named = [name for names in convention.places().values() for name in names]
    assert sorted(named) == sorted(_names(default(convention, 2, 3)))


def number_of_modules(module: Any) -> int:
    """How many the layers of a built stack are in."""
    return len(module.layers) if type(module) in (linen.Sequential, nnx.Sequential) else 1


def called(module: Any, X: Any) -> Any:
    """The outputs of a plain call, sequences with the time first."""
    with _in_double(X.dtype == np.float64):
        function, variables = _function(module)
        return np.asarray(function(variables, X))


def _function(module: Any) -> tuple[Any, Any]:
    """A compiled function of a module's numbers and inputs, and these numbers."""
    modules = module if isinstance(module, list) else [module]
    pairs = [_split(each) for each in modules]

    def outputs(variables: Any, X: Any) -> Any:
        for (own, _), its in zip(pairs, variables, strict=True):
            X = _called(own, its, X)
        return X

    # Not compiled as a whole, a module takes ten times as long.
    return jax.jit(outputs), [variables for _, variables in pairs]


def _split(module: Any) -> Any:
    if isinstance(module, nnx.Module):
        return nnx.split(module)
    return module.unbind() if isinstance(module, linen.Module) else module


def _called(own: Any, variables: Any, X: Any) -> Any:
    if isinstance(own, nnx.GraphDef):
        own = call = nnx.merge(own, variables)
    else:
        call = partial(own.apply, variables)
    if isinstance(own, nnx.RNNCellBase):
        return call(own.initialize_carry(X[0].shape, nnx.Rngs(0)), X[0])[1][None]
    if isinstance(own, linen.RNNCellBase):
        return call(own.initialize_carry(jax.random.key(0), X[0].shape), X[0])[1][None]
    first = (own.layers[0] if number_of_modules(own) > 1 else own).time_major
    return call(X) if first else jnp.swapaxes(call(jnp.swapaxes(X, 0, 1)), 0, 1)


def halves(layer: str) -> Any:
    """What has another type of numbers than any description."""
    module, variables = linen.GRUCell(3, param_dtype=jnp.float16), default_gru()[1]
    return module, jax.tree.map(lambda array: array.astype(jnp.float16), variables)


def default_gru() -> Any:
    return _with_variables(linen.GRUCell(3), jnp.ones((1, 2)))


class Own(nnx.GRUCell):
    """A subclass, which may compute anything."""


class OwnLinen(linen.GRUCell):
    """The same of linen."""


def _strangers() -> list[Any]:
    dense, rngs = linen.Dense(3), nnx.Rngs(0)
    variables = dense.init(jax.random.key(0), jnp.ones((1, 2)))
    gru = default_gru()
    return [
        (dense, variables),
        (OwnLinen(3), gru[1]),
        (linen.RNN(OwnLinen(3)), {"params": {"cell": gru[1]["params"]}}),
        dense.bind(variables),
        nnx.Linear(2, 3, rngs=rngs),
        Own(2, 3, rngs=rngs),
        nnx.RNN(Own(2, 3, rngs=rngs)),
        nnx.Sequential(nnx.RNN(nnx.GRUCell(2, 3, rngs=rngs)), nnx.Linear(3, 3, rngs=rngs)),
        [nnx.RNN(nnx.GRUCell(2, 3, rngs=rngs)), nnx.Linear(3, 3, rngs=rngs)],
    ]


STRANGERS = _strangers()


def _no_stacks() -> list[tuple[Any, str]]:
    cell, variables = default_gru()
    own, rngs = {"params": {"cell": variables["params"]}}, nnx.Rngs(0)

    def gru(**options: Any) -> Any:
        return nnx.RNN(nnx.GRUCell(2, 2, rngs=rngs), **options)

    shared, both = gru(), nnx.Bidirectional(gru(), nnx.RNN(nnx.GRUCell(2, 2, rngs=rngs, gate_fn=jnp.tanh)))
    lacking = {"params": {name: value for name, value in variables["params"].items() if name != "hn"}}
    ones = jax.nn.initializers.ones
    return [
        (linen.RNN(cell), r"has its parameters beside it: give the pair \(module, variables\)"),
        ((cell, {**variables, "stats": {}}), "variables of a recurrent module .* and here are params, stats"),
        ((cell, lacking), "must have hn/kernel, and here have"),
        ([(cell, variables)] * 2, "a list of cells is no stack: give each in an RNN"),
        ([(linen.RNN(cell), own), gru()], "some of linen, some of nnx"),
        ([gru(), gru(time_major=True)], "differ in time_major"),
        (nnx.Bidirectional(shared, shared), "are one module, whose parameters they share"),
        (both, "the two directions of a Bidirectional differ"),
        (nnx.Bidirectional(gru(), gru(), merge_fn=lambda a, b: a - b), "the merge_fn <lambda> has no desc"),
        (nnx.RNN(nnx.GRUCell(2, 3, rngs=rngs, activation_fn=jax.nn.gelu)), "the activation gelu has no desc"),
        ((linen.GRUCell(3, gate_fn=jax.nn.hard_sigmoid), variables), "the activation hard_sigmoid has no"),
        ((linen.GRUCell(3, carry_init=ones), variables), "its carry_init makes an initial state other than"),
        ((linen.GRUCell(3, dtype=jnp.bfloat16), variables), "its numbers in bfloat16, float32"),
        (nnx.SimpleCell(2, 3, rngs=rngs, residual=True), "residual=True adds .* Nearest is the cell without"),
    ]


#: What has no description though all its modules are known, and what the error says.
NO_STACKS = _no_stacks()


def ask_dropout(convention: Convention) -> None:
    """No cell of flax has any."""
    cell = _parts(default(convention, 2, 3))[0]
    cell = getattr(cell, "cell", cell)
    assert not any("dropout" in name for name in [*vars(cell), *type(cell).__init__.__annotations__])
    assert convention.dropout == "none"


def ask_kernel(convention: Convention) -> None:
    """The steps are a loop of products: nothing in the program is a kernel for all of them."""
    function, variables = _function(default(convention, 2, 3))
    program = function.lower(variables, jnp.ones((4, 1, 2))).as_text()
    assert "custom_call" not in program
    assert ("stablehlo.while" in program) == (convention.form == "layer")
    assert convention.kernel == ("there is none",)
