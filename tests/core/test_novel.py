"""The novel: where it is found, and what is refused. No test touches the network."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import pytest

from d2lrnn.data import time_machine as novel
from d2lrnn.data.time_machine import time_machine_text
from d2lrnn.errors import TextError

# ---- the novel

NOVEL = b"The Time Machine, a stand-in\n"
OLD = b"some other text"
PAGE = b"\n<!DOCTYPE html><html>Please log in</html>"


class Network:
    """An opener that answers the same every time and counts how often it was asked."""

    def __init__(self, answer: bytes | Exception = NOVEL) -> None:
        self.answer, self.calls = answer, 0

    def __call__(self, url: str, *, timeout: float) -> AbstractContextManager[io.BytesIO]:
        assert url == "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"
        assert 0 < timeout < 60
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return io.BytesIO(self.answer)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the novel is kept, empty at first; the novel is `NOVEL`."""
    monkeypatch.setattr(novel, "TIME_MACHINE_SHA1", hashlib.sha1(NOVEL).hexdigest())
    monkeypatch.delenv("D2LRNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "d2lrnn" / "timemachine.txt"


@pytest.fixture
def named(cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the novel would be in the folder of D2LRNN_DATA; the folder is empty."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("D2LRNN_DATA", str(folder))
    return folder / "timemachine.txt"


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def test_the_novel_is_fetched_once_and_kept(cached: Path) -> None:
    network = Network()
    assert time_machine_text(network) == time_machine_text(network) == NOVEL.decode()
    assert network.calls == 1
    assert cached.read_bytes() == NOVEL
    assert os.listdir(cached.parent) == ["timemachine.txt"], "a temporary file was left"


def test_the_named_folder_comes_first(named: Path, cached: Path) -> None:
    put(named, NOVEL)
    put(cached, OLD)
    network = Network()
    assert time_machine_text(network) == NOVEL.decode()
    assert network.calls == 0
    assert cached.read_bytes() == OLD


@pytest.mark.parametrize("missing", ["file", "folder", "folder is a file", "setting"])
def test_without_a_file_in_the_named_folder_the_search_goes_on(
    named: Path, cached: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing.startswith("folder"):
        named.parent.rmdir()
    if missing == "folder is a file":
        named.parent.write_text("not a folder")
    if missing == "setting":
        monkeypatch.setenv("D2LRNN_DATA", "")  # which does not mean the folder that one is in
        put(named, OLD)
        monkeypatch.chdir(named.parent)
    network = Network()
    assert time_machine_text(network) == NOVEL.decode()
    assert network.calls == 1
    assert cached.read_bytes() == NOVEL


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (PAGE, "looks like a web page"),
        (OLD, f"its 15 bytes have the SHA-1 checksum {hashlib.sha1(OLD).hexdigest()}"),
        (b"", "its 0 bytes have"),
    ],
)
def test_another_file_in_the_named_folder_is_refused(named: Path, data: bytes, told: str) -> None:
    put(named, data)
    network = Network()
    with pytest.raises(
        TextError, match=rf"timemachine\.txt, in the folder of D2LRNN_DATA, is not the novel.*{told}"
    ):
        time_machine_text(network)
    assert network.calls == 0


def test_a_folder_in_the_file_s_place_is_refused(named: Path) -> None:
    named.mkdir()
    with pytest.raises(TextError, match=r"cannot read .*timemachine\.txt, in the folder of D2LRNN_DATA"):
        time_machine_text(Network())


@pytest.mark.parametrize(
    ("answer", "told"),
    [(PAGE, "looks like a web page, as the log-in page of a network"), (OLD, "its 15 bytes")],
)
def test_another_answer_is_refused_and_never_kept(cached: Path, answer: bytes, told: str) -> None:
    with pytest.raises(
        TextError, match=rf"http://d2l-data\S+ answered is not the novel: .*{told}.*D2LRNN_DATA"
    ):
        time_machine_text(Network(answer))
    assert not cached.parent.exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (URLError("Name or service not known"), "Name or service not known"),
        (URLError(OSError(-2, "Name or service not known")), ": Name or service not known. Put"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (HTTPException(), "HTTPException"),
    ],
)
def test_without_a_network_there_is_a_way_out(cached: Path, error: Exception, told: str) -> None:
    with pytest.raises(TextError) as caught:
        time_machine_text(Network(error))
    message = str(caught.value)
    for part in (novel.TIME_MACHINE_URL, told, "timemachine.txt", "D2LRNN_DATA", "sample"):
        assert part in message


