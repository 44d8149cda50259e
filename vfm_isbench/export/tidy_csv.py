"""A tidy CSV file: one row per upsampler, data set and score, with intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vfm_isbench.errors import ComparisonError
from vfm_isbench.export.options import ExportOptions
from vfm_isbench.export.scores import Score, check_seeds, score_of
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Side, named_seeds
from vfm_isbench.results.signature import score_signature

COLUMNS = (
    "upsampler", "upsampler_sha256", "backbone", "protocol", "seeds", "dataset", "objects", "images", "metric", "unit",
    "lower_is_better", "value", "low", "high", "confidence", "objects_error", "seeds_error", "signature",
)  # fmt: skip

_COMMANDS = ("=", "+", "-", "@", "\t", "\r")
"""With what a cell begins that spreadsheets take for a formula."""


def tidy_csv(sides: Sequence[Side], options: ExportOptions) -> str:
    """The rows of all upsamplers, below a line with the names of the columns.

    IoUs are fractions. Scores without an interval, such as seconds per click, have empty cells there.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for side in sides:
        check_seeds(side)
        for name in side.results[0].datasets:
            writer.writerows(_rows(side, name, options))
    return text.getvalue()


def _rows(side: Side, dataset: str, options: ExportOptions) -> Iterator[dict[str, str]]:
    first = side.results[0]
    found = [result.datasets[dataset] for result in side.results]
    all_scores = [each.scores() for each in found]
    # Boundary IoU may have been measured for some seeds only.
    in_all = [name for name in all_scores[0] if all(name in scores for scores in all_scores)]
    known = [name for name in in_all if name != "objects" and not name.endswith("_std")]
    fixed = {
        "upsampler": _cell(side.label),
        "upsampler_sha256": side.sha256 or "",
        "backbone": _cell(str(first.backbone.get("name", ""))),
        "protocol": _cell(first.protocol.label),
        "seeds": " ".join(map(str, side.seeds)),
        "dataset": _cell(dataset),
        "objects": str(len(found[0].objects)),
        "images": str(len({object_id.image for object_id in found[0].object_ids})),
    }
    for name in options.metrics if options.metrics is not None else known:
        if (metric := _metric(name)) is not None:
            yield {**fixed, **_of_objects(score_of(side, dataset, metric, options.confidence), options.confidence)}
        else:
            if name not in known:
                _refuse(name, side, all_scores)
            value = float(np.mean([scores[name] for scores in all_scores]))
            yield {**fixed, **_plain(name, _unit(name), value)}
    seconds = [each.seconds_per_click for each in found if each.seconds_per_click is not None]
    if options.metrics is None and seconds:
        yield {**fixed, **_plain("seconds_per_click", "s", float(np.mean(seconds)))}


def _metric(name: str) -> Metric | None:
    try:
        return Metric.named(name)
    except ComparisonError:
        return None


def _of_objects(score: Score, confidence: float) -> dict[str, str]:
    estimate = score.estimate
    return {
        "metric": score.metric.name,
        "unit": "clicks" if score.metric.is_noc else "fraction",
        "lower_is_better": str(score.metric.is_noc).lower(),
        "value": _number(estimate.value),
        "low": _number(estimate.low),
        "high": _number(estimate.high),
        "confidence": f"{confidence:g}" if score.has_interval else "",
        "objects_error": _number(estimate.objects_error),
        "seeds_error": _number(estimate.seeds_error),
        "signature": _signature(score.side, score.dataset, score.metric.name),
    }


def _plain(name: str, unit: str, value: float) -> dict[str, str]:
    is_lower = str(unit != "fraction").lower()
    return {"metric": name, "unit": unit, "lower_is_better": is_lower, "value": _number(value)}


def _unit(name: str) -> str:
    """Unit of a score without an interval: a boundary IoU, or a number of objects that failed."""
    return "fraction" if "boundary_iou" in name else "objects"


def _refuse(name: str, side: Side, all_scores: Sequence[Mapping[str, float]]) -> None:
    """Say why a score is not there."""
    have = [seed for seed, scores in zip(side.seeds, all_scores, strict=True) if name in scores]
    if have and len(have) < len(side.seeds):
        raise ComparisonError(
            f"{side.label} has {name} for {named_seeds(have)} only, of {named_seeds(side.seeds)}: leave it out, or "
            "export these seeds by themselves"
        )
    Metric.named(name)  # says which names there are


def _signature(side: Side, dataset: str, metric: str) -> str:
    return _cell(score_signature(side.results, dataset, metric))


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(float(value))


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula, because it may come from a stranger's file.

    >>> _cell("=HYPERLINK(1)"), _cell("jbu")
    ("'=HYPERLINK(1)", 'jbu')
    """
    return f"'{text}" if text.startswith(_COMMANDS) else text
