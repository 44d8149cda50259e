"""The verdict on one data set: a one-sided test of a difference against a margin."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from vfm_isbench.errors import ComparisonError
from vfm_isbench.results.budgets import MOST_SEEDS, objects_for
from vfm_isbench.results.components import Aim, smallest_difference
from vfm_isbench.results.difference import Difference, difference_of, json_ready
from vfm_isbench.results.intervals import Estimate
from vfm_isbench.results.measured import Measured, measured_on
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Pair

Verdict: TypeAlias = Literal["pass", "regression", "incomparable", "inconclusive"]


@dataclass(frozen=True)
class Judgement:
    """One data set compared with its baseline.

    Attributes:
        verdict: "pass", "regression" or "inconclusive".
        difference: Scores of baseline (first) and result (second), in the metric's own direction.
        worsening: How much worse the result is, positive for worse: in clicks for NoC, otherwise in IoU of [0, 1].
            ``low`` and ``high`` are one-sided bounds, each with the requested confidence.
        margin: The margin it was judged by.
        objects_needed: For "inconclusive": how many objects, in similar images, would settle it if the difference
            stays the same; None if no number would. With paired seeds, they settle it with a probability of 80 %.
        seeds_needed: Likewise, how many seeds on both sides would settle it with a probability of 80 %; None if no
            number up to 20 would, or unknown because seeds are not paired or there is only one.
        smallest_margin: For "inconclusive": the margin with which an upsampler that is as good as the baseline passes
            with a probability of 80 %, with these seeds and objects; None if unknown, as above.
        object_limit: The protocol's limit of objects per data set.
    """

    verdict: Verdict
    difference: Difference
    worsening: Estimate
    margin: float
    objects_needed: int | None = None
    seeds_needed: int | None = None
    smallest_margin: float | None = None
    object_limit: int | None = None

    @property
    def is_likely_regression(self) -> bool:
        """Whether the estimate is beyond the margin, but not with the requested confidence."""
        return self.verdict == "inconclusive" and self.worsening.value > self.margin

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "verdict": self.verdict,
            **self.difference.to_dict(),
            "worsening": json_ready(dataclasses.asdict(self.worsening)),
            "is_likely_regression": self.is_likely_regression,
            "objects_needed": self.objects_needed,
            "seeds_needed": self.seeds_needed,
            "smallest_margin": self.smallest_margin,
        }


def judge(pair: Pair, metric: Metric, margin: float, confidence: float) -> Judgement:
    """Judge the second side of a pair against the first.

    Args:
        pair: Baseline and result on one data set.
        metric: Score to judge by.
        margin: Largest worsening that passes.
        confidence: Confidence of each one-sided bound, in (0.5, 1).

    Raises:
        ComparisonError: if early stopping left the score missing.
    """
    # Either end of a two-sided interval of 2c − 1 is a one-sided bound of c.
    found = difference_of(pair, metric, 2 * confidence - 1)
    estimate = found.difference
    if math.isnan(estimate.value):
        raise ComparisonError(
            f"{pair.dataset}: {metric.name} needs clicks that were not placed, because the evaluation stopped early. "
            "Run it without early stop, or judge by noc80, noc85 or noc90 if the evaluation waited for it"
        )
    worsening = estimate
    if not metric.is_noc:
        worsening = dataclasses.replace(estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low)
    first, second = pair.scores(metric)
    if worsening.high <= margin or (pair.paired_seeds and np.array_equal(first, second)):
        return Judgement("pass", found, worsening, margin)
    if worsening.low > margin:
        return Judgement("regression", found, worsening, margin)
    open_judgement = Judgement(
        "inconclusive",
        found,
        worsening,
        margin,
        objects_needed=_objects_needed(worsening, margin, found.objects),
        object_limit=pair.first.results[0].protocol.object_limit,
    )
    if not pair.paired_seeds or len(first) < 2:
        return open_judgement
    measured = measured_on([pair.first, pair.second], pair.dataset, [metric])
    if metric.name not in measured.components:
        return open_judgement
    aim, gap = Aim(confidence=confidence), abs(worsening.value - margin)
    return dataclasses.replace(
        open_judgement,
        # As vfm-isbench power plans it, so that both name the same number.
        objects_needed=objects_for(gap, measured, metric.name, len(first), aim),
        seeds_needed=_seeds_needed(measured, metric, gap, aim),
        smallest_margin=_smallest(measured, metric, len(first), aim),
    )


def _smallest(measured: Measured, metric: Metric, seeds: int, aim: Aim) -> float:
    """The smallest difference that this many seeds show, with the objects that were measured."""
    components, freedom = measured.components[metric.name], measured.images_freedom(measured.objects)
    return smallest_difference(components, measured.objects, seeds, aim, freedom)


def _seeds_needed(measured: Measured, metric: Metric, gap: float, aim: Aim) -> int | None:
    """The fewest seeds that show a difference as large as the gap between estimate and margin."""
    counts = range(measured.seeds + 1, MOST_SEEDS + 1)
    return next((seeds for seeds in counts if _smallest(measured, metric, seeds, aim) <= gap), None)


def _objects_needed(worsening: Estimate, margin: float, objects: int) -> int | None:
    """Number of objects at which the bound towards the margin would just reach it, all else being equal.

    The bound lies q standard errors from the value. The objects' part of their variance falls with the number of
    objects; the seeds' part stays.
    """
    gap = abs(worsening.value - margin)
    reach = worsening.high - worsening.value if worsening.value <= margin else worsening.value - worsening.low
    if not (math.isfinite(reach) and reach > 0):
        return None
    allowed = (gap / (reach / worsening.error)) ** 2 - (worsening.seeds_error or 0.0) ** 2
    return math.ceil(objects * worsening.objects_error**2 / allowed) if allowed > 0 else None
