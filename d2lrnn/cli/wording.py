"""The library's words for what the command line calls otherwise: its errors name options, not fields."""

from __future__ import annotations

import re

from d2lrnn.cli.train_options import OPTIONS

#: What the library says, and what the command line says for it. Of two that fit, the longer one is taken.
_PHRASES = {
    "unknown cell": "--cell: unknown cell",
    "unknown implementation": "--impl: unknown implementation",
    "unknown unit": "--tokens: unknown unit",
    "unknown iterator": "--iterator: unknown iterator",
    "unknown encoding": "--encoding: unknown encoding",
    "unknown optimizer": "--optimizer: unknown optimizer",
    "unknown schedule": "--schedule: unknown schedule",
    "the number of layers": "--layers",
    "the number of hidden units": "--hidden",
    "the embedding size": "--embedding",
    "give an embedding size": "give --embedding",
    "a tied head": "--tied",
    "the dropout rate": "--dropout",
    "the dropout rate of the inputs": "--input-dropout",
    "dropout of the inputs": "--input-dropout",
    "the dropout rate of the outputs": "--output-dropout",
    "take the scratch implementation": "take --impl scratch",
    "the least frequency of a token": "--min-freq",
    "min_freq does not apply": "--min-freq does not apply",
    "vocab_size applies to the unit bpe only": "--vocab-size applies to --tokens bpe only",
    "numbers of windows apply": "--num-train and --num-val apply",
    "take a smaller batch or fewer steps": "lower --batch-size or --steps",
    "the learning rate is": "--lr is",
    "the clipping norm is": "--clip is",
    "a smaller learning rate or clipping norm": "a smaller --lr or --clip",
    "the number of parts to accumulate": "--accumulate",
    "Nesterov's momentum needs a momentum": "--nesterov needs a --momentum",
    "the number of epochs is": "--epochs is",
    "early stopping needs": "--patience needs",
    "the number of checkpoints to keep": "--keep",
    "the number of tokens to generate": "--num",
    "the seed is": "--seed is",
    "the temperature is": "--temperature is",
    "top_k and top_p need a temperature": "--top-k and --top-p need a --temperature",
    "top_k is": "--top-k is",
    "top_p is": "--top-p is",
    "the prefix is empty": "--prefix is empty",
    "the width of the beam is": "--beam is",
}
_PHRASE = re.compile("|".join(map(re.escape, sorted(_PHRASES, key=len, reverse=True))))

#: Fields by their own names, alone or of an optimizer or a schedule: ``beta1 of adam``.
_FIELDS = {
    option.field: option.flag
    for option in OPTIONS
    if option.group in ("data", "optimizer", "schedule") and option.field != "name"
}
_FIELD = re.compile(rf"^({'|'.join(name.replace('_', '[ _]') for name in _FIELDS)})( of [a-z ]+)? is ")


def in_own_words(message: str) -> str:
    """An error of the library for whoever typed options.

    Example:
        >>> in_own_words("the number of hidden units is 0: it must be at least 1")
        '--hidden is 0: it must be at least 1'
        >>> in_own_words("weight decay of sgd is -1.0: it must be at least 0")
        '--weight-decay of sgd is -1.0: it must be at least 0'
    """
    message = _FIELD.sub(lambda found: _flag(found[1]) + (found[2] or "") + " is ", message)
    return _PHRASE.sub(lambda found: _PHRASES[found[0]], message)


def _flag(field: str) -> str:
    return _FIELDS[field.replace(" ", "_")]
