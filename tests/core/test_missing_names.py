"""What a tab says of names that it does not have."""

from __future__ import annotations

import pytest

from d2lrnn.book import missing_names

NAMES = ["AdditiveAttention", "DotProductAttention", "Trainer", "train_ch8"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "MultiHeadAttention",
            (
                'd2l has no MultiHeadAttention: it is of the chapter "Attention Mechanisms and '
                'Transformers", which d2lrnn does not cover (there is AdditiveAttention)'
            ),
        ),
        ("Trainr", "d2l has no Trainr (there is Trainer)"),
        ("quux", "d2l has no quux"),
        ("__wrapped__", "d2l has no __wrapped__"),
    ],
)
def test_a_name_that_is_missing(name: str, told: str) -> None:
    with pytest.raises(AttributeError) as caught:
        missing_names.answer(name, NAMES)
    assert str(caught.value) == told


def test_a_name_has_one_chapter() -> None:
    names = [name for its in missing_names.CHAPTERS.values() for name in its.split()]
    assert sorted(names) == sorted(set(names))
