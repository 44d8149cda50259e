"""What an inconclusive judgement says: what is likely, what is not established, and what would settle it."""

from __future__ import annotations

import math

from vfm_isbench.results.difference_text import interval, number
from vfm_isbench.results.judgement import Judgement
from vfm_isbench.results.object_scores import Metric

RECOMMENDED_SEEDS = 3


def open_question(judgement: Judgement, margin: float) -> str:
    """Why a judgement is inconclusive, and what to do about it."""
    return f"{_finding(judgement, margin)}. {_settled_by(judgement, margin)}"


def _finding(judgement: Judgement, margin: float) -> str:
    found, worsening = judgement.difference, judgement.worsening
    metric = Metric.named(found.metric)
    heading = "likely regression, not established" if judgement.is_likely_regression else "not settled"
    estimate = f"the estimate, worse by {number(worsening.value, metric, signed=True)} {unit_of(metric)},"
    side = "beyond" if judgement.is_likely_regression else "within"
    text = f"{heading}: {estimate} is {side} the margin of {number(margin, metric)}"
    if math.isnan(worsening.high):
        return f"{text}, but all objects lie in one image, which gives no interval"
    bounds = interval(worsening.low, worsening.high, metric)
    reach = "reach back within it" if judgement.is_likely_regression else "reach beyond it"
    return f"{text}, but its bounds {bounds}, from {_amount(judgement)}, {reach}"


def _amount(judgement: Judgement) -> str:
    found = judgement.difference
    counts = len(found.first_seeds), len(found.second_seeds)
    if counts[0] != counts[1]:
        seeds = f"{counts[0]} and {counts[1]} seeds"
    else:
        seeds = "one seed" if counts[0] == 1 else f"{counts[0]} seeds"
    return f"{seeds} and {found.objects:,} object{'s' * (found.objects != 1)}"


def _settled_by(judgement: Judgement, margin: float) -> str:
    found, worsening = judgement.difference, judgement.worsening
    fewest = min(len(found.first_seeds), len(found.second_seeds))
    if math.isnan(worsening.high):
        return f"More images are needed on both sides: {_more_objects(judgement)}"
    if fewest < RECOMMENDED_SEEDS:
        text = f"Run at least {RECOMMENDED_SEEDS} seeds on both sides (--seed 0, --seed 1, --seed 2)"
    elif not found.paired_seeds:
        text = "Run the same seeds on both sides, so that what they have in common cancels, or add seeds"
    elif judgement.seeds_needed is not None:
        seeds = " ".join(map(str, range(judgement.seeds_needed)))
        text = (
            f"If the difference stays the same, about {judgement.seeds_needed} seeds on both sides would settle it: "
            f"vfm-isbench baseline make --again DIR --seeds {seeds}, and vfm-isbench run with --seed for the same ones"
        )
    elif worsening.value == margin:
        return "No number of objects or seeds would settle it: the difference equals the margin"
    elif judgement.objects_needed is not None:
        text = "More seeds alone would not settle it"
    else:
        text = "These seeds differ too much: add seeds on both sides, or choose a larger margin"
    if judgement.objects_needed is not None:
        text += (
            f". With these seeds, about {judgement.objects_needed:,} objects would settle it, instead of "
            f"{found.objects:,}: {_more_objects(judgement)}"
        )
    if fewest > 1:
        gap = f"{abs(worsening.value - margin):.2g}"
        text += f". To plan both: vfm-isbench power RESULT… --metric {found.metric} --margin {gap}"
    return text


def _more_objects(judgement: Judgement) -> str:
    if judgement.object_limit is not None:
        return f"raise the limit of {judgement.object_limit} objects (--limit N)"
    return "choose a larger test set (--datasets) or protocol (--protocol)"


def unit_of(metric: Metric) -> str:
    """Unit of numbers in tables."""
    return "clicks" if metric.is_noc else "IoU points"