def test_an_answer_without_end_is_cut_off(cached: Path) -> None:
    class Endless:
        read_so_far = 0

        def read1(self, size: int) -> bytes:
            assert self.read_so_far < 2_000_000
            self.read_so_far += min(size, 10_000)
            return b"x" * min(size, 10_000)

        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    with pytest.raises(TextError, match="it has more than 1,048,576 bytes"):
        time_machine_text(lambda url, timeout: Endless())


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """A server of this machine that sends its beginning, and then a byte now and then."""
    ended = threading.Event()
    beginnings: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError), server.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(beginnings[0])
            while not ended.wait(0.02):
                connection.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    monkeypatch.setattr(novel, "TIME_MACHINE_URL", f"http://127.0.0.1:{server.getsockname()[1]}/")
    monkeypatch.setenv("no_proxy", "*")
    yield beginnings.append
    ended.set()
    # Wakes it where nobody has asked.
    with suppress(OSError):
        socket.create_connection(server.getsockname()).close()
    thread.join()
    server.close()


@pytest.mark.parametrize(
    "beginning",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 178979\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: "],
    ids=["text", "header"],
)
def test_an_answer_that_comes_a_byte_at_a_time_is_given_up(
    cached: Path, dripping: Callable[[bytes], None], beginning: bytes
) -> None:
    dripping(beginning)
    with pytest.raises(TextError) as caught:
        time_machine_text(seconds=0.3)
    message = str(caught.value)
    assert "it was not there after 0.3 seconds. Put the file timemachine.txt into a folder" in message
    assert "set D2LRNN_DATA to that folder" in message
    assert not cached.parent.exists()


def test_a_connection_that_breaks_off_in_the_answer(cached: Path) -> None:
    class Broken(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            raise HTTPException("IncompleteRead")

    with pytest.raises(TextError, match=r"cannot fetch http.*timemachine.txt: .*IncompleteRead"):
        time_machine_text(lambda url, timeout: Broken())


def test_a_corrupt_file_in_the_cache_is_replaced(cached: Path) -> None:
    put(cached, PAGE)
    network = Network()
    assert time_machine_text(network) == NOVEL.decode()
    assert network.calls == 1
    assert cached.read_bytes() == NOVEL


@pytest.mark.parametrize("answer", [TimeoutError("timed out"), OLD])
def test_a_corrupt_file_in_the_cache_without_a_fresh_copy(cached: Path, answer: bytes | Exception) -> None:
    put(cached, PAGE)
    with pytest.raises(
        TextError, match=r"timemachine\.txt is not the novel: it looks like a web page.*D2LRNN_DATA"
    ):
        time_machine_text(Network(answer))
    assert cached.read_bytes() == PAGE


def test_a_cache_that_cannot_be_written_is_no_error(cached: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    network = Network()
    assert time_machine_text(network) == NOVEL.decode()
    assert time_machine_text(network) == NOVEL.decode()
    assert network.calls == 2


def test_a_write_that_fails_leaves_nothing_behind(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert time_machine_text(Network()) == NOVEL.decode()
    assert os.listdir(cached.parent) == []


def test_a_user_without_a_home_has_no_cache(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert time_machine_text(Network()) == NOVEL.decode()


@pytest.mark.parametrize(("platform", "home"), [("linux", ".cache"), ("win32", "AppData")])
def test_where_the_cache_is(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, home: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    time_machine_text(Network())
    assert (tmp_path / home / "d2lrnn" / "timemachine.txt").read_bytes() == NOVEL
