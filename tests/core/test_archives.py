"""Archives are unpacked within their folder, within their size, and over nothing."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from d2lrnn.data.archives import unpack
from d2lrnn.errors import TextError


def _zip(path: Path, members: dict[str, bytes], kind: int = stat.S_IFREG) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            archive.writestr(info, content)
    return path


def _tar(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return path


MEMBERS = {"set/train/a.txt": b"a" * 3000, "set/b.txt": b"", "c.txt": b"c"}


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
def test_what_an_archive_holds(tmp_path: Path, name: str) -> None:
    archive = (_zip if name.endswith("zip") else _tar)(tmp_path / name, MEMBERS)
    unpack(archive, tmp_path / "out")
    assert _content(tmp_path / "out") == MEMBERS
    assert sorted(os.listdir(tmp_path / "out")) == ["c.txt", "set"]
    # What is there stays: a user may have changed it.
    (tmp_path / "out" / "c.txt").write_text("mine")
    (tmp_path / "out" / "set" / "b.txt").unlink()
    unpack(archive, tmp_path / "out")
    assert _content(tmp_path / "out") == {**MEMBERS, "c.txt": b"mine"}


@pytest.mark.parametrize("make", [_zip, _tar])
@pytest.mark.parametrize("name", ["../out.txt", "/abs.txt", "a/../../b.txt", "C:\\x.txt", "..\\x.txt"])
def test_a_path_that_climbs_out(tmp_path: Path, make: object, name: str) -> None:
    path = tmp_path / ("a.zip" if make is _zip else "a.tar")
    archive = make(path, {"good.txt": b"good", name: b"bad"})  # type: ignore[operator]
    with pytest.raises(TextError, match="is outside of the folder that it is unpacked to"):
        unpack(archive, tmp_path / "out")
    assert _content(tmp_path) == {path.name: path.read_bytes()}


def test_links_and_devices(tmp_path: Path) -> None:
    archives = [_zip(tmp_path / "a.zip", {"link": b"/etc/passwd"}, stat.S_IFLNK)]
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
        archives.append(_tar(tmp_path / f"{number}.tar", {"link": b""}, kind))
    for archive in archives:
        with pytest.raises(TextError, match="'link', which is no file but a link or the like"):
            unpack(archive, tmp_path / "out")
    assert _content(tmp_path / "out") == {}


@pytest.mark.parametrize("make", [_zip, _tar])
def test_a_bomb(tmp_path: Path, make: object) -> None:
    archive = make(tmp_path / ("a.zip" if make is _zip else "a.tgz"), {"big": bytes(100_000)})  # type: ignore[operator]
    unpack(archive, tmp_path / "fits", most_bytes=100_000)
    with pytest.raises(TextError, match="unpacks to more than 99,999 bytes"):
        unpack(archive, tmp_path / "out", most_bytes=99_999)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_damaged_archive(tmp_path: Path, name: str) -> None:
    archive = (_zip if name.endswith("zip") else _tar)(tmp_path / name, MEMBERS)
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 3])
    with pytest.raises(TextError, match="cannot be unpacked: "):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    archive.unlink()
    with pytest.raises(TextError, match="cannot be unpacked: No such file"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(TextError, match=r"its name must end in \.zip"):
        unpack(tmp_path / "a.rar", tmp_path / "out")
