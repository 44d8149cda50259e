"""Two or more upsamplers compared object by object: differences, their intervals, and what may not be compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vfm_isbench.errors import ComparisonError, IncomparableError
from vfm_isbench.results.bootstrap import CONFIDENCE, RESAMPLES, Estimate
from vfm_isbench.results.comparison_text import comparison_markdown, comparison_text
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Given, Pair, Side, check_datasets, distinct, side_of, why_apart
from vfm_isbench.results.signature import score_signature

METRICS = ("noc80", "noc85", "noc90", "iou_at_1", "iou_at_5", "iou_at_10", "iou_at_20", "mean_iou")
"""What is compared, as far as so many clicks were placed."""

_SAME = 1e-9
"""Scores of an object that differ by less are equal: means over seeds are rounded."""


@dataclass(frozen=True)
class Difference:
    """One score of one data set on two sides.

    Attributes:
        dataset: Data set.
        metric: Name of the score.
        first: Label of the first side.
        second: Label of the second.
        first_seeds: Training seeds of the first side that are compared.
        second_seeds: Likewise of the second.
        paired_seeds: Whether differences are taken seed by seed.
        objects: Number of objects.
        images: Number of images that hold them.
        first_value: Score of the first side, mean over seeds: clicks, or IoU in [0, 1].
        second_value: Score of the second.
        difference: Second minus first, with its interval. All NaN where early stop left a score missing.
        better: Share of objects that are better on the second side (mean over seeds): fewer clicks, or higher IoU.
        equal: Share that are the same.
        worse: Share that are worse.
        first_at_cap: NoC: objects whose number of clicks is the cap, mean over seeds; NaN for IoU.
        second_at_cap: Likewise of the second side.
    """

    dataset: str
    metric: str
    first: str
    second: str
    first_seeds: tuple[int, ...]
    second_seeds: tuple[int, ...]
    paired_seeds: bool
    objects: int
    images: int
    first_value: float
    second_value: float
    difference: Estimate
    better: float
    equal: float
    worse: float
    first_at_cap: float
    second_at_cap: float

    @property
    def is_separable(self) -> bool:
        """Whether the interval leaves out zero: the two sides do differ in this score."""
        return self.difference.low > 0 or self.difference.high < 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: null for what is missing."""
        return {key: finite(value) for key, value in dataclasses.asdict(self).items()} | {
            "difference": estimate_to_dict(self.difference)
        }


