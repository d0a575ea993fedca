"""Which formats of files there are: data in the backends' packages, beside their conventions.

``conventions.toml`` of a backend may have tables ``[[format]]``, whose fields are those of `Format`. They are
read without the framework, so a file of one that is not installed here is known all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from d2lrnn.errors import PortError, RunError
from d2lrnn.ports.conventions import porting_backends, read_table, table_error
from d2lrnn.saving.checkpoint import opened
from d2lrnn.saving.json_fields import decode
from d2lrnn.saving.tensor_files import read_text


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        name: what ``--to`` takes.
        suffixes: of the names of its files, the one that a new file gets first.
        folder: whether it is a folder.
        described: whether a file says which layers it has, or has names and arrays only.
        plain: whether it is a safetensors file with the framework's names, which needs no framework.
        namespace: of which kind the layers are that it is written from, where the framework has several.
        backend: whose framework writes and reads it; None is d2lrnn's own.
    """

    name: str
    suffixes: tuple[str, ...]
    folder: bool
    described: bool
    plain: bool = False
    namespace: str | None = None
    backend: str | None = None


#: What `d2lrnn.ports.ported.Ported.save` writes: the way between two environments.
PORTED = Format("ported", (".ported.safetensors", ".safetensors"), folder=False, described=True)


@cache
def formats() -> tuple[Format, ...]:
    """All formats; their frameworks need not be installed.

    Raises:
        PortError: the table of a backend is wrong.

    Example:
        >>> [each.name for each in formats() if ".pth" in each.suffixes]
        ['torch']
    """
    return (PORTED, *(each for name in porting_backends() for each in _formats_of(name)))


def _formats_of(backend: str) -> list[Format]:
    path, document = read_table(backend)
    try:
        return [
            decode(
                Format,
                {"plain": False, "namespace": None, **each, "backend": backend},
                f"format {n}",
                {"backend": backend},
            )
            for n, each in enumerate(document.get("format", []), start=1)
        ]
    except RunError as error:
        raise table_error(path, error) from error


def find_format(name: str) -> Format:
    """The format called `name`.

    Raises:
        PortError: there is none; the message lists those that there are.
    """
    for each in formats():
        if each.name == name.strip().lower():
            return each
    raise PortError(f"unknown format {name!r}: choose one of {', '.join(each.name for each in formats())}")


def format_of(path: Path) -> Format:
    """The format of a file, by its name, and where several have the same by what is in it.

    Raises:
        PortError: there is no such file, or none has this suffix.
    """
    if not path.exists():
        raise PortError(f"{path} cannot be read: there is no such file")
    found = _by_suffix(path.name, [each for each in formats() if each.folder == path.is_dir()])
    if not found and path.is_file() and _is_ported(path):
        return PORTED
    if not found:
        known = "; ".join(f"{each.name} ({', '.join(each.suffixes) or 'a folder'})" for each in formats())
        raise PortError(f"the format of {path} is not known by its name: say it by --from. There are {known}")
    if PORTED in found and len(found) > 1:
        return PORTED if _is_ported(path) else next(each for each in found if each != PORTED)
    if len(found) > 1:
        names = " or ".join(each.name for each in found)
        raise PortError(f"{path} can be of the format {names}: say which by --from")
    return found[0]


def _by_suffix(name: str, among: Sequence[Format]) -> list[Format]:
    """Those with the longest suffix that the name ends with."""
    fits = [
        (len(suffix), each) for each in among for suffix in each.suffixes if name.lower().endswith(suffix)
    ]
    longest = max((length for length, _ in fits), default=0)
    return [each for length, each in fits if length == longest]


def without_suffix(name: str, kind: Format) -> str:
    """The name of a file without the suffix of its format."""
    ends = [suffix for suffix in kind.suffixes if name.lower().endswith(suffix)]
    return name[: -len(max(ends, key=len))] if ends else name


def _is_ported(path: Path) -> bool:
    try:
        with opened(path) as file:
            read_text(file, path)
    except RunError:
        return False
    return True
