"""Room on disk: known before the work begins, whatever the limit is."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from small_disk import on_small_disk

from vfm_isbench.errors import RunError
from vfm_isbench.storage import room
from vfm_isbench.storage.room import check_room

FILES = {"the checkpoint": 300_000, "evidence": 0, "the result": 100_000}
CHECK = "import pathlib; from vfm_isbench.storage import room; room.check_room(pathlib.Path({!r}), {}, 'go away')"


@pytest.mark.parametrize("can_allocate", [True, False])
def test_with_room_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_allocate: bool) -> None:
    if not can_allocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    check_room(tmp_path, FILES, "go away")
    assert list(tmp_path.iterdir()) == []


def test_too_little_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 399_999))
    with pytest.raises(RunError) as caught:
        check_room(tmp_path, FILES, "choose another folder")
    assert str(caught.value) == (
        f"not enough room in {tmp_path}: 400 kB are needed there (300 kB for the checkpoint, 0 kB for evidence, 100 kB "
        "for the result). The disk has 400 kB free. Free some space, or choose another folder"
    )


@pytest.mark.parametrize("can_allocate", [True, False])
def test_a_quota_does_not_show_in_the_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_allocate: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    if can_allocate:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    else:
        monkeypatch.setattr(room, "_fill", refuse)
    with pytest.raises(RunError, match=r"cannot be written: Disk quota exceeded\. The disk has .* may be a quota"):
        check_room(tmp_path, FILES, "go away")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="limits on the size of files are of POSIX systems")
def test_a_limit_on_the_size_of_files(python: list[str], tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
    words = [*python, "-c", limit + CHECK.format(str(tmp_path), FILES)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "RunError: 400 kB are needed" in ended.stderr and "File too large" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_small_disk(tmp_path: Path) -> None:
    tried = f"""
from vfm_isbench.errors import RunError
try:
    {CHECK.format(str(tmp_path), FILES)}
    print("room")
except RunError as error:
    print(error)
"""
    assert on_small_disk(tmp_path, 0.5, tried) == "room\n"
    assert "The disk has 209 kB free" in on_small_disk(tmp_path, 0.2, tried)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written: No such file or directory"):
        check_room(tmp_path / "gone", FILES, "go away")
