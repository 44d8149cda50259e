"""Whether an upsampler got worse than a baseline: a one-sided test against a margin, for continuous integration."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from vfm_isbench.errors import ComparisonError
from vfm_isbench.results.bootstrap import CONFIDENCE, RESAMPLES, Estimate
from vfm_isbench.results.comparison import Difference, check_statistics, difference_of, estimate_to_dict
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.regression_text import regression_markdown, regression_text
from vfm_isbench.results.sides import Given, Pair, Side, check_datasets, side_of, why_apart
from vfm_isbench.results.signature import score_signature

MARGIN = 0.05
Verdict: TypeAlias = Literal["pass", "regression", "incomparable", "inconclusive"]
EXIT_CODES: dict[Verdict, int] = {"pass": 0, "regression": 1, "incomparable": 3, "inconclusive": 4}
"""2 is left to wrong use and broken files, which raise."""

_WORST_FIRST: tuple[Verdict, ...] = ("regression", "inconclusive", "pass")

_MOSTLY_AT_CAP = 0.5
"""Share of objects at the cap from which a remark says that NoC can hardly tell."""


@dataclass(frozen=True)
class Judgement:
    """One data set against its baseline.

    Attributes:
        verdict: "pass", "regression" or "inconclusive".
        difference: Scores of baseline (first) and result (second), in the metric's own direction.
        worsening: By how much the result is worse, positive for worse: in clicks for NoC, in IoU of [0, 1] otherwise.
            ``low`` and ``high`` are one-sided bounds, each of the confidence asked for.
        objects_needed: For "inconclusive": how many objects, in images like these, would settle it if the difference
            stays what it is; None where no number would, as the training seeds differ by too much.
    """

    verdict: Verdict
    difference: Difference
    worsening: Estimate
    objects_needed: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "verdict": self.verdict,
            **self.difference.to_dict(),
            "worsening": estimate_to_dict(self.worsening),
            "objects_needed": self.objects_needed,
        }


@dataclass(frozen=True)
class Regression:
    """What :func:`vfm_isbench.regress` returns.

    Attributes:
        verdict: Over all data sets: "incomparable" or "regression" if one is, else "inconclusive" if one is, else
            "pass".
        metric: Name of the score.
        margin: Worsening that is let pass, in the unit of the metric: clicks, or IoU of [0, 1].
        confidence: Of each one-sided bound.
        judgements: Per data set; none if incomparable.
        reasons: Why the results are incomparable.
        signatures: One line per side and data set, by label.
        remarks: What a reader should know.
    """

    verdict: Verdict
    metric: str
    margin: float
    confidence: float
    judgements: tuple[Judgement, ...] = ()
    reasons: tuple[str, ...] = ()
    signatures: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 pass, 1 regression, 3 incomparable, 4 inconclusive."""
        return EXIT_CODES[self.verdict]

    def to_markdown(self) -> str:
        """For the summary of a continuous-integration job."""
        return regression_markdown(self)

    def __str__(self) -> str:
        return regression_text(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content: null for what is missing."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "metric": self.metric,
            "unit": Metric.named(self.metric).unit,
            "margin": self.margin,
            "confidence": self.confidence,
            "datasets": [one.to_dict() for one in self.judgements],
            "reasons": list(self.reasons),
            "signatures": [{"side": label, "signature": line} for label, line in self.signatures],
            "remarks": list(self.remarks),
        }


