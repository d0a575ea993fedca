"""What a tab says of names that it does not have."""

from __future__ import annotations

import pytest

from d2lrnn.book import missing_names

NAMES: list[str] = ["AdditiveAttention", "DotProductAttention", "Trainer", "train_ch8"]


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
        missing_names.answer(name, {"__all__": NAMES})
    assert str(caught.value) == told


def test_a_name_has_one_chapter() -> None:
    names = [name for its in missing_names.CHAPTERS.values() for name in its.split()]
    assert sorted(names) == sorted(set(names))


def test_names_of_earlier_releases() -> None:
    sized, plain = object(), object()
    tab = {
        "__all__": ["AdditiveAttention", "predict_seq2seq"], "AdditiveAttention": plain,
        "FIRST_EDITION": {"AdditiveAttention": sized},
        "predict_seq2seq": lambda *args: (" ".join(args), ["weights"]),
    }  # fmt: skip
    assert missing_names.answer("MLPAttention", tab) is sized
    assert missing_names.answer("predict_s2s_ch9", tab)("a", "b") == "a b"
    with pytest.raises(AttributeError, match="d2l has no train_s2s_ch9"):
        missing_names.answer("train_s2s_ch9", tab)
