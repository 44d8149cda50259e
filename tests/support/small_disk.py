"""Runs Python on a disk of its own, which really gets full."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_SUPPORT = Path(__file__).parent


@functools.cache
def _why_not() -> str:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return "needs Linux and unshare"
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "none", tempfile.gettempdir()],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if tried.returncode == 0 else f"no disk can be mounted here: {tried.stderr.strip()}"


def on_small_disk(disk: Path, megabytes: float, code: str) -> str:
    """What a Python program prints that runs while a disk of this size is mounted at an empty folder.

    The mount is seen by that program alone, and is gone when it ends. The test is skipped where nothing can be mounted.
    """
    if _why_not():
        pytest.skip(_why_not())
    size = f"size={int(megabytes * 1024)}k"
    mounted = 'mount -t tmpfs -o "$1" none "$2" && exec "$3" -c "$4"'
    words = ["unshare", "-rm", "sh", "-c", mounted, "sh", size, str(disk), sys.executable, code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SUPPORT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fill(file: Path) -> None:
    """Take all the room that is left on the disk of a file."""
    with file.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
        while True:
            opened.write(bytes(4096))
