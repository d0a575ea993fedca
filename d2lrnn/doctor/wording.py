"""What a person calls parameters and layers."""

from __future__ import annotations

from collections.abc import Sequence

from d2lrnn.doctor.explanation import listed

_TITLES = {
    "w_x": "input weights w_x",
    "w_h": "recurrent weights w_h",
    "b": "input bias b",
    "b_h": "recurrent bias b_h",
    "w_p": "projection w_p",
}


def told(sentence: str, names: Sequence[str], every: Sequence[str], it: str, other: str) -> str:
    """A sentence about parameters.

    Args:
        sentence: with ``{it}``, ``{other}``, ``{what}`` and verbs in braces.
        names: the canonical names of the parameters that it is about.
        every: those of the whole stack.
        it: the side with the changed arrays.
        other: the side with the right ones.
    """
    kinds = {name.rpartition(".")[2] for name in names}
    several = len(kinds) > 1 or any("weights" in _TITLES[kind] for kind in kinds)
    words = (
        {"is": "are", "was": "were", "has": "have"} if several else {"is": "is", "was": "was", "has": "has"}
    )
    return sentence.format(it=it, other=other, what=named(names, every), **words)


def named(names: Sequence[str], every: Sequence[str]) -> str:
    """What a person calls parameters: ``recurrent weights w_h of layer 1``.

    Example:
        >>> named(["rnn.0.w_h", "rnn.1.w_h"], ["rnn.0.w_x", "rnn.0.w_h", "rnn.1.w_x", "rnn.1.w_h"])
        'recurrent weights w_h of every layer'
    """
    parts: dict[str, list[str]] = {}
    for name in names:
        prefix, _, last = name.rpartition(".")
        parts.setdefault(prefix, []).append(last)
    prefixes = list(dict.fromkeys(name.rpartition(".")[0] for name in every))
    whole = {
        prefix: [name.rpartition(".")[2] for name in every if name.rpartition(".")[0] == prefix]
        for prefix in prefixes
    }
    groups: dict[tuple[str, ...], list[str]] = {}
    for prefix, own in parts.items():
        groups.setdefault(tuple(own), []).append(prefix)
    told = []
    for kinds, where in groups.items():
        all_there = all(set(whole[prefix]) == set(kinds) for prefix in where)
        what = "parameters" if all_there else listed([_TITLES.get(kind, kind) for kind in kinds])
        if where == prefixes and len(prefixes) > 1:
            told.append(f"{what} of every layer")
        else:
            told.append(f"{what} of {listed([_place(prefix) for prefix in where])}")
    return listed(told)


def layers_text(layers: Sequence[int], num_layers: int) -> str:
    """What a person calls some of a number of layers, in the singular.

    Example:
        >>> layers_text([1], 3), layers_text([0, 1, 2], 3)
        ('layer 1', 'every layer')
    """
    if len(layers) == num_layers > 1:
        return "every layer"
    return f"each of the layers {listed(list(map(str, layers)))}" if layers[1:] else f"layer {layers[0]}"


def _place(prefix: str) -> str:
    _, layer, *backward = prefix.split(".")
    return f"layer {layer}" + (" backward" if backward else "")
