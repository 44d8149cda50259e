"""One line of progress for a whole run, training and evaluation together, with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from tqdm import tqdm

from vfm_isbench.progress.durations import rough
from vfm_isbench.progress.showable import showable

_TRUSTED_FROM = 0.05
"""Fraction of a part from which its own speed alone tells how long it takes; before it, the expectation counts too."""

_REFRESH_ON_TERMINALS, _REFRESH_IN_FILES = 0.2, 30.0
"""Seconds between two prints of the line: a file keeps every one of them."""


class Part:
    """A part of a run under way, such as the training or a test set; see :meth:`RunProgress.part`."""

    def __init__(self, run: RunProgress, name: str, total: float, expected: float | None) -> None:
        self.name = name
        self.expected = expected
        self._run = run
        self._total = total
        self._done = 0.0
        self._began = time.perf_counter()
        self.says = ""
        self.figures: dict[str, str] = {}

    @property
    def fraction(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(1.0, self._done / self._total) if self._total else 1.0

    @property
    def seconds(self) -> float | None:
        """Seconds that it takes in all, as far as can be told by now."""
        fraction = self.fraction
        if not fraction:
            return self.expected
        own = (time.perf_counter() - self._began) / fraction
        if self.expected is None:
            return own
        trust = min(1.0, fraction / _TRUSTED_FROM)
        return trust * own + (1 - trust) * self.expected

    def say(self, what: str) -> None:
        """Say what is being done, behind the part's name."""
        self.says = what

    def advance(self, amount: float = 1, **figures: str) -> None:
        """Count what was done, and show figures of it."""
        self._done += amount
        self.figures.update(figures)
        self._run.show()

    def skip(self, amount: float = 1, **figures: str) -> None:
        """Leave out what was already done in an earlier run: it takes no time, and shows nothing of the speed."""
        if self.expected is not None and self._total:
            self.expected *= max(self._total - amount, 0) / self._total
        self._total = max(self._total - amount, 0)
        self.figures.update(figures)
        self._run.show()


class RunProgress:
    """The progress of a run, in one line.

    The time left is that of the part under way, by its own speed, and what was expected of the parts after it. Nothing
    is shown unless ``is_shown``. Close it, or use it in a ``with`` statement.
    """

    def __init__(self, is_shown: bool = True) -> None:
        self.is_shown = is_shown
        self._coming: dict[str, float] = {}
        self._past = 0.0
        self._current: Part | None = None
        self._bar: _Bar | None = None

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Say how long the coming parts of the run should take, by their names."""
        self._coming.update(seconds)

    @contextmanager
    def part(self, name: str, total: float) -> Iterator[Part]:
        """A part of the run, of a ``total`` amount of work in units of its own."""
        began = time.perf_counter()
        part = self._current = Part(self, name, total, self._coming.pop(name, None))
        self.show(at_once=True)
        try:
            yield part
        finally:
            self.show(at_once=True)
            self._past += time.perf_counter() - began
            self._current = None

    def state(self) -> tuple[float, float | None]:
        """Fraction of the run that is done, and the seconds left; None if nothing can tell yet."""
        part = self._current
        coming = sum(self._coming.values())
        seconds = 0.0 if part is None else part.seconds
        if part is None or seconds is None:
            return 0.0, None
        done, left = seconds * part.fraction, seconds * (1 - part.fraction) + coming
        whole = self._past + done + left
        return (self._past + done) / whole if whole else 1.0, left

    def print(self, text: str) -> None:
        """Print text above the line, on standard error as the line."""
        if self.is_shown:
            with _whoever_reads_may_be_gone():
                _Bar.write(showable(text, _encoding()), file=sys.stderr)

    def show(self, at_once: bool = False) -> None:
        """Print the line again, if it is time for it."""
        part = self._current
        if not self.is_shown or part is None:
            return
        what = showable(f"{part.name}{part.says and ', '}{part.says}", _encoding())
        done, left = self.state()
        figures = ", ".join(f"{name} {value}" for name, value in part.figures.items())
        with _whoever_reads_may_be_gone():
            if self._bar is None:
                self._bar = _Bar(what)
            self._bar.put(what, done, left, figures, at_once)

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            with _whoever_reads_may_be_gone():
                self._bar.close()
            self._bar = None


def _whoever_reads_may_be_gone() -> AbstractContextManager[None]:
    """Go on without a terminal that was closed, or a ``tee`` that the same Ctrl+C has ended."""
    return suppress(OSError)


def _encoding() -> str:
    return getattr(sys.stderr, "encoding", None) or "utf-8"


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar whose time left is told to it."""

    def __init__(self, what: str) -> None:
        self.left: float | None = None
        self.shown_figures = ""
        interval = _REFRESH_ON_TERMINALS if sys.stderr.isatty() else _REFRESH_IN_FILES
        super().__init__(
            desc=what,
            total=1.0,
            mininterval=interval,
            maxinterval=max(interval, 10),
            miniters=0,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed} so far{left}{figures}",
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the line is made of."""
        left = "" if self.left is None else f", {rough(self.left)} left"
        figures = f"  {self.shown_figures}" if self.shown_figures else ""
        return {**super().format_dict, "left": left, "figures": figures}

    def put(self, what: str, done: float, left: float | None, figures: str, at_once: bool) -> None:
        """Show these."""
        self.set_description_str(what, refresh=False)
        self.left, self.shown_figures = left, figures
        # A part that turns out slower than expected never moves the bar back.
        self.update(max(done - self.n, 0.0))
        if at_once:
            self.refresh()
