"""Writing a file: readers never find half of it, and a failure leaves the old file and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfm_isbench.storage import atomic
from vfm_isbench.storage.atomic import partial_of, remove_left_over, replacing, write_bytes, write_text

OLD, NEW = b"old content", b"new"


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_bytes(OLD)
    return path


@pytest.mark.parametrize("durable", [True, False])
def test_the_new_file_replaces_the_old_one_only_after_the_block(path: Path, durable: bool) -> None:
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(NEW)
        assert partial.parent == path.parent
        assert path.read_bytes() == OLD
    assert path.read_bytes() == NEW
    assert names_in(path.parent) == ["result.json"]


@pytest.mark.parametrize("error", [ValueError("broken"), OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failing_block_leaves_things_as_they_were(path: Path, error: BaseException, exists: bool) -> None:
    if not exists:
        path.unlink()
    before = names_in(path.parent)
    with pytest.raises(type(error)), replacing(path) as partial:
        partial.write_bytes(b"half of the new con")
        raise error
    assert names_in(path.parent) == before
    assert not exists or path.read_bytes() == OLD


def fail(*_: object) -> None:
    raise OSError("cannot do that")


def failing_flush(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(atomic.os, "fsync", fail)


def failing_replace(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "replace", fail)


@pytest.mark.parametrize("break_step", [failing_flush, failing_replace])
def test_a_failure_after_the_block_leaves_the_old_file_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, break_step: Callable[[pytest.MonkeyPatch], None]
) -> None:
    break_step(monkeypatch)
    with pytest.raises(OSError, match="cannot do that"):
        write_bytes(path, NEW)
    assert path.read_bytes() == OLD
    assert names_in(path.parent) == ["result.json"]


def test_a_block_that_writes_nothing_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_bytes() == OLD


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "none" / "result.json", NEW)


@pytest.mark.parametrize("durable", [True, False])
def test_durable_files_are_on_disk_before_they_take_their_place(
    path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    flushed = []

    def fsync(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_ino, path.read_bytes()))

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(NEW)
        written = partial.stat().st_ino
    # First the new file, while the old one is still in place; then the folder, for the change of names.
    assert flushed == ([(written, OLD), (path.parent.stat().st_ino, NEW)] if durable else [])


def test_two_writers_at_once_do_not_mix(path: Path) -> None:
    """Both write half of their file before either continues."""
    barrier = Barrier(2, timeout=10)

    def write(letter: bytes) -> None:
        with replacing(path) as partial, partial.open("wb") as file:
            file.write(letter * 50_000)
            barrier.wait()
            file.write(letter * 50_000)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (b"a", b"b")))
    assert path.read_bytes() in (b"a" * 100_000, b"b" * 100_000)
    assert names_in(path.parent) == ["result.json"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_a_file_holds_what_was_written_last(texts: list[str]) -> None:
    """Whatever the text: line ends and all of Unicode arrive unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        for text in texts:
            write_text(path, text)
            assert path.read_bytes() == text.encode("utf-8")
        assert names_in(path.parent) == ["text.txt"]


def test_a_link_keeps_pointing_to_the_file(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink() and file.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="named pipes are of POSIX systems")
def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        write_text(pipe, "content")
        assert read.result() == "content"
    assert pipe.is_fifo()


def killed_while_writing(path: Path) -> Path:
    """The temporary file of a process that was killed; it is there."""
    code = f"""
import os, signal, sys
from pathlib import Path
from vfm_isbench.storage.atomic import replacing
with replacing(Path({str(path)!r})) as partial:
    partial.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (partial,) = path.parent.glob("*.partial")
    return partial


@pytest.mark.skipif(os.name != "posix", reason="elsewhere nobody can ask whether a process is running")
def test_the_temporary_file_of_a_killed_process_is_removed(path: Path) -> None:
    partial = killed_while_writing(path)
    assert remove_left_over(path.parent, "checkpoint") == []
    assert remove_left_over(path.parent, "result.json.") == [partial]
    assert path.read_bytes() == OLD and names_in(path.parent) == ["result.json"]


def renamed(partial: Path, host: str | None = None, process: int | None = None) -> str:
    name, _, end = partial.name.removesuffix(".partial").rpartition(".")
    here, number, thread = end.split("-")
    return f"{name}.{host or here}-{process or number}-{thread}.partial"


def test_temporary_files_in_use_and_files_of_others_stay(path: Path) -> None:
    own = partial_of(path)
    kept = {
        own.name,  # this process is writing it
        renamed(own, process=os.getppid()),  # another one that is running
        renamed(own, host="0" * 8, process=99999999),  # nobody here knows the processes of another machine
        "archive.zip.partial",  # the bytes of an unfinished download
        "archive.zip.0123abcd.partial",
        "notes.partial",
    }
    for name in kept:
        (path.parent / name).write_bytes(b"")
    link = path.parent / renamed(own, process=99999998)
    link.symlink_to(path)
    assert remove_left_over(path.parent) == []
    assert set(names_in(path.parent)) == {*kept, link.name, "result.json"}


@pytest.mark.parametrize("host", [None, "0" * 8])
def test_a_temporary_file_that_nobody_changed_for_days_is_removed(path: Path, host: str | None) -> None:
    partial = path.parent / renamed(partial_of(path), host=host, process=os.getppid())
    partial.write_bytes(b"half")
    long_ago = time.time() - 2 * 24 * 60 * 60
    os.utime(partial, (long_ago, long_ago))
    assert remove_left_over(path.parent) == [partial]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere nobody can ask whether a process is running")
def test_a_temporary_file_of_an_earlier_process_with_our_number_is_removed(path: Path) -> None:
    """In containers, the first process always has the number 1."""
    partial = partial_of(path)
    partial.write_bytes(b"half")
    earlier = atomic._STARTED - 60
    os.utime(partial, (earlier, earlier))
    assert remove_left_over(path.parent) == [partial]
