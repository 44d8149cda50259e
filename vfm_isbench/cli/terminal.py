"""Text as a terminal can show it, whatever its encoding and whatever names the text contains."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import Any, NoReturn

from vfm_isbench.progress import showable


class Parser(argparse.ArgumentParser):
    """A parser whose help, usage and version are printed like everything else; so are those of its subcommands."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2; the message says where the help is."""
        super().error(f"{message}. For help: {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        _write(file or sys.stderr, message)


def say(*lines: str) -> None:
    """Print lines to standard output; see :func:`showable`."""
    _write(sys.stdout, "\n".join(lines) + "\n")


def complain(text: str) -> None:
    """Print text to standard error, if there still is one (a terminal may be closed); see :func:`showable`."""
    with suppress(OSError):
        _write(sys.stderr, text + "\n")
        sys.stderr.flush()


def _write(stream: Any, text: str) -> None:
    stream.write(showable(text, getattr(stream, "encoding", None) or "utf-8"))
