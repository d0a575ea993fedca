"""JSON read piece by piece."""

from __future__ import annotations

import json
import re
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2lrnn.errors import RunError
from d2lrnn.saving.json_reader import LONGEST_VALUE, JSONReader

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _read(content: bytes) -> Any:
    """An object of arrays, read one element at a time."""
    reader = JSONReader(content)
    read = {name: list(reader.elements()) for name in reader.members()}
    reader.end()
    return read


@given(
    st.dictionaries(st.text(), st.lists(_VALUES, max_size=5), max_size=5),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_what_json_wrote_is_read(document: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    try:
        content = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 has no bytes for
        return
    assert _read(content) == document


@pytest.mark.parametrize("length", [1, 511, 512, 513, 5000, LONGEST_VALUE - 2])
@pytest.mark.parametrize("value", ["x{}", "é{}", "7{}"])
def test_values_of_every_length(length: int, value: str) -> None:
    value = value.format(("7" if value[0] == "7" else "x") * (min(length, 4000) - len(value.encode()) + 2))
    text = value if value[0] == "7" else f'"{value}"'
    reader = JSONReader(f"[{text}, 1]".encode())
    assert list(reader.elements()) == [json.loads(text), 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "byte 0: '{' was expected"),
        (b"[]", "byte 0: '{' was expected"),
        (b'{"a": [1 2]}', "byte 9: ',' was expected"),
        (b'{"a" [1]}', "byte 5: ':' was expected"),
        (b'{"a": [1,]}', "byte 9: Expecting value"),
        (b'{"a": [NaN]}', "byte 7: NaN is no JSON"),
        (b'{"a": ["b]}', "byte 7: Unterminated string starting at"),
        (b'{"a": []} x', "byte 10: it should end here"),
        (b'{"a": [], "a": []}', "byte 13: 'a' comes twice"),
        (b'{1: []}', "byte 2: a name in quotes was expected"),
        (b'{"a": [' + b"[" * 60_000, "maximum recursion depth exceeded"),
        (b'{"a": [' + b"[" * 70_000, "no value ends within 65,536 bytes"),
        (b'{"a": [' + b"9" * 5000 + b"]}", "Exceeds the limit"),
        (b'{"a": ["' + b"x" * LONGEST_VALUE + b'"]}', "no value ends within 65,536 bytes"),
        (b'{"a": ["\xff"]}', "it is not JSON: invalid start byte"),
        (b'{"a": ["\xc3', "it is not JSON: unexpected end of data"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(content: bytes, message: str) -> None:
    with pytest.raises(RunError, match=re.escape(message)):
        _read(content)


def test_a_null_can_be_asked_for() -> None:
    reader = JSONReader(b"[null]")
    assert not reader.null()
    reader = JSONReader(b" null ")
    assert reader.null()
    reader.end()


def test_memory_is_that_of_what_is_kept() -> None:
    content = b"[" + b"[],[1,2]," * 30_000 + b"[]]"
    reader = JSONReader(content)
    tracemalloc.start()
    try:
        assert sum(len(element) for element in reader.elements()) == 60_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6
