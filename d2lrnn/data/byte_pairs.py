"""Byte-pair encoding by the package tokenizers: learning the tokens of a text, and finding them in one.

A text is cut into pieces before, always at the same places: behind a new line, or of a longer line at a
space. So a text that is read block by block has the tokens that it has in memory, and no token goes over the
end of a line.

Source: Sennrich, Haddow and Birch 2016, Neural machine translation of rare words with subword units; over
bytes, and split into words as here: Radford et al. 2019, Language models are unsupervised multitask learners.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

from d2lrnn.errors import SpecError

#: The longest token in bytes: what is read from a file is bounded, too.
LONGEST_TOKEN = 64
#: The longest piece in characters. The encoder remembers much beside the tokens: a group of pieces at a time.
_LONGEST, _GROUP = 1 << 12, 1 << 8
_PIECE = re.compile(rf"[^\n]{{0,{_LONGEST - 1}}}\n|.{{1,{_LONGEST}}}(?= |\Z)|.{{1,{_LONGEST}}}")
#: A pair that occurs once in the text teaches nothing.
_LEAST_FREQUENCY = 2


def cut_pieces(text: str, *, final: bool = True) -> tuple[list[str], str]:
    r"""The pieces of a text, and what may go on in the text behind it; nothing where the text is `final`.

    Example:
        >>> cut_pieces("so it\ngoes")
        (['so it\n', 'goes'], '')
        >>> cut_pieces("so it\ngoes", final=False)
        ([], 'so it\ngoes')
    """
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no UTF-8
    pieces, at = [], 0
    while at < len(text) and (final or len(text) - at > _LONGEST):
        found = _PIECE.match(text, at)
        assert found is not None  # the last alternative takes any character but a new line, the first that
        pieces.append(found[0])
        at = found.end()
    return pieces, text[at:]


def learn_tokens(pieces: Iterable[str], vocab_size: int, alphabet: str) -> list[str]:
    """The tokens of two bytes and more that a text is best written with, in the order they were found.

    Args:
        pieces: of the text.
        vocab_size: how many tokens there are to be with those of the alphabet; a short text has fewer.
        alphabet: a character for each byte.

    Raises:
        SpecError: the package tokenizers is not installed.
    """
    library = import_tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_LEAST_FREQUENCY,
        show_progress=False,
        initial_alphabet=list(alphabet),
        max_token_length=LONGEST_TOKEN,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    found: dict[str, int] = tokenizer.get_vocab()
    return [token for token in sorted(found, key=found.__getitem__) if len(token) > 1]


class PairEncoder:
    """Finds tokens: of two neighbours those are joined first whose token stands first in the vocabulary.

    So the tokens in their order say all, and no list of joined pairs is kept beside them.

    Args:
        tokens: the vocabulary, each token a character for each of its bytes.

    Raises:
        SpecError: the package tokenizers is not installed.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        library = import_tokenizers()
        indices = {token: index for index, token in enumerate(tokens)}
        pairs = [pair for token in tokens for pair in _splits(token) if indices.keys() >= {*pair}]
        self._tokenizer: Any = library.Tokenizer(library.models.BPE(vocab=indices, merges=pairs))
        self._tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)

    def indices(self, pieces: Sequence[str]) -> Iterator[list[int]]:
        """The indices of the tokens of each piece."""
        for start in range(0, len(pieces), _GROUP):
            group = list(pieces[start : start + _GROUP])
            for found in self._tokenizer.encode_batch_fast(group, add_special_tokens=False):
                yield found.ids


def import_tokenizers() -> Any:
    """The package.

    Raises:
        SpecError: it is not installed; the message has the command that installs it.
    """
    try:
        return import_module("tokenizers")
    except ImportError:
        raise SpecError(
            "tokens of the unit bpe need the package tokenizers, which is not installed here: "
            "pip install 'd2lrnn[bpe]'"
        ) from None


def _splits(token: str) -> Iterator[tuple[str, str]]:
    return ((token[:at], token[at:]) for at in range(1, len(token)))
