"""The text that a saved run names, and whether it may be read.

A saved run can come from anybody, and names its text by a path: that of a device, of a pipe, of somebody's
private file. So without the user's word, which is to name the text, a run's text is opened only where it is
a regular file of the size that the run recorded; and where its tokens are not those that the run recorded,
nothing of it is shown or learned. Whoever could write such a run had the text.
"""

from __future__ import annotations

import os
import stat

from d2lrnn.data.corpus import Corpus
from d2lrnn.data.texts import BUILT_IN, STANDARD_INPUT, Source, describe_source, files_in, names_in
from d2lrnn.errors import RunError, TextError
from d2lrnn.saving.run import Run, text_digest


def text_size(source: Source) -> int | None:
    """The bytes of a text's files; None where it cannot be read again: standard input, a pipe, a device.

    The built-in texts are the library's own, and count nothing.

    Raises:
        TextError: a file is not there.

    Example:
        >>> text_size("sample"), text_size("-")
        (0, None)
    """
    size = 0
    for name in names_in(source):
        if name == STANDARD_INPUT:
            return None
        for path in () if name in BUILT_IN else files_in(name):
            try:
                status = os.stat(path)
            except OSError as error:
                raise TextError(f"{path} is not there any more") from error
            if not stat.S_ISREG(status.st_mode):
                return None
            size += status.st_size
    return size


def check_text_may_be_read(run: Run, source: Source, command: str) -> None:
    """Checks that the text which a run names is the one that it was trained on, without opening it.

    Args:
        run: the run.
        source: its text.
        command: what gives the text anew.

    Raises:
        TextError: it is gone, was piped in, or is no regular file; or it is of another size than the run
            recorded; or the run recorded neither size nor digest, as before version 0.4.
    """
    if all(name in BUILT_IN for name in names_in(source)):
        return
    for name in names_in(source):
        if name == STANDARD_INPUT:
            raise TextError(f"the text of the run came from standard input: give it anew with {command}")
        if name not in BUILT_IN and not os.path.exists(name):
            raise TextError(
                f"the text of the run, {name}, is not there any more: give its new path with {command}"
            )
    shown = describe_source(source)
    if run.text_size is None or run.text_digest is None:
        raise TextError(
            f"the run did not record the size of its text, {shown}, which is read only where you name it: "
            f"{command}"
        )
    size = text_size(source)
    if size is None:
        raise TextError(f"the text of the run, {shown}, is not a file: give a text with {command}")
    if size != run.text_size:
        raise TextError(
            f"{shown} is not the text that the run was trained on: it has {size:,} bytes, not "
            f"{run.text_size:,}. Give the path of the text as it was with {command}"
        )


def check_tokens(run: Run, corpus: Corpus) -> None:
    """Checks that a text is the one that a run was trained on, as far as the run recorded it.

    Raises:
        RunError: its tokens are others.
    """
    if run.text_digest not in (None, text_digest(corpus)):
        raise RunError(
            f"{corpus.source} is not the text that the run was trained on: its tokens have "
            "changed. Give the path of the text as it was"
        )
