"""Files of data: where they are found, that they are checked, and what is left where they cannot be had."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from urllib.error import URLError
from zipfile import ZipFile

import pytest

from d2lrnn.book import data_sets as book
from d2lrnn.data.data_sets import DATA_SETS, DataSet, data_file, data_folder, unpacked_data
from d2lrnn.errors import SpecError, TextError

CONTENT = b"words " * 1000
WORDS = DataSet("http://data.example/files/words.txt?version=2", hashlib.sha1(CONTENT).hexdigest())


class Network:
    """Answers with the content, or fails; counts."""

    def __init__(self, answer: bytes | Exception = CONTENT) -> None:
        self.answer, self.calls = answer, 0

    def __call__(self, url: str, timeout: float) -> io.BytesIO:
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return io.BytesIO(self.answer)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("D2LRNN_DATA", raising=False)
    return tmp_path / "cache" / "d2lrnn"


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that D2LRNN_DATA names, empty."""
    folder = tmp_path / "named"
    folder.mkdir()
    monkeypatch.setenv("D2LRNN_DATA", str(folder))
    return folder


def _all(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = Network()
    assert data_file(WORDS, opener=network) == data_file(WORDS, opener=network) == cache / "words.txt"
    assert (cache / "words.txt").read_bytes() == CONTENT
    assert network.calls == 1
    assert capsys.readouterr().err == f"fetching {WORDS.url}\n"
    assert _all(cache) == ["words.txt"]


def test_a_folder_of_one_s_own(cache: Path, tmp_path: Path) -> None:
    network = Network()
    file = data_file(WORDS, tmp_path / "mine" / "deeper", opener=network)
    assert file == tmp_path / "mine" / "deeper" / "words.txt"
    assert not cache.exists()
    file.write_bytes(b"my own")
    with pytest.raises(TextError, match=r"words\.txt is not the file of http.*its 6 bytes.*another folder"):
        data_file(WORDS, file.parent, opener=network)
    assert file.read_bytes() == b"my own"


def test_the_named_folder_comes_first(cache: Path, named: Path, tmp_path: Path) -> None:
    (named / "words.txt").write_bytes(CONTENT)
    assert data_file(WORDS, opener=Network(URLError("no network"))) == named / "words.txt"
    copy = data_file(WORDS, tmp_path / "mine", opener=Network(URLError("no network")))
    assert copy.read_bytes() == CONTENT
    assert not cache.exists()
    (named / "words.txt").write_bytes(b"<html>")
    with pytest.raises(TextError, match=r"in the folder of D2LRNN_DATA, is not the file.*a web page"):
        data_file(WORDS, opener=Network())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            URLError(OSError(-2, "no such host")),
            r"cannot fetch http\S+: no such host\. Put the file words\.txt into",
        ),
        (b"<!doctype html>", r"answered is not the file .*a web page.*D2LRNN_DATA"),
        (CONTENT[:-1], r"its 5,999 bytes have the SHA-1 checksum [0-9a-f]{40}, not [0-9a-f]{40}"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_nothing_is_kept_of_another_answer(cache: Path, answer: bytes | Exception, told: str) -> None:
    with pytest.raises(TextError, match=told):
        data_file(WORDS, opener=Network(answer))
    assert _all(cache) == []


def test_a_damaged_file_in_the_cache_is_fetched_anew(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "words.txt").write_bytes(CONTENT[:100])
    assert data_file(WORDS, opener=Network()).read_bytes() == CONTENT


def test_an_address_without_a_file() -> None:
    with pytest.raises(SpecError, match="does not end in the name of a file"):
        data_file(DataSet("http://data.example/files/", "0" * 40), opener=Network())


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(TextError, match="no folder for downloads: set D2LRNN_DATA"):
        data_file(WORDS, opener=Network())


def _archive(file: Path) -> DataSet:
    with ZipFile(file, "w") as archive:
        archive.writestr("set/a.txt", "a")
    return DataSet(f"http://data.example/{file.name}", hashlib.sha1(file.read_bytes()).hexdigest())


def test_an_archive_is_unpacked_once(cache: Path, named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _archive(named / "set.zip")
    monkeypatch.setitem(book.DATA_HUB, "mine", tuple(archive))
    folder = Path(book.download_extract("mine"))
    assert (folder.name, (folder / "a.txt").read_text()) == ("set", "a")
    assert folder.parent == unpacked_data(archive) == data_folder() / "unpacked" / archive.sha1
    (folder / "a.txt").unlink()  # by the user, who does not want it
    assert book.download_extract("mine", "other") == str(folder.parent / "other")
    assert not (folder / "a.txt").exists()
    # Nothing is written into the named folder, by `extract` neither.
    book.extract(book.download("mine"))
    assert _all(named) == ["set.zip"]
    assert (cache / "set" / "a.txt").read_text() == "a"


def test_the_book_s_names(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    assert {name: DataSet(*entry) for name, entry in book.DATA_HUB.items()} == DATA_SETS
    assert all(len(data_set.sha1) == 40 for data_set in DATA_SETS.values())
    (tmp_path / "mine").mkdir()
    own = tmp_path / "mine" / "words.txt"
    own.write_bytes(CONTENT)
    for arguments in (
        (WORDS.url, str(own.parent), WORDS.sha1),
        (WORDS.url, str(own.parent), WORDS.sha1.upper()),
    ):
        assert book.download(*arguments) == str(own)
    monkeypatch.setitem(book.DATA_HUB, "words", tuple(WORDS))
    assert book.download("words", cache_dir=str(own.parent)) == str(own)
    assert book.download(WORDS.url, str(own.parent)) == str(own)
    # The book's own folder is the user's cache.
    cache.mkdir(parents=True)
    (cache / "words.txt").write_bytes(CONTENT)
    assert book.download("words", "../data") == book.download("words") == str(cache / "words.txt")
    with pytest.raises(SpecError, match=r"words\.txt is no archive: d2l\.download gives its path"):
        book.download_extract("words")
    with pytest.raises(SpecError, match=r"nothing is known of 'airfoil': give its checksum.*fra-eng"):
        book.download("airfoil")
