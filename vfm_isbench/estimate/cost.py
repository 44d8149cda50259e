"""The estimate of a run, and how it is printed."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

from vfm_isbench.estimate.timing import ClickCost, TrainingCost
from vfm_isbench.progress.durations import rough
from vfm_isbench.storage.room import size


@dataclass(frozen=True, slots=True)
class Download:
    """Something a run needs that is not here.

    Attributes:
        what: Its name.
        about_size: Its size in words.
        how: Who fetches it: a command, or "the run".
    """

    what: str
    about_size: str
    how: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run.

    Attributes:
        name: "training", or a test set.
        amount: What it does, in words.
        seconds: How long that takes.
    """

    name: str
    amount: str
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CostEstimate:
    """What a run would take. ``print`` it for a summary.

    Attributes:
        title: What would be run, and where.
        downloads: What would have to be downloaded.
        parts: The parts of the run, with their times.
        training: What was measured of the training.
        clicks: What was measured of the clicks.
        batch_size: Images per step of training.
        peak_bytes: Peak memory.
        memory_of: What that is the memory of.
        run_folder_bytes: Size of the run folder at its largest.
        notes: What else a reader of the numbers should know.
        free_bytes: Memory that was free before anything was measured; None if the system does not tell.
    """

    title: str
    downloads: tuple[Download, ...]
    parts: tuple[Part, ...]
    training: TrainingCost
    clicks: ClickCost
    batch_size: int
    peak_bytes: int | None
    memory_of: str
    run_folder_bytes: int
    notes: tuple[str, ...] = field(default=())
    free_bytes: int | None = None

    @property
    def total_seconds(self) -> float:
        """Training and evaluation together, without downloads."""
        return sum(part.seconds for part in self.parts)

    def __repr__(self) -> str:
        return f"<CostEstimate {self.title!r}: {rough(self.total_seconds)}>"

    def _repr_html_(self) -> str:
        # The classes keep notebooks from reading dollar signs as formulas.
        return f'<pre class="tex2jax_ignore mathjax_ignore">{html.escape(str(self))}</pre>'

    def __str__(self) -> str:
        clicks, training = self.clicks, self.training
        seen = "×".join(map(str, clicks.image_size))
        measured = [
            ("training step", f"{short(training.step)} for {self.batch_size} images"),
            ("training sample", f"{short(training.sample)} to prepare, per process"),
            ("click", f"{short(clicks.per_click(clicks.image_size))} on an image of {seen}"),
            ("crop", f"{short(clicks.crop)} to encode, before the first click in it"),
        ]
        names = [*(part.name for part in self.parts), "total", "peak memory", "training sample"]
        width = max(map(len, names))
        amounts = max((len(part.amount) for part in self.parts), default=0)
        fetched = [f"  {each.what}, {each.about_size}: {each.how}" for each in self.downloads]
        return "\n".join(
            [
                self.title,
                "to download" if fetched else "to download: nothing",
                *fetched,
                "measured now",
                *(f"  {name.ljust(width)}  {text}" for name, text in measured),
                "estimate",
                *(f"  {p.name.ljust(width)}  {p.amount.ljust(amounts)}  {rough(p.seconds)}" for p in self.parts),
                f"  {'total'.ljust(width)}  {''.ljust(amounts)}  {rough(self.total_seconds)}",
                f"  {'peak memory'.ljust(width)}  {self._memory()}",
                f"  {'disk'.ljust(width)}  {size(self.run_folder_bytes)} for the run folder, downloads not counted",
                *(f"note: {note}" for note in self.notes),
                "Nothing was started, downloaded or written.",
            ]
        )

    def _memory(self) -> str:
        free = "" if self.free_bytes is None else f"; {size(self.free_bytes)} were free"
        return f"{'unknown' if self.peak_bytes is None else f'{size(self.peak_bytes)} {self.memory_of}'}{free}"


def short(seconds: float) -> str:
    """A short time, with two digits.

    >>> [short(seconds) for seconds in (12.345, 0.8123, 0.01234, 0.0000123)]
    ['12 s', '0.81 s', '12 ms', '0.012 ms']
    """
    return f"{seconds:#.2g} s".replace(". ", " ") if seconds >= 0.1 else f"{1000 * seconds:#.2g} ms".replace(". ", " ")
