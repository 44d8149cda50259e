"""Signals that ask a run to stop: it finishes the step it is in, and keeps its work before it ends."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from vfm_isbench.errors import Terminated

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl+C; what ``kill``, Slurm and preemptible machines send; what a closed terminal sends (unknown to Windows)."""

_LOGGER = logging.getLogger(__name__)

_DOUBLED = 0.5
"""Seconds within which a second SIGINT is taken for the first one, which wrappers of commands pass on once more."""


class StopSignals:
    """Holds signals back while a run is at work, until it reaches a place from which it can be continued.

    Handlers are installed only within :meth:`heard`, only in the main thread, and only for signals whose handling is
    still Python's own: a program with handlers of its own keeps them, and a signal that is ignored stays ignored.
    """

    def __init__(self) -> None:
        self._is_held_back = False
        self._signal: int | None = None
        self._since = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether a signal has asked the run to stop."""
        return self._signal is not None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen to signals in a block. Outside :meth:`held_back`, they act at once, as they do without this class."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        own = (signal.SIG_DFL, signal.default_int_handler)
        before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) in own}
        try:
            for number in before:
                signal.signal(number, self._receive)
            yield
        except BaseException:
            self._signal = None
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.stop_here()  # if the work was done before it came to a place where it could stop

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Within the block, a signal takes effect only where :meth:`stop_here` is called."""
        before, self._is_held_back = self._is_held_back, True
        try:
            yield
        finally:
            self._is_held_back = before

    def stop_here(self) -> None:
        """Stop if a signal has asked for it.

        Raises:
            KeyboardInterrupt: after SIGINT.
            Terminated: after SIGTERM or SIGHUP.
        """
        number, self._signal = self._signal, None
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number is not None:
            raise Terminated(number)

    def _receive(self, number: int, frame: FrameType | None) -> Any:
        if not self._is_held_back:
            if number == signal.SIGINT:
                return signal.default_int_handler(number, frame)
            signal.signal(number, signal.SIG_DFL)
            return signal.raise_signal(number)
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._since = number, now
            _say(number)
        elif number == signal.SIGINT and now - self._since > _DOUBLED:
            return signal.default_int_handler(number, frame)
        return None


@contextmanager
def stopped_in_order(stop: StopSignals, kept: str) -> Iterator[None]:
    """Listen to signals in a block, and say what is kept if one of them stops it.

    After SIGINT, the text is the last line of the traceback. A program that ends itself shows none, so after SIGTERM
    and SIGHUP it is logged.
    """
    try:
        with stop.heard():
            yield
    except KeyboardInterrupt as interrupt:
        interrupt.args = interrupt.args or (f"interrupted; {kept}",)
        raise
    except Terminated as terminated:
        _LOGGER.warning("stopped by %s; %s", terminated.signal_name, kept)
        raise


def _say(number: int) -> None:
    again = ". Press Ctrl+C again to stop at once" if number == signal.SIGINT else ""
    with suppress(Exception):  # standard error may be closed, or be in the middle of a line
        sys.stderr.write(f"\n{signal.Signals(number).name}: finishing the current step and saving{again}\n")
        sys.stderr.flush()
