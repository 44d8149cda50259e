"""The resolution of a benchmark: which difference it shows, and what would buy a better one.

What results say about it is :class:`Measured`; what follows for other numbers of objects and seeds is
:class:`Resolution`, the outcome of :func:`resolution`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vfm_isbench.errors import ComparisonError
from vfm_isbench.results.budgets import MOST_SEEDS, Budget, cheapest, objects_for
from vfm_isbench.results.comparability import DRY_RUNS
from vfm_isbench.results.components import Aim, smallest_difference
from vfm_isbench.results.difference import json_ready
from vfm_isbench.results.difference_text import MISSING, number
from vfm_isbench.results.display import html_block, html_table, quoted
from vfm_isbench.results.measured import Measured, measured_on
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Given, Side, check_datasets, group_sides, side_of
from vfm_isbench.results.table import lay_out

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("noc80", "noc85", "noc90", "iou_at_1", "iou_at_3", "iou_at_5", "iou_at_10", "mean_iou")
"""Scores that are looked at by default, except IoUs beyond the click cap."""

SEEDS = (2, 3, 5, 10)
GROWTH = (1, 2, 4, 10, 100)
"""Numbers of seeds, and multiples of the measured objects, of the table of budgets."""


@dataclass(frozen=True)
class Resolution:
    """What :func:`vfm_isbench.resolution` returns: prints as tables, converts to a frame and JSON.

    Attributes:
        measured: What is known, by data set.
        metric: The score of the tables of budgets.
        aim: Power and confidence.
        seeds: Seeds per upsampler of the first table.
        objects: Objects of the first table; None for those that were measured.
        margin: Difference to plan for; None if none was asked for.
        remarks: Remarks for readers.
    """

    measured: tuple[Measured, ...]
    metric: str
    aim: Aim
    seeds: int
    objects: int | None = None
    margin: float | None = None
    remarks: tuple[str, ...] = ()

    def smallest(
        self, metric: str, dataset: str | None = None, *, objects: int | None = None, seeds: int | None = None
    ) -> float:
        """Minimal detectable difference of a score, in clicks or IoU of [0, 1]; NaN if its components are unknown.

        Args:
            metric: Score.
            dataset: Data set; None for the first.
            objects: Objects; None for those of the first table.
            seeds: Seeds per upsampler; None for those of the first table.
        """
        found = next(found for found in self.measured if dataset in (None, found.dataset))
        name = Metric.named(metric).name
        if name not in found.components:
            return math.nan
        n_objects = objects or self.objects or found.objects
        return smallest_difference(
            found.components[name], n_objects, seeds or self.seeds, self.aim, found.images_freedom(n_objects)
        )

    def budgets(self, dataset: str | None = None) -> list[Budget]:
        """For each number of seeds the fewest objects that resolve ``margin``; numbers that cannot are left out.

        Raises:
            ComparisonError: without a margin.
        """
        if self.margin is None:
            raise ComparisonError("budgets need a margin: the difference that shall be resolved")
        found = next(found for found in self.measured if dataset in (None, found.dataset))
        if self.metric not in found.components:
            return []
        return [
            Budget(seeds, objects, found.cost)
            for seeds in range(2, MOST_SEEDS + 1)
            if (objects := objects_for(self.margin, found, self.metric, seeds, self.aim)) is not None
        ]

    def to_frame(self) -> pd.DataFrame:
        """One row per data set and score: its components, and the smallest difference that is shown."""
        import pandas as pd

        rows = [
            {
                "dataset": found.dataset,
                "metric": name,
                "objects": self.objects or found.objects,
                "seeds": self.seeds,
                **{f"{part}_variance": value for part, value in dataclasses.asdict(components).items()},
                "smallest_difference": self.smallest(name, found.dataset),
            }
            for found in self.measured
            for name, components in found.components.items()
        ]
        frame: pd.DataFrame = pd.DataFrame(rows)
        return frame

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content: null for what is missing."""
        return {
            "power": self.aim.power,
            "confidence": self.aim.confidence,
            "seeds": self.seeds,
            "metric": self.metric,
            "margin": self.margin,
            "datasets": [
                {
                    **found.to_dict(),
                    "smallest_difference": {
                        name: json_ready(self.smallest(name, found.dataset)) for name in found.components
                    },
                    "budgets": [] if self.margin is None else [one.to_dict() for one in self.budgets(found.dataset)],
                }
                for found in self.measured
            ],
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        blocks = ["\n".join([heading, "", *lay_out(rows)] if rows else [heading]) for heading, rows in self._tables()]
        return "\n\n".join([*blocks, "\n".join([self._explanation(), *self._notes()])])

    def _repr_html_(self) -> str:
        tables = [html_table(heading, rows) for heading, rows in self._tables()]
        return html_block(tables, self._explanation(), self._notes())

    def __repr__(self) -> str:
        metric = Metric.named(self.metric)
        found = [
            f"{number(self.smallest(self.metric, one.dataset), metric)} on {quoted(one.dataset)}"
            for one in self.measured
        ]
        unit = "clicks" if metric.is_noc else "IoU points"
        return f"<Resolution of {metric.label} with {self.seeds} seeds, in {unit}: {', '.join(found)}>"

    def _notes(self) -> list[str]:
        return [f"note: {remark}" for remark in self.remarks]

    def _tables(self) -> Iterator[tuple[str, list[list[str]]]]:
        """Heading and rows of every table; a heading without rows says why there are none."""
        for found in self.measured:
            yield found.heading(), self._scores(found, self.objects or found.objects)
            if self.metric in found.components:
                heading = f"{Metric.named(self.metric).label} on {found.dataset}: smallest difference by budget"
                yield heading, self._grid(found)
                if self.margin is not None:
                    yield self._plan(found)

    def _explanation(self) -> str:
        return (
            f"smallest difference: shown with {100 * self.aim.power:g} % probability by a one-sided bound of "
            f"{100 * self.aim.confidence:g} % confidence, if both upsamplers have the same seeds · deviations: of one "
            "object and seed; objects with their images · NoC in clicks, IoU in %"
        )

    def _scores(self, found: Measured, objects: int) -> list[list[str]]:
        rows = [["", "objects", "images", "seeds", "object × seed", "± now", f"{objects} objects, {self.seeds} seeds"]]
        for name, parts in found.components.items():
            metric = Metric.named(name)
            deviations = [math.sqrt(value) for value in dataclasses.astuple(parts)]
            now = parts.standard_error(found.objects, found.seeds)
            smallest = self.smallest(name, found.dataset)
            # Without any spread there is no difference to be seen, however large the budget.
            cells = [*deviations, now, smallest if any(deviations) else math.nan]
            rows.append([metric.label, *(number(cell, metric) for cell in cells)])
        return rows

    def _grid(self, found: Measured) -> list[list[str]]:
        metric = Metric.named(self.metric)
        counts = [found.objects * factor for factor in GROWTH]
        rows = [["seeds", *(f"{count:,} objects" for count in counts)]]
        for seeds in SEEDS:
            cells = []
            for count in counts:
                text = number(self.smallest(self.metric, found.dataset, objects=count, seeds=seeds), metric)
                cells.append(text if found.cost is None else f"{text} ({duration(found.cost.seconds(count, seeds))})")
            rows.append([str(seeds), *cells])
        return rows

    def _plan(self, found: Measured) -> tuple[str, list[list[str]]]:
        assert self.margin is not None
        metric = Metric.named(self.metric)
        aim = f"{number(self.margin, metric)} {'clicks' if metric.is_noc else 'IoU points'}"
        budgets = self.budgets(found.dataset)
        if not budgets:
            return (
                f"{metric.label} on {found.dataset}: no number of objects and up to {MOST_SEEDS} seeds resolve {aim}; "
                "seeds differ too much. Train longer, or with a decaying learning rate, so that they differ less"
            ), []
        best = cheapest(budgets)
        around = [budget for budget in budgets if best is None or abs(budget.seeds - best.seeds) <= 3]
        rows = [["", "seeds", "objects", "per upsampler", "of which training"]]
        for budget in around[:8]:
            times = [MISSING, MISSING]
            if budget.cost is not None:
                times = [duration(budget.seconds), duration(budget.cost.seconds_per_seed * budget.seeds)]
            rows.append(["cheapest" if budget == best else "", str(budget.seeds), f"{budget.objects:,}", *times])
        return f"{metric.label} on {found.dataset}: budgets that resolve {aim}", rows


def resolution(
    *results: Given,
    seeds: int | None = None,
    objects: int | None = None,
    margin: float | None = None,
    metric: str | None = None,
    metrics: str | Sequence[str] | None = None,
    datasets: str | Sequence[str] | None = None,
    power: float = Aim().power,
    confidence: float = Aim().confidence,
) -> Resolution:
    """Which difference between two upsamplers would be shown, and what would buy a given resolution most cheaply.

    Variance components come from the differences of every two of the upsamplers given, over the seeds that both have,
    and are averaged over these pairs. With a single upsampler, the difference of two is assumed to have twice its
    variances (as if nothing of an object's difficulty were shared, which errs on the safe side).

    Args:
        results: Results of one or more upsamplers, with at least two seeds each: results, paths of result files or run
            folders, or lists of them.
        seeds: Seeds per upsampler to plan with, at least 2; None for as many as were given.
        objects: Objects to plan with; None for those that were evaluated.
        margin: Difference that shall be resolved, in clicks or IoU of [0, 1]; budgets are then listed.
        metric: Score of the budgets; None for the headline metric of the results' protocol,
            :attr:`vfm_isbench.Protocol.headline`.
        metrics: One or several scores to list; None for :data:`METRICS`, without IoUs beyond the click cap.
        datasets: One or several data sets; None for all.
        power: Probability of showing the difference, in (0, 1).
        confidence: Confidence of the one-sided bound that shows it, in (0.5, 1).

    Raises:
        ComparisonError: if an argument is out of range, or no upsampler has two seeds.
        ResultError: if a file cannot be read.
        UnknownNameError: if no result has a data set that was asked for.
    """
    if not results:
        raise ComparisonError("expected results of at least one upsampler with two seeds")
    datasets = [datasets] if isinstance(datasets, str) else datasets
    metrics = [metrics] if isinstance(metrics, str) else metrics
    # A result may be given by itself, so sides are put together again.
    sides = group_sides(result for given in results for result in side_of(given).results)
    check_datasets(sides, datasets or ())
    metric = metric or sides[0].results[0].protocol.headline
    names = list(datasets or dict.fromkeys(name for side in sides for run in side.results for name in run.datasets))
    wanted = _metrics(sides, [metric, *(metrics or METRICS)], is_chosen=metrics is not None)
    found, remarks = [], dict[str, None]()
    if any(run.has_random_weights for side in sides for run in side.results):
        remarks[DRY_RUNS] = None
    for name in names:
        measured = measured_on(sides, name, wanted)
        found.append(measured)
        remarks |= dict.fromkeys(measured.remarks)
    return resolution_of(
        found,
        seeds=seeds,
        objects=objects,
        margin=margin,
        metric=metric,
        power=power,
        confidence=confidence,
        remarks=tuple(remarks),
    )


def resolution_of(
    measured: Sequence[Measured],
    *,
    seeds: int | None = None,
    objects: int | None = None,
    margin: float | None = None,
    metric: str,
    power: float = Aim().power,
    confidence: float = Aim().confidence,
    remarks: tuple[str, ...] = (),
) -> Resolution:
    """The same from components that are known already; see :func:`resolution`."""
    if not measured:
        raise ComparisonError("there is no data set to plan for")
    if not (0 < power < 1 and 0.5 < confidence < 1):
        raise ComparisonError(f"expected power in (0, 1) and confidence in (0.5, 1); got {power} and {confidence}")
    if seeds is not None and seeds < 2:
        raise ComparisonError(
            f"expected at least 2 seeds, because a single one does not show how seeds differ; got {seeds}"
        )
    if objects is not None and objects < 3:
        raise ComparisonError(f"expected at least 3 objects; got {objects}")
    if margin is not None and not (margin > 0 and math.isfinite(margin)):
        raise ComparisonError(f"expected a margin above 0 {Metric.named(metric).unit}; got {margin}")
    return Resolution(
        tuple(measured),
        Metric.named(metric).name,
        Aim(power, confidence),
        seeds or max(2, *(found.seeds for found in measured)),
        objects,
        margin,
        remarks,
    )


def _metrics(sides: Sequence[Side], names: Sequence[str], *, is_chosen: bool) -> list[Metric]:
    """The scores, headline included, in the order of METRICS; by default without IoUs beyond the cap."""
    cap = min(run.protocol.max_clicks for side in sides for run in side.results)
    metrics = list(dict.fromkeys(Metric.named(name) for name in names))
    if not is_chosen:
        metrics = [metric for metric in metrics if metric.clicks is None or metric.clicks <= cap]
    order = {name: place for place, name in enumerate(METRICS)}
    return sorted(metrics, key=lambda metric: order.get(metric.name, len(order)))


def duration(seconds: float) -> str:
    """A time in words: "40 s", "3.2 min", "5.1 h".

    >>> duration(40), duration(192), duration(18_400)
    ('40 s', '3.2 min', '5.1 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