def regress(
    result: Given,
    baseline: Given,
    *,
    metric: str = "noc90",
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    dataset: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Regression:
    """Judge whether a result is worse than a baseline by more than a margin.

    Let w be the worsening: clicks more, or IoU less. On each data set the verdict is

    - "pass" if the upper bound of w is at most the margin, or if no object's score differs at all;
    - "regression" if the lower bound of w is above the margin;
    - "inconclusive" otherwise: the margin lies between the bounds.

    So both statements carry the confidence, and neither is made for want of data. Pass is a test of non-inferiority:
    of upsamplers that are worse by more than the margin, at most 1 − confidence pass, however many data sets there
    are. Of those that are not, at most 1 − confidence *per data set* are called a regression.

    Args:
        result: What is to be judged: a result, the path of a result file or run folder, or several, one per seed.
        baseline: What it is held against, likewise.
        metric: "noc90" or another NoC, "iou_at_1" (or "iou@1") or another IoU@k, "mean_iou".
        margin: At least 0: clicks for NoC, IoU of [0, 1] otherwise (0.01 is one IoU point).
        confidence: Of each one-sided bound, in (0.5, 1).
        dataset: Data set to judge by; None for all of the baseline's.
        resamples: Resamples of the bootstrap.
        seed: Seed of the resampling.

    Raises:
        ComparisonError: if an argument is out of range, the baseline has no data set, or the results lack the score.
        UnknownNameError: if neither side has the data set asked for.
        ResultError: if a file cannot be read.
    """
    measure = Metric.named(metric)
    check_statistics(confidence, resamples, least=0.5)
    if not (margin >= 0 and math.isfinite(margin)):
        raise ComparisonError(f"expected a margin of at least 0 {measure.unit}; got {margin}")
    second, first = side_of(result), side_of(baseline)
    first = Side(f"{first.label} (baseline)", first.results)
    every = dict.fromkeys(name for run in first.results for name in run.datasets)
    if not every:
        raise ComparisonError("the baseline has no data set to judge by")
    names = list(every) if dataset is None else [dataset]
    check_datasets([first, second], names)
    if reasons := list(dict.fromkeys(reason for name in names for reason in why_apart(first, second, name))):
        return Regression("incomparable", measure.name, margin, confidence, reasons=tuple(reasons))
    pairs = [Pair.of(first, second, name) for name in names]
    judgements = [_judge(pair, measure, margin, confidence, resamples, seed) for pair in pairs]
    verdicts = [one.verdict for one in judgements]
    return Regression(
        verdict=next(verdict for verdict in _WORST_FIRST if verdict in verdicts),
        metric=measure.name,
        margin=margin,
        confidence=confidence,
        judgements=tuple(judgements),
        signatures=tuple(
            (side.label, score_signature(side.results, pair.dataset, measure.name))
            for pair in pairs
            for side in (pair.first, pair.second)
        ),
        remarks=tuple(
            dict.fromkeys(
                [
                    *(remark for pair in pairs for remark in pair.remarks),
                    *_single_seeds(pairs),
                    *_at_cap(judgements),
                ]
            )
        ),
    )


def _judge(pair: Pair, metric: Metric, margin: float, confidence: float, resamples: int, seed: int) -> Judgement:
    # Either end of a two-sided interval of 2c − 1 is a one-sided bound of c.
    found = difference_of(pair, metric, 2 * confidence - 1, resamples, seed)
    estimate = found.difference
    if math.isnan(estimate.value):
        raise ComparisonError(
            f"{pair.dataset}: {metric.name} needs clicks that were not placed, because the evaluation stopped early. "
            "Run it without early stop, or judge by noc80, noc85 or noc90 as far as these were waited for"
        )
    worsening = estimate
    if not metric.is_noc:
        worsening = dataclasses.replace(estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low)
    first, second = pair.scores(metric)
    if worsening.high <= margin or (pair.paired_seeds and np.array_equal(first, second)):
        return Judgement("pass", found, worsening, None)
    if worsening.low > margin:
        return Judgement("regression", found, worsening, None)
    return Judgement("inconclusive", found, worsening, _objects_needed(worsening, margin, found.objects))


def _objects_needed(worsening: Estimate, margin: float, objects: int) -> int | None:
    """Objects at which the bound towards the margin would just reach it, all else being equal.

    The bound lies q standard errors from the value; the objects' part of their variance falls with the number of
    objects, the seeds' part stays.
    """
    gap = abs(worsening.value - margin)
    reach = worsening.high - worsening.value if worsening.value <= margin else worsening.value - worsening.low
    if not (math.isfinite(reach) and reach > 0):
        return None
    allowed = (gap / (reach / worsening.error)) ** 2 - (worsening.seeds_error or 0.0) ** 2
    return math.ceil(objects * worsening.objects_error**2 / allowed) if allowed > 0 else None


def _single_seeds(pairs: Sequence[Pair]) -> list[str]:
    """What the bounds say nothing of where no spread of seeds could be measured."""
    if any(len(pair.first.seeds) == len(pair.second.seeds) == 1 for pair in pairs):
        return [
            "a single training seed on both sides: the verdict holds for these trained probes only, not for the "
            "upsampler: the spread of seeds is unknown"
        ]
    return []


def _at_cap(judgements: Sequence[Judgement]) -> list[str]:
    remarks = []
    for one in judgements:
        found = one.difference
        if min(found.first_at_cap, found.second_at_cap) > _MOSTLY_AT_CAP * found.objects:
            remarks.append(
                f"{found.dataset}: on both sides more than half of the objects need all clicks, where "
                f"{Metric.named(found.metric).label} cannot tell them apart; look at a lower IoU or at mean_iou too"
            )
    return remarks
