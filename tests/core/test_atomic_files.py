"""Files are synced to the disk before they get their public names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from d2lrnn import initial_parameters
from d2lrnn.atomic_files import write_atomically
from d2lrnn.contract.specs import ModelSpec, TrainingSpec
from d2lrnn.data.spec import DataSpec
from d2lrnn.data.vocabulary import Vocab
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import load_run, save_run


class Disk:
    """What a power failure would leave: which files, by inode, were synced with how many bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: dict[int, int] = {}
        self.named: list[Path] = []
        self.lost: list[Path] = []
        fsync, replace, rename = os.fsync, os.replace, os.rename

        def watched_fsync(descriptor: int) -> None:
            fsync(descriptor)
            status = os.fstat(descriptor)
            self.synced[status.st_ino] = status.st_size

        def watched_replace(source: Path, target: Path) -> None:
            self._name(Path(source), Path(target))
            replace(source, target)

        def watched_rename(source: Path, target: Path) -> None:
            self._name(Path(source), Path(target))
            rename(source, target)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched_replace)
        monkeypatch.setattr(os, "rename", watched_rename)

    def _name(self, source: Path, target: Path) -> None:
        """Notes what gets a public name without being on the disk, a folder with all that is in it."""
        self.named.append(target)
        if not source.is_symlink() and not target.name.startswith("."):
            parts = [source, *source.iterdir()] if source.is_dir() else [source]
            self.lost += [target / part.name for part in parts if not self._is_synced(part)]

    def _is_synced(self, path: Path) -> bool:
        status = path.stat()
        return self.synced.get(status.st_ino) == status.st_size

    def has_synced(self, folder: Path) -> bool:
        """Whether the folder was synced, so that the names in it are on the disk."""
        return folder.stat().st_ino in self.synced


def test_a_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    disk = Disk(monkeypatch)
    for content in (b"first", b"a longer second"):
        disk.synced.clear()
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert disk.has_synced(tmp_path)
    assert disk.named == [path, path]
    assert disk.lost == []


def test_a_checkpoint_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModelSpec(4, num_hiddens=4)
    run = Run(spec, initial_parameters(spec), Vocab(list("abc")), DataSpec(), TrainingSpec())
    disk = Disk(monkeypatch)
    for _ in range(2):
        disk.synced.clear()
        checkpoint = save_run(run, tmp_path / "run")
        assert checkpoint in disk.named
        assert disk.has_synced(tmp_path / "run")
    assert disk.lost == []
    np.testing.assert_array_equal(load_run(tmp_path / "run").parameters["head.b"], run.parameters["head.b"])


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"before")

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
