"""One line of progress for a whole run, training and evaluation together, with the time left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

from vfm_isbench.progress.bars import Bar, Line, encoding, new_bar, print_above
from vfm_isbench.progress.durations import rough
from vfm_isbench.progress.showable import showable

_TRUSTED_FROM = 0.05
"""Fraction of a part from which its own speed alone tells how long it takes; before it, the expectation counts too."""


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

    The time left is that of the part under way, by its own speed, and what was expected of the parts after it. Where
    nothing was expected, it is only that of the part, and the line says so. Nothing is shown unless ``is_shown``. Close
    it, or use it in a ``with`` statement.
    """

    def __init__(self, is_shown: bool = True) -> None:
        self.is_shown = is_shown
        self._coming: dict[str, float] = {}
        self._past = 0.0
        self._current: Part | None = None
        self._bar: Bar | None = None
        self._knows_all = False

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Say how long the coming parts of the run should take, by their names."""
        self._coming.update(seconds)
        self._knows_all = True

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
                print_above(text)

    def show(self, at_once: bool = False) -> None:
        """Print the line again, if it is time for it."""
        part = self._current
        if not self.is_shown or part is None:
            return
        done, _ = self.state()
        line = Line(
            what=showable(f"{part.name}{part.says and ', '}{part.says}", encoding()),
            done=done,
            left=showable(self._left(part), encoding()),
            figures=", ".join(f"{name} {value}" for name, value in part.figures.items()),
        )
        with _whoever_reads_may_be_gone():
            if self._bar is None:
                self._bar = new_bar(line)
            self._bar.put(line, at_once)

    def _left(self, part: Part) -> str:
        """The time left in words: of the whole run, and of the part if others come after it."""
        _, whole = self.state()
        if whole is None:
            return ""
        of_part = rough(whole - sum(self._coming.values()))
        if not self._knows_all:
            return f"{of_part} left of this part"
        return f"{rough(whole)} left" + (f" ({of_part} of {part.name})" if self._coming else "")

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            with _whoever_reads_may_be_gone():
                self._bar.close()
            self._bar = None


def _whoever_reads_may_be_gone() -> AbstractContextManager[None]:
    """Go on without a terminal that was closed, or a ``tee`` that the same Ctrl+C has ended."""
    return suppress(OSError)
