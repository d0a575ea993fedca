"""What every tab of the book offers that has no framework in it.

A tab is the package behind ``from d2lrnn import <name> as d2l``. Its ``__init__`` takes ``*`` from here, from
its ``tensors.py`` and its ``first_edition.py``, imports its models by name, and puts ``__all__`` together in
ways that type checkers follow.
"""

from __future__ import annotations

from typing import Any

from d2lrnn.book.current_edition import (
    HyperParameters,
    add_to_class,
    check_len,
    check_shape,
)
from d2lrnn.book.data_sets import DATA_HUB, DATA_URL, download, download_extract, extract
from d2lrnn.book.figures import Animator, ProgressBoard, plot, set_figsize
from d2lrnn.book.first_edition import (
    Timer,
    count_corpus,
    load_corpus_time_machine,
    read_time_machine,
    tokenize,
)
from d2lrnn.book.pictures import set_axes, show_heatmaps, show_list_len_pair_hist, use_svg_display
from d2lrnn.book.sentiment import read_imdb
from d2lrnn.book.translation import preprocess_nmt, read_data_nmt, tokenize_nmt, truncate_pad
from d2lrnn.data.vocabulary import FrequencyVocab, Vocab
from d2lrnn.translation.bleu import bleu

#: What names stand for in the first edition, where that is something else.
FIRST_EDITION: dict[str, Any] = {"Vocab": FrequencyVocab}

__all__ = [
    "DATA_HUB", "DATA_URL", "FIRST_EDITION", "Animator", "FrequencyVocab", "HyperParameters",
    "ProgressBoard", "Timer", "Vocab", "add_to_class", "bleu", "check_len", "check_shape",
    "count_corpus", "download", "download_extract", "extract", "load_corpus_time_machine", "plot",
    "preprocess_nmt", "read_data_nmt", "read_imdb", "read_time_machine", "set_axes", "set_figsize",
    "show_heatmaps", "show_list_len_pair_hist", "tokenize", "tokenize_nmt", "truncate_pad",
    "use_svg_display",
]  # fmt: skip
