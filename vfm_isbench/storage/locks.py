"""Locks between processes: whoever writes a file or folder that others may write too, holds its lock meanwhile."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from vfm_isbench.errors import VfmIsbenchWarning

PATIENCE = 1.0
"""Seconds of waiting before a message says for whom."""
REPEAT = 60.0
"""Seconds of waiting between two messages."""

_POLL = 0.1
_WITHOUT_FLOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock.

    Attributes:
        pid: Process id.
        host: Name of its machine.
        since: When it took the lock, in seconds since 1970.
        thread: Name of its thread; empty if unknown.
    """

    pid: int
    host: str
    since: float
    thread: str = ""

    @property
    def is_this_process(self) -> bool:
        """Whether the lock is held by another thread of this process, or further up in this thread."""
        return self.pid == os.getpid() and self.host == socket.gethostname()

    def __str__(self) -> str:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        who = f"this process, thread {self.thread}" if self.is_this_process else f"process {self.pid} on {self.host}"
        return f"{who} (for {_age(time.time() - self.since)}, since {started})"


class LockHeld(Exception):
    """Somebody else holds a lock.

    Attributes:
        owner: Who; None if the lock does not say.
        advice: How to go on if the owner is gone; empty if that cannot be, because the system frees the lock.
    """

    def __init__(self, owner: Owner | None, advice: str) -> None:
        super().__init__(str(owner or "another process"))
        self.owner = owner
        self.advice = advice


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock during a ``with`` block, or fail at once.

    The system frees the lock when the process ends, however it ends. On file systems without such locks, a file with
    the owner's process and host is the lock. It is ignored if its process no longer runs on this host. Where there can
    be no lock at all, a warning says so, and the block runs without.

    Args:
        path: The lock file, in an existing folder. It is deleted afterwards; a killed process leaves it behind, which
            does not matter.

    Raises:
        LockHeld: if another process or thread holds the lock.

    Warns:
        VfmIsbenchWarning: if nothing can be locked there.
    """
    path = path.absolute()  # the block may change the current folder
    lock = _acquire(path)
    try:
        yield
    finally:
        _release(lock, path)


@contextmanager
def waiting_for(path: Path, work: str) -> Iterator[None]:
    """Hold a lock during a ``with`` block, after whoever else holds it; a message says for whom it waits.

    Args:
        path: See :func:`locked`.
        work: What the others do meanwhile, such as "downloading benchmark.tgz".

    Warns:
        VfmIsbenchWarning: if nothing can be locked there.
    """
    path = path.absolute()
    message_at = time.monotonic() + PATIENCE
    while True:
        try:
            lock = _acquire(path)
            break
        except LockHeld as held:
            if time.monotonic() >= message_at:
                how = held.advice or "If it hangs, end it: this process then continues its work."
                _log.warning("waiting for %s, which is %s. %s", held, work, how)
                message_at = time.monotonic() + REPEAT
        time.sleep(_POLL)
    try:
        yield
    finally:
        _release(lock, path)


def _acquire(path: Path) -> BaseFileLock | None:
    """Take a lock; None, with a warning, if nothing can be locked there."""
    lock: BaseFileLock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        with suppress(FileNotFoundError):
            lock.acquire(blocking=False)
        if not lock.is_locked:  # another run that found nothing to do has removed the folder meanwhile
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
    except Timeout:
        raise LockHeld(_recorded_owner(path), "") from None
    except OSError as error:
        if error.errno not in _WITHOUT_FLOCK:
            _warn_of_no_lock(path, error)
            return None
        return _acquire_by_existence(path)
    with suppress(OSError):  # a lock without a name is a lock, too
        path.write_text(json.dumps(asdict(_this_thread())) + "\n", encoding="utf-8")  # not atomic: the lock itself
    return lock


def _acquire_by_existence(path: Path) -> BaseFileLock | None:
    """Take a lock where the file system has none: the file exists for as long as it is held."""
    with suppress(OSError):
        path.unlink(missing_ok=True)  # nobody can hold it
    marker = _marker(path)
    lock: BaseFileLock = SoftFileLock(marker, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise LockHeld(_marked_owner(marker), f"If that process no longer runs, delete {marker}.") from None
    except OSError as error:
        _warn_of_no_lock(path, error)
        return None
    return lock


def _release(lock: BaseFileLock | None, path: Path) -> None:
    if lock is None or not lock.is_locked:  # not in a forked child that leaves its parent's block
        return
    if not isinstance(lock, SoftFileLock):
        with suppress(OSError):  # while it is held, so that nobody else's file is deleted
            path.unlink(missing_ok=True)
    with suppress(OSError):  # its folder may have been deleted
        lock.release()


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}-owner")


def _warn_of_no_lock(path: Path, error: OSError) -> None:
    warnings.warn(
        f"{path.parent} cannot be locked ({error.strerror or error}); nothing keeps another process from writing there "
        "at the same time",
        VfmIsbenchWarning,
        stacklevel=5,
    )


def _this_thread() -> Owner:
    return Owner(os.getpid(), socket.gethostname(), time.time(), threading.current_thread().name)


def _recorded_owner(path: Path) -> Owner | None:
    """Who wrote a lock file; None in the moment before it is written."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _marked_owner(marker: Path) -> Owner | None:
    """Who wrote a file that is itself the lock: process, host, and more that only filelock needs."""
    try:
        pid, host, *_ = marker.read_text(encoding="utf-8").splitlines()
        return Owner(int(pid), host.partition("?")[0], marker.stat().st_mtime)
    except (OSError, ValueError):
        return None


def _age(seconds: float) -> str:
    for unit, name in ((3600.0, "h"), (60.0, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"
