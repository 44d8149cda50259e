"""What an inconclusive judgement says: what is likely, what is not established, and what would settle it."""

from __future__ import annotations

import math

from vfm_isbench.results.difference_text import interval, number
from vfm_isbench.results.judgement import Judgement
from vfm_isbench.results.object_scores import Metric

RECOMMENDED_SEEDS = 3


def open_question(judgement: Judgement, margin: float) -> str:
    """Why a judgement is inconclusive, and what to do about it."""
    advice = [_settled_by(judgement, margin)]
    if too_small := _too_small(judgement, margin):
        advice.insert(len(advice) if judgement.is_likely_regression else 0, too_small)
    return ". ".join([_finding(judgement, margin), *advice])


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
    objects = f"{found.objects:,} object{'s' * (found.objects != 1)}"
    if counts[0] != counts[1]:
        return f"{_seeds(counts[0])} of the baseline, {_seeds(counts[1])} of the result and {objects}"
    return f"{_seeds(counts[0])} and {objects}"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


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
    return text


def _too_small(judgement: Judgement, margin: float) -> str | None:
    """That even an upsampler as good as the baseline would mostly be inconclusive, and what to do; None if not."""
    metric, smallest = Metric.named(judgement.difference.metric), judgement.smallest_margin
    if smallest is None or margin >= smallest:
        return None
    digits = 2 if metric.is_noc else 4
    rounded = math.ceil(smallest * 10**digits) / 10**digits
    text = (
        f"These seeds and objects resolve {number(rounded, metric)} {unit_of(metric)}; with a smaller margin, even an "
        "upsampler as good as the baseline is mostly inconclusive"
    )
    # Whoever is told of a likely regression should not be told how to hide it.
    is_advice = not judgement.is_likely_regression and (metric.is_noc or rounded < 1)
    return f"{text}. Raise the margin to at least that: --margin {rounded:g}" if is_advice else text


def _more_objects(judgement: Judgement) -> str:
    if judgement.object_limit is not None:
        return f"raise the limit of {judgement.object_limit} objects (--limit N)"
    return "choose a larger test set (--datasets) or protocol (--protocol)"


def unit_of(metric: Metric) -> str:
    """Unit of numbers in tables."""
    return "clicks" if metric.is_noc else "IoU points"
