"""What hidden units respond to: the units whose activation goes along with something in the text.

For each unit and each feature of the text (a space was read, the place in the word, how surprising the token
was, …) Pearson's correlation r is computed over all tokens that were read. The largest ones decide which
units are shown, and each feature is shown with one unit. So an r is the largest of many, found on the text
that it is shown on: it says what a unit goes along with there, and not what it is for (Karpathy, Johnson and
Li 2015, Visualizing and understanding recurrent networks, look at cells in the same way, by eye).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from d2lrnn.contract.values import FloatArray
from d2lrnn.data.vocabulary import UNKNOWN, Unit
from d2lrnn.report.reading import Reading

#: How many units are shown, and how many of them for one frequent token each.
_SHOWN, _FOR_TOKENS = 6, 2
#: Below it, another unit of another feature is shown first.
CLEAR = 0.3
#: The most frequent tokens are features themselves.
_FREQUENT = 12
#: What holds less often than this is no feature.
_RARE = 5
#: How many contexts of each end, and the tokens before each, or the words.
_CONTEXTS, _BEFORE, _WORDS_BEFORE = 5, 24, 6

_Numbers = npt.NDArray[np.float64]


class Context(NamedTuple):
    """Where a unit is at one end.

    Attributes:
        before: the tokens before.
        token: the one after which it is.
        value: the activation.
    """

    before: list[str]
    token: str
    value: float


@dataclass(frozen=True, eq=False)
class TellingUnit:
    """A hidden unit, and what it goes along with.

    Attributes:
        layer: from 0.
        number: from 0, in its layer.
        feature: what of the text, in words.
        correlation: r of the activation with it, in [-1, 1].
        means: for a feature that holds or not, the mean activation where it holds and where not.
        activations: after each token of the first row.
        scale: the largest absolute activation of all rows.
        highest: contexts with the highest activations, the highest first.
        lowest: those with the lowest.
    """

    layer: int
    number: int
    feature: str
    correlation: float
    means: tuple[float, float] | None
    activations: FloatArray = field(repr=False)
    scale: float
    highest: list[Context] = field(repr=False)
    lowest: list[Context] = field(repr=False)


def telling_units(reading: Reading, texts: Sequence[Sequence[str]], unit: Unit) -> list[TellingUnit]:
    """The units that say most about the text, each with the feature that it goes along with.

    Args:
        reading: of a model.
        texts: its tokens as text, B rows of T.
        unit: what a token is.

    Returns:
        As many as there are to show: fewer of a small model.

    Example:
        >>> spaces = np.array([[0, 0, 1] * 40])
        >>> reading = Reading(spaces, np.zeros((1, 120)), [], np.stack([spaces, 0 * spaces], -1)[:, :, None])
        >>> best = telling_units(reading, [list("ab " * 40)], "char")[0]
        >>> best.layer, best.number, round(best.correlation, 2)
        (0, 0, 1.0)
    """
    B, T, L, h = reading.hiddens.shape
    activations = reading.hiddens.reshape(B * T, L * h).astype(np.float64)
    names, features, num_structural = _features(reading, texts, unit)
    r = _standardized(activations).T @ _standardized(features) / (B * T)
    found = []
    for unit_number, feature_number in _chosen(r, num_structural):
        values, feature = activations[:, unit_number], features[:, feature_number]
        holds = feature > 0
        found.append(
            TellingUnit(
                layer=unit_number // h,
                number=unit_number % h,
                feature=names[feature_number],
                correlation=float(r[unit_number, feature_number]),
                means=(float(values[holds].mean()), float(values[~holds].mean()))
                if set(feature) <= {0.0, 1.0}
                else None,
                activations=values[:T],
                scale=float(np.abs(values).max()) or 1.0,
                highest=list(_contexts(values, texts, np.argsort(-values, kind="stable"), unit)),
                lowest=list(_contexts(values, texts, np.argsort(values, kind="stable"), unit)),
            )
        )
    return found


def most_varied(reading: Reading, most: int, num_steps: int) -> list[int]:
    """The units of the last layer that change most, those that go up and down together side by side.

    Args:
        reading: of a model.
        most: how many.
        num_steps: how many tokens of the first row count.
    """
    values = reading.hiddens[0, :num_steps, -1].astype(np.float64)
    varied = np.sort(np.argsort(-values.std(axis=0), kind="stable")[:most])
    # By their weight in the first principal component, whose sign means nothing: unit 0's decides.
    _, _, components = np.linalg.svd(_standardized(values[:, varied]), full_matrices=False)
    weights = components[0] * (np.sign(components[0, 0]) or 1)
    order: list[int] = varied[np.argsort(weights, kind="stable")].tolist()
    return order


def _chosen(r: _Numbers, num_structural: int) -> Iterator[tuple[int, int]]:
    """Units and features, each once: structure first, then frequent tokens, then what is less clear."""
    num_units, num_features = r.shape
    strength = np.abs(r)
    is_structure = np.arange(num_features) < num_structural
    limits = {0: _SHOWN - _FOR_TOKENS, 1: _SHOWN, 2: _SHOWN}
    kinds = np.where(strength < CLEAR, 2, np.where(is_structure, 0, 1))
    order = np.lexsort((-strength.ravel(), kinds.ravel()))
    units: set[int] = set()
    features: set[int] = set()
    for place in order.tolist():
        unit, feature = divmod(place, num_features)
        if len(units) >= limits[int(kinds[unit, feature])] or unit in units or feature in features:
            continue
        units.add(unit)
        features.add(feature)
        yield unit, feature
        if len(units) == min(_SHOWN, num_units):
            return


def _features(
    reading: Reading, texts: Sequence[Sequence[str]], unit: Unit
) -> tuple[list[str], _Numbers, int]:
    """The names and the values (B T, K) of features that vary, and how many are not of one token."""
    tokens = np.array(texts, object)
    structure = _of_words(tokens) if unit == "word" else _of_characters(tokens)
    what = "word" if unit == "word" else "character"
    structure[f"how surprising the {what} was, in bits"] = np.nan_to_num(reading.bits)
    frequent = Counter(token for row in texts for token in row).most_common(_FREQUENT)
    # Spaces and unknown tokens are features already.
    frequent = [(token, count) for token, count in frequent if token != UNKNOWN and not token.isspace()]
    single = {f"the {what} is “{token}”": tokens == token for token, _ in frequent}

    def varies(values: npt.NDArray[Any]) -> bool:
        return bool(values.std() > 0 and np.count_nonzero(values) >= _RARE)

    structure = {name: values for name, values in structure.items() if varies(values)}
    all_ = structure | {name: values for name, values in single.items() if varies(values)}
    values = [np.asarray(each, np.float64).ravel() for each in all_.values()]
    return list(all_), np.stack(values, axis=1) if values else np.zeros((tokens.size, 0)), len(structure)


def _of_characters(tokens: npt.NDArray[np.object_]) -> dict[str, npt.NDArray[Any]]:
    space, end = _where(tokens, str.isspace), tokens == "\n"
    return {
        "the character is a space": space,
        "the character is unknown": tokens == UNKNOWN,
        "letters since the last space": _since(space),
        "letters up to the next space, which are not read yet": _until(space),
        "the character is a vowel": _where(tokens, lambda token: token.lower() in "aeiou"),
        "the character is a capital letter": _where(tokens, str.isupper),
        "the character is a digit": _where(tokens, str.isdigit),
        "the character is a punctuation mark": _where(
            tokens, lambda token: not token.isspace() and not token.isalnum() and token != UNKNOWN
        ),
        "characters since the last end of a line": _since(end) if end.any() else end,
        "characters up to the next end of a line, which are not read yet": _until(end) if end.any() else end,
    }


def _of_words(tokens: npt.NDArray[np.object_]) -> dict[str, npt.NDArray[Any]]:
    counts = Counter(tokens.ravel().tolist())
    ends = _where(tokens, lambda token: token[-1:] in ".!?")
    return {
        "the word is unknown": tokens == UNKNOWN,
        "letters of the word": np.vectorize(len, otypes=[np.float64])(tokens),
        "how frequent the word is, as a logarithm": np.log(
            np.vectorize(counts.__getitem__, otypes=[np.float64])(tokens)
        ),
        "the word begins with a capital letter": _where(tokens, lambda token: token[:1].isupper()),
        "the word ends a sentence": ends,
        "words since the last end of a sentence": _since(ends) if ends.any() else ends,
    }


def _where(tokens: npt.NDArray[np.object_], holds: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.vectorize(holds, otypes=[np.bool_])(tokens)
    return found


def _since(marks: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """How many tokens ago the last mark was, or the beginning of the row, (B, T)."""
    places = np.arange(marks.shape[1])
    return places - np.maximum.accumulate(np.where(marks, places, -1), axis=1)


def _until(marks: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    return _since(marks[:, ::-1])[:, ::-1]


def _standardized(values: _Numbers) -> _Numbers:
    """Columns with mean 0 and deviation 1; a constant one is 0."""
    below = values - values.mean(axis=0)
    deviation = below.std(axis=0)
    result: _Numbers = below / np.where(deviation > 1e-12, deviation, np.inf)
    return result


def _contexts(
    values: _Numbers, texts: Sequence[Sequence[str]], order: npt.NDArray[np.intp], unit: Unit
) -> Iterator[Context]:
    """The first places of an order whose texts are not all the same."""
    T = len(texts[0])
    num_before = _WORDS_BEFORE if unit == "word" else _BEFORE
    seen: set[tuple[str, ...]] = set()
    for place in order.tolist():
        row, t = divmod(place, T)
        end = tuple(texts[row][max(t - 2, 0) : t + 1])
        if len(end) < 3 or end in seen:
            continue
        seen.add(end)
        yield Context(list(texts[row][max(t - num_before, 0) : t]), texts[row][t], float(values[place]))
        if len(seen) == _CONTEXTS:
            return
