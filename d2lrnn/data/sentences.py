"""Sentences as words and marks, as the book's chapter on machine translation cuts them."""

from __future__ import annotations

import re

_NON_BREAKING = re.compile("[\u202f\xa0]")
#: A mark that does not stand after a space.
_ATTACHED_MARK = re.compile(r"(?<=[^ ])(?=[,.!?])")


def with_marks_apart(text: str) -> str:
    r"""The text in lower case, with an ordinary space for each non-breaking one and before every mark.

    Example:
        >>> with_marks_apart("Va\u202f!")
        'va !'
    """
    return _ATTACHED_MARK.sub(" ", _NON_BREAKING.sub(" ", text).lower())


def words_of(sentence: str) -> list[str]:
    """The words and marks of a sentence.

    Example:
        >>> words_of("He's  here, too.")
        ["he's", 'here', ',', 'too', '.']
    """
    return with_marks_apart(sentence).split()
