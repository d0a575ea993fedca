"""Where texts come from: files, folders, several of them, standard input."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from d2lrnn.data.spec import DataSpec
from d2lrnn.data.texts import describe_source, read_source, sample_text, source_of
from d2lrnn.errors import SpecError, TextError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four texts, one of them in a folder of its own, and a file that is none."""
    (tmp_path / "inner").mkdir()
    for name, text in {"b.txt": "b", "a.txt": "a\n", "inner/c.txt": "c", "d.txt": "d\r\n"}.items():
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "notes.md").write_text("not read")
    (tmp_path / "fake.txt").mkdir()
    return tmp_path


def test_several_texts_are_joined_each_from_a_new_line_on(folder: Path) -> None:
    source = source_of([folder / "b.txt", folder / "a.txt", folder / "d.txt"])
    assert read_source(source) == "b\na\nd\n"


def test_of_a_folder_all_text_files_are_read_in_the_order_of_their_paths(folder: Path) -> None:
    assert read_source(str(folder)) == "a\nb\nd\nc"
    assert read_source(source_of([folder / "inner", folder / "b.txt"])) == "c\nb"
    (folder / "empty").mkdir()
    with pytest.raises(TextError, match=r"the folder .*empty has no \.txt file"):
        read_source(str(folder / "empty"))


def test_an_error_names_the_file_that_is_wrong(folder: Path) -> None:
    (folder / "d.txt").write_bytes(b"\xe9")
    with pytest.raises(TextError, match=r"d\.txt is not UTF-8"):
        read_source(str(folder))


def test_standard_input(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    pipe("\ufeffschön\r\n".encode())
    assert read_source("-") == "schön\n"
    pipe("schön".encode("latin1"))
    assert read_source("-", "latin1") == "schön"
    pipe(b"x")
    assert read_source(source_of(["-", folder / "a.txt"])) == "x\na\n"
    for data, told in ((b" \n", "has no text"), (b"\xe9", "is not UTF-8: the byte 0xe9 at offset 0")):
        pipe(data)
        with pytest.raises(TextError, match=rf"standard input {told}"):
            read_source("-")


def test_a_built_in_text_may_be_one_of_several(folder: Path) -> None:
    assert read_source(source_of(["sample", folder / "b.txt"])) == sample_text().rstrip("\n") + "\nb"


@pytest.mark.parametrize("names", [[], "", ["a.txt", ""], ["-", "a.txt", "-"]])
def test_names_that_are_none(names: list[str] | str) -> None:
    with pytest.raises(SpecError, match=r"has no name|can be read once only"):
        source_of(names)


def test_a_source_is_a_value() -> None:
    spec = DataSpec(source=["a.txt", "b.txt"])  # type: ignore[arg-type]  # as JSON has it
    assert spec == DataSpec(**spec.to_json())
    assert hash(spec) == hash(DataSpec(source=("a.txt", "b.txt")))
    assert DataSpec(source=("a.txt",)) == DataSpec(source="a.txt")
    assert describe_source(spec.source) == "a.txt, b.txt"
    # Only a built-in text alone is normalised where nobody asks for it.
    assert DataSpec("sample").is_normalized
    assert not DataSpec(("sample", "time-machine")).is_normalized
