"""The command line: one module per subcommand, with the same names as in Python."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    with _ended_by_ctrl_c():
        from vfm_isbench.cli.commands import execute  # PyTorch takes seconds to import
    return execute(sys.argv[1:] if arguments is None else arguments)


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl+C end the program at once in a block, without a traceback: there is nothing to keep yet."""
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not ignored, as in the background
    if not is_usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)
