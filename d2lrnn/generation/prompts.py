"""What a model continues where no prefix is given: the beginning of the text that it was trained on."""

from __future__ import annotations

from d2lrnn.data.byte_level import ByteLevelVocab
from d2lrnn.data.corpus import Corpus
from d2lrnn.data.mapped import span
from d2lrnn.data.texts import BUILT_IN
from d2lrnn.data.vocabulary import UNKNOWN, Vocab

#: The book's prefix.
_BOOK_PROMPT = "it has"

#: The most characters and the most words of a beginning, and how many tokens of a text are looked at for it.
_CHARACTERS, _WORDS, _BEGINNING = 16, 3, 64


def prompt_of(corpus: Corpus) -> str:
    """What the samples of a run begin with: the book's prefix for a built-in text, else the first words.

    Example:
        >>> from d2lrnn.data.corpus import corpus_from_text
        >>> prompt_of(corpus_from_text("Call me Ishmael. Some years ago"))
        'Call me Ishmael.'
    """
    if corpus.unit != "word" and corpus.source in BUILT_IN:
        return _BOOK_PROMPT
    beginning = span(corpus.tokens, 0, _BEGINNING)
    known = beginning[beginning != corpus.vocab.unk] if corpus.vocab.has_unknown else beginning
    if corpus.unit == "word":
        return corpus.decode(known[:_WORDS]) or prompt_from(corpus.vocab)
    text = corpus.decode(known).strip()
    line = text.splitlines()[0] if text else ""
    cut = line[:_CHARACTERS]
    if len(line) > _CHARACTERS and not line[_CHARACTERS].isspace() and len(cut.split()) > 1:
        cut = cut[: -len(cut.split()[-1])]  # half a word
    return cut.strip() or prompt_from(corpus.vocab)


def prompt_from(vocab: Vocab) -> str:
    """What to continue where nothing but the vocabulary is known: the book's prefix, or any token.

    Example:
        >>> prompt_from(Vocab("it has")), prompt_from(Vocab(["wells", "time"]))
        ('it has', 'time')
    """
    if isinstance(vocab, ByteLevelVocab) or all(character in vocab for character in _BOOK_PROMPT):
        return _BOOK_PROMPT
    return next((str(token) for token in vocab.idx_to_token if token != UNKNOWN), UNKNOWN)
