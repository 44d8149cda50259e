"""The command line: one module per subcommand, with the same names as in Python."""

from __future__ import annotations

import os
import signal
import sys
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
    try:
        before = signal.signal(signal.SIGINT, _end)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)
