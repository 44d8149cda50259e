"""Differences with intervals across protocols, and rank correlation with an interval.

``vfm-isbench compare`` refuses results of different protocols, because a difference between them is not one between
upsamplers. In a study the protocol is what is compared: same objects, same seeds, one field changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vfm_isbench import Result
from vfm_isbench.results.intervals import Estimate, estimate_mean
from vfm_isbench.results.object_scores import Metric
from vfm_isbench.results.sides import Pair, side_of
from vfm_isbench.types import Array

DRAWS = 2000
SEED = 0


def _dataset(results: Sequence[Result], dataset: str | None) -> str:
    return dataset or next(iter(results[0].datasets))


def mean(results: Sequence[Result], metric: str, dataset: str | None = None) -> Estimate:
    """Mean over objects and seeds, with its interval. NoC in clicks, IoU in [0, 1].

    Args:
        results: One per seed.
        metric: As in ``vfm-isbench compare``: "noc90", "iou_at_1", "mean_iou".
        dataset: Test set; None for the first.
    """
    name, by = _dataset(results, dataset), Metric.named(metric)
    pair = Pair.of(side_of(list(results)), side_of(list(results)), name)
    cap = pair.cap
    return estimate_mean(pair.scores(by)[0], pair.images, limits=by.limits(cap))


def mean_difference(
    first: Sequence[Result], second: Sequence[Result], metric: str, dataset: str | None = None
) -> Estimate:
    """Second minus first, paired by object and, if both have the same seeds, by seed; see :func:`mean`."""
    pair = Pair.of(side_of(list(first)), side_of(list(second)), _dataset(first, dataset))
    return pair.difference(Metric.named(metric))


def interaction(
    first: tuple[Sequence[Result], Sequence[Result]],
    second: tuple[Sequence[Result], Sequence[Result]],
    metric: str,
    dataset: str | None = None,
) -> Estimate:
    """Difference of differences: (second[1] − second[0]) − (first[1] − first[0]), paired by object and seed.

    All four sides need the same seeds and objects.
    """
    by, name = Metric.named(metric), _dataset(first[0], dataset)
    gains = []
    for before, after in (first, second):
        pair = Pair.of(side_of(list(before)), side_of(list(after)), name)
        one, other = pair.scores(by)
        places = {object_id: place for place, object_id in enumerate(pair.first.results[0].datasets[name].object_ids)}
        gains.append((other - one, places, pair.images))
    (gain, places, images), (gain_of_second, places_of_second, _) = gains
    in_order = [places_of_second[object_id] for object_id in places]
    return estimate_mean(gain_of_second[:, in_order] - gain, images)


def scores_of(
    results: Mapping[str, Sequence[Result]], metric: str, dataset: str | None = None
) -> tuple[Array, list[str]]:
    """Scores of several cases: cases×seeds×objects, objects in the same order, and the image of each object."""
    first = next(iter(results.values()))
    name, by = _dataset(first, dataset), Metric.named(metric)
    pairs = [Pair.of(side_of(list(first)), side_of(list(runs)), name) for runs in results.values()]
    return np.stack([pair.scores(by)[1] for pair in pairs]), pairs[0].images


def kendall(first: Array, second: Array) -> float:
    """Kendall's τ-b between two lists of scores."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


def kendall_tau(
    first: Array, second: Array, images: Sequence[str], draws: int = DRAWS, seed: int = SEED
) -> tuple[float, float, float]:
    """Kendall's τ between the orders of cases by two scores, with a 95 % bootstrap interval over images and seeds.

    Args:
        first: Cases×seeds×objects.
        second: The same, of the other score; objects and seeds are drawn together, so they must be the same ones.
        images: Image of each object; all objects of an image are drawn together.
        draws: Bootstrap samples.
        seed: Of the random draws.

    Returns:
        τ of the means, and the ends of the interval. With three or four cases τ has few values, so the interval is
        coarse.
    """
    rng = np.random.default_rng(seed)
    names = sorted(set(images))
    members = [np.flatnonzero([image == name for image in images]) for name in names]
    value = kendall(first.mean(axis=(1, 2)), second.mean(axis=(1, 2)))
    found = []
    for _ in range(draws):
        objects = np.concatenate([members[number] for number in rng.integers(len(names), size=len(names))])
        seeds = rng.integers(first.shape[1], size=first.shape[1])
        drawn = [scores[:, seeds][:, :, objects].mean(axis=(1, 2)) for scores in (first, second)]
        found.append(kendall(*drawn))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return value, float(low), float(high)


def shown(estimate: Estimate, *, percent: bool = False, signed: bool = True) -> str:
    """A difference or mean with its interval, as in "−2.3 [−3.0, −1.6]"; ``percent`` shows IoU in points."""
    scale = 100 if percent else 1
    form = "+.2f" if signed else ".2f"
    numbers = [f"{scale * number:{form}}".replace("-", "−") for number in (estimate.value, estimate.low, estimate.high)]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"
