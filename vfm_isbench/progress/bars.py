"""What shows the line of a run: a terminal, a file, or the output of a notebook cell."""

from __future__ import annotations

import html
import sys
import time
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

from tqdm import tqdm

from vfm_isbench.progress.durations import rough
from vfm_isbench.progress.showable import showable

_REFRESH_ON_TERMINALS, _REFRESH_IN_FILES = 0.2, 30.0
"""Seconds between two prints of the line: a file keeps every one of them."""

_REFRESH_IN_NOTEBOOKS = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """What the line says.

    Attributes:
        what: What is being done.
        done: Fraction of the run that is done.
        left: The time left, in words; empty if nothing can tell yet.
        figures: Figures of the part under way.
    """

    what: str
    done: float
    left: str
    figures: str


class Bar(Interface):
    """Shows a line that changes."""

    def put(self, line: Line, at_once: bool) -> None:
        """Show the line, if it is time for it or ``at_once``."""

    def close(self) -> None:
        """End the line."""


def new_bar(line: Line) -> Bar:
    """What shows the line where this program runs."""
    return NotebookBar() if in_notebook() else TerminalBar(line.what)


def print_above(text: str) -> None:
    """Print text above the line: on standard error, in a notebook on standard output, which has no red background."""
    if in_notebook():
        sys.stdout.write(f"{showable(text, 'utf-8')}\n")
    else:
        TerminalBar.write(showable(text, encoding()), file=sys.stderr)


def encoding() -> str:
    """Encoding of what shows the line."""
    return "utf-8" if in_notebook() else getattr(sys.stderr, "encoding", None) or "utf-8"


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook (Jupyter, Colab, VS Code), and not a terminal."""
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


class TerminalBar(tqdm):  # type: ignore[type-arg]
    """A bar whose time left is told to it."""

    def __init__(self, what: str) -> None:
        self.line = Line(what, 0.0, "", "")
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
        left = self.line.left and f", {self.line.left}"
        return {**super().format_dict, "left": left, "figures": self.line.figures and f"  {self.line.figures}"}

    def refresh(self, nolock: bool = False, lock_args: tuple[Any, ...] | None = None) -> None:
        """Print the line again, and free the lock of all bars even if that fails, as in a closed terminal.

        tqdm's own method keeps it then, and whoever prints in another thread waits for ever.
        """
        if self.disable:
            return
        with nullcontext() if nolock else self.get_lock():  # type: ignore[no-untyped-call]
            self.display()

    def put(self, line: Line, at_once: bool) -> None:
        """See :class:`Bar`."""
        self.set_description_str(line.what, refresh=False)
        self.line = line
        # A part that turns out slower than expected never moves the bar back.
        self.update(max(line.done - self.n, 0.0))
        if at_once:
            self.refresh()


class NotebookBar:
    """One output of a cell, which changes: a progress bar, with text for whoever shows no HTML.

    It needs no widgets, so it also works where ipywidgets is missing, and a saved notebook keeps its last state.
    """

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._began = time.perf_counter()
        self._shown = -float("inf")
        self._is_new = True
        self._done = 0.0
        self._line: Line | None = None

    def put(self, line: Line, at_once: bool) -> None:
        """See :class:`Bar`."""
        self._line = line
        self._done = max(self._done, line.done)
        if at_once or time.perf_counter() - self._shown >= _REFRESH_IN_NOTEBOOKS:
            self._show()

    def close(self) -> None:
        """Show the last state."""
        self._show()

    def _show(self) -> None:
        from IPython.display import display, update_display

        if self._line is None:
            return
        show = display if self._is_new else update_display
        # A stop in the middle of this must not leave two outputs behind.
        self._is_new, self._shown = False, time.perf_counter()
        show(self._content(self._line), raw=True, display_id=self._id)

    def _content(self, line: Line) -> dict[str, str]:
        percent = f"{100 * self._done:.0f}%"
        times = f"{rough(time.perf_counter() - self._began)} so far{line.left and ', '}{line.left}"
        text = f"{line.what} {percent} {times}{line.figures and '  '}{line.figures}"
        bar = f'<progress value="{self._done:.4f}" max="1" style="width: 14em"></progress>'
        what, rest = html.escape(line.what), html.escape(text.removeprefix(line.what))
        return {"text/plain": text, "text/html": f"<div>{what} {bar}{rest}</div>"}