@dataclass(frozen=True)
class Comparison:
    """What :func:`vfm_isbench.compare` returns: prints as tables, turns into a frame, Markdown and JSON.

    Attributes:
        confidence: Of the two-sided intervals.
        resamples: Resamples of the bootstrap.
        cap: Clicks per object.
        sides: Labels of all sides, the first first.
        differences: By second side, data set and score.
        signatures: One line per side and data set, by label: what its scores are scores of.
        incomparable: Why data sets, or sides, were left out.
        remarks: What a reader should know.
    """

    confidence: float
    resamples: int
    cap: int
    sides: tuple[str, ...]
    differences: tuple[Difference, ...]
    signatures: tuple[tuple[str, str], ...]
    incomparable: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every other side could be compared with the first on some data set."""
        return set(self.sides[1:]) == {one.second for one in self.differences}

    def to_frame(self) -> pd.DataFrame:
        """One row per difference: its fields, and those of the estimate."""
        rows = []
        for one in self.differences:
            row = {key: value for key, value in dataclasses.asdict(one).items() if key != "difference"}
            estimate = dataclasses.asdict(one.difference)
            row["difference"] = estimate.pop("value")
            seeds_error = estimate.pop("seeds_error")
            row |= estimate | {"seeds_error": math.nan if seeds_error is None else seeds_error}
            rows.append(row)
        frame: pd.DataFrame = pd.DataFrame(rows)
        return frame

    def to_markdown(self) -> str:
        """Tables in GitHub's Markdown, with signatures and remarks."""
        return comparison_markdown(self)

    def __str__(self) -> str:
        return comparison_text(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content: null for what is missing."""
        return {
            "confidence": self.confidence,
            "resamples": self.resamples,
            "max_clicks": self.cap,
            "sides": list(self.sides),
            "differences": [one.to_dict() for one in self.differences],
            "signatures": [{"side": label, "signature": line} for label, line in self.signatures],
            "incomparable": list(self.incomparable),
            "remarks": list(self.remarks),
        }


def compare(
    first: Given,
    *others: Given,
    datasets: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare upsamplers object by object; each of the others with the first.

    Args:
        first: A result, the path of a result file or run folder, or several of these: one upsampler with several seeds.
        others: One or more further sides, likewise.
        datasets: Data sets to compare; None for all that two sides have in common.
        metrics: Scores to compare; None for :data:`METRICS`, as far as so many clicks were placed.
        confidence: Of the two-sided intervals, in (0, 1).
        resamples: Resamples of the bootstrap.
        seed: Seed of the resampling.

    Raises:
        IncomparableError: if nothing may be compared; with every reason.
        ComparisonError: if a side holds results of different upsamplers, or a metric does not exist.
        ResultError: if a file cannot be read.
        UnknownNameError: if no side has a data set that was asked for.
    """
    if not others:
        raise ComparisonError("one side alone cannot be compared; give at least two")
    check_statistics(confidence, resamples)
    side, *rest = distinct([side_of(given) for given in (first, *others)])
    check_datasets([side, *rest], datasets or ())
    differences: list[Difference] = []
    signatures: dict[tuple[str, str], None] = {}
    incomparable: dict[str, None] = {}
    remarks: dict[str, None] = {}
    for other in rest:
        for dataset in _datasets(side, other, datasets):
            if reasons := why_apart(side, other, dataset):
                incomparable |= dict.fromkeys(reasons)
                continue
            pair = Pair.of(side, other, dataset)
            wanted = _metrics(pair, metrics)
            found = [difference_of(pair, metric, confidence, resamples, seed) for metric in wanted]
            differences += found
            remarks |= dict.fromkeys([*pair.remarks, *_missing(found)])
            names = ",".join(metric.name for metric in wanted)
            for one in (pair.first, pair.second):
                signatures[one.label, score_signature(one.results, dataset, names)] = None
    if not differences:
        raise IncomparableError(f"incomparable: {'; '.join(incomparable)}")
    return Comparison(
        confidence=confidence,
        resamples=resamples,
        cap=side.results[0].protocol.max_clicks,
        sides=tuple(one.label for one in (side, *rest)),
        differences=tuple(differences),
        signatures=tuple(signatures),
        incomparable=tuple(incomparable),
        remarks=tuple(remarks),
    )


def check_statistics(confidence: float, resamples: int, least: float = 0.0) -> None:
    """Refuse what no interval can be made of.

    Raises:
        ComparisonError: if the confidence does not lie between ``least`` and 1, or there are no resamples.
    """
    if not least < confidence < 1 or resamples < 1:
        raise ComparisonError(
            f"expected a confidence between {least:g} and 1 and at least one resample; got {confidence} and {resamples}"
        )


def difference_of(pair: Pair, metric: Metric, confidence: float, resamples: int, seed: int) -> Difference:
    """One score of a pair; NaN where it is missing."""
    first, second = (scores.mean(axis=0) for scores in pair.scores(metric))
    gain = first - second if metric.is_noc else second - first
    is_known = not np.isnan(gain).any()
    better, worse = (float((sign * gain > _SAME).mean()) if is_known else math.nan for sign in (1, -1))
    first_at_cap, second_at_cap = pair.at_cap(metric) if is_known else (math.nan, math.nan)
    return Difference(
        dataset=pair.dataset,
        metric=metric.name,
        first=pair.first.label,
        second=pair.second.label,
        first_seeds=pair.first.seeds,
        second_seeds=pair.second.seeds,
        paired_seeds=pair.paired_seeds,
        objects=len(pair.images),
        images=len(set(pair.images)),
        first_value=float(first.mean()),
        second_value=float(second.mean()),
        difference=pair.difference(metric, confidence=confidence, resamples=resamples, seed=seed),
        better=better,
        equal=float((np.abs(gain) <= _SAME).mean()) if is_known else math.nan,
        worse=worse,
        first_at_cap=first_at_cap,
        second_at_cap=second_at_cap,
    )


def finite(value: Any) -> Any:
    """None for NaN, lists for tuples: what JSON has a word for."""
    if isinstance(value, tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def estimate_to_dict(estimate: Estimate) -> dict[str, float | None]:
    """JSON-ready."""
    return {key: finite(value) for key, value in dataclasses.asdict(estimate).items()}


def _datasets(first: Side, second: Side, chosen: Sequence[str] | None) -> list[str]:
    """Those asked for, or all that either side has, so that it is said why one is left out."""
    if chosen is not None:
        return list(chosen)
    return list(dict.fromkeys(name for side in (first, second) for result in side.results for name in result.datasets))


def _metrics(pair: Pair, chosen: Sequence[str] | None) -> list[Metric]:
    if chosen is not None:
        return [Metric.named(name) for name in chosen]
    cap = pair.first.results[0].protocol.max_clicks
    return [metric for metric in map(Metric.named, METRICS) if metric.clicks is None or metric.clicks <= cap]


def _missing(differences: Sequence[Difference]) -> Iterator[str]:
    missing = [Metric.named(one.metric).label for one in differences if math.isnan(one.difference.value)]
    if missing:
        yield (
            f"{differences[0].dataset}: {', '.join(missing)} missing: the evaluation stopped early, and did not place "
            "all clicks"
        )
