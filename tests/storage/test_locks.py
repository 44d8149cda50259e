"""Locks: one holder at a time, freed however it ends, and a clear word where there can be none."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import UnixFileLock

from vfm_isbench.errors import VfmIsbenchWarning
from vfm_isbench.storage import locks
from vfm_isbench.storage.locks import LockHeld, locked, waiting_for

HOLD = """
import os, sys, time
from pathlib import Path
from vfm_isbench.storage.locks import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:  # by now it has let go of what it inherited
        print(os.getppid(), os.getpid(), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


@pytest.fixture
def without_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks, such as some network file systems."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(UnixFileLock, "_acquire", fail)


def test_nobody_else_gets_in_and_nothing_is_left(lock):
    with locked(lock):
        with pytest.raises(LockHeld, match=r"this process, thread MainThread \(for 0 s, since 20"), locked(lock):
            pass
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    with pytest.raises(ZeroDivisionError), locked(lock):
        raise ZeroDivisionError
    assert list(lock.parent.iterdir()) == []


def test_a_folder_that_is_left_meanwhile_changes_nothing(lock, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with locked(Path(lock.name)):
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert not lock.exists()


def test_a_killed_process_holds_nothing_although_its_forked_child_lives(lock):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    pid, child = map(int, holder.stdout.readline().split())
    try:
        with pytest.raises(LockHeld) as caught, locked(lock):
            pass
        assert caught.value.owner.pid == pid and caught.value.owner.host == socket.gethostname()
        assert caught.value.advice == "" and not caught.value.owner.is_this_process
        os.kill(pid, 9)
        holder.wait(60)
        os.kill(child, 0)
        with locked(lock):
            assert json.loads(lock.read_text())["pid"] == os.getpid()
    finally:
        for process in (pid, child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 9)
        holder.stdout.close()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_that_leaves_the_block_frees_nothing(lock):
    parent = os.getpid()
    child = 0
    try:
        with locked(lock):
            child = os.fork()
            if child == 0:
                raise SystemExit
            os.waitpid(child, 0)
            assert lock.exists()
            with pytest.raises(LockHeld), locked(lock):
                pass
    finally:
        if os.getpid() != parent:
            os._exit(0)


def test_threads_take_turns_and_say_for_whom_they_wait(lock, caplog, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    inside, most = [], []

    def work() -> None:
        with waiting_for(lock, "painting"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.3)
            inside.pop()

    threads = [threading.Thread(target=work, name=f"painter {number}") for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]
    assert "waiting for this process, thread painter" in caplog.text and "which is painting" in caplog.text


def test_a_lock_file_that_says_nothing_is_a_lock(lock):
    with locked(lock):
        lock.write_text("")
        with pytest.raises(LockHeld, match="another process"), locked(lock):
            pass


def test_without_flock_a_file_is_the_lock(lock, without_flock):
    marker = lock.with_name("x.lock-owner")
    with locked(lock):
        assert marker.exists() and not lock.exists()
        with pytest.raises(LockHeld) as caught, locked(lock):
            pass
        assert caught.value.owner.pid == os.getpid()
        assert caught.value.advice == f"If that process no longer runs, delete {marker}."
    assert list(lock.parent.iterdir()) == []


@pytest.fixture
def dead() -> int:
    """Process id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_without_flock_the_lock_of_a_dead_process_of_this_host_is_ignored(lock, without_flock, dead):
    marker = lock.with_name("x.lock-owner")
    with locked(lock):
        mine = marker.read_text()
    marker.write_text(mine.replace(str(os.getpid()), str(dead), 1))
    with locked(lock):
        assert marker.read_text() == mine
    assert list(lock.parent.iterdir()) == []


def test_without_flock_the_lock_of_another_host_is_respected(lock, without_flock, dead):
    marker = lock.with_name("x.lock-owner")
    marker.write_text(f"{dead}\nfar-away\n")
    with pytest.raises(LockHeld, match=f"process {dead} on far-away") as caught, locked(lock):
        pass
    assert str(marker) in caught.value.advice


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO])
def test_where_nothing_can_be_locked_a_warning_says_so_and_work_goes_on(code, lock, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(UnixFileLock, "_acquire", fail)
    done = []
    with pytest.warns(VfmIsbenchWarning, match=f"{lock.parent} cannot be locked .{os.strerror(code)}"), locked(lock):
        done.append(1)
    with pytest.warns(VfmIsbenchWarning, match="cannot be locked"), waiting_for(lock, "painting"):
        done.append(2)
    assert done == [1, 2]


def test_a_lock_costs_little(lock):
    began = time.perf_counter()
    for _ in range(20):
        with locked(lock):
            pass
    assert (time.perf_counter() - began) / 20 < 0.1
