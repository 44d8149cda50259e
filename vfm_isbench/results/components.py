"""Variance components of scores: what a benchmark's uncertainty is made of, and what it will be with another budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from vfm_isbench.results.variance import Images, MeanSquares, mean_squares
from vfm_isbench.types import Array

_DRAWS = 2000
"""Possible outcomes that the power is averaged over; the error of the average is far below one percent."""


@dataclass(frozen=True, slots=True)
class Components:
    """Variances of one score of one object with one training seed, or of a difference of two such scores.

    Attributes:
        objects: Between objects.
        images: What objects of one image have in common, per object: the variance of a mean over N objects is
            (objects + images) / N. It grows with the number of objects per image, and is 0 for one object per image.
        seeds: Between training seeds.
        both: Between objects, differently for each seed.
    """

    objects: float
    images: float
    seeds: float
    both: float

    @classmethod
    def of(cls, scores: Array, images: Sequence[str]) -> Components | None:
        """Estimate from S×N scores; None for a single seed or image, which cannot show them, or missing scores.

        Each estimate is unbiased, except that what would be negative is zero.
        """
        grouped = Images.of(images)
        if len(scores) < 2 or len(grouped.counts) < 2 or bool(np.isnan(scores).any()):
            return None
        n_seeds, n_objects = scores.shape
        clustered = mean_squares(scores, grouped)
        free = mean_squares(scores, Images.of_single_objects(n_objects))
        assert clustered.both is not None and free.both is not None
        total = n_objects * max(float(clustered.objects - clustered.both), 0.0)
        objects = min(n_objects * max(float(free.objects - free.both), 0.0), total)
        return cls(
            objects=objects,
            images=total - objects,
            seeds=n_seeds * float(clustered.seeds_alone),
            both=n_seeds * n_objects * float(clustered.both),
        )

    @classmethod
    def mean_of(cls, several: Sequence[Components]) -> Components:
        """Mean of several estimates of the same components."""
        return cls(
            *(float(np.mean([getattr(one, field.name) for one in several])) for field in dataclasses.fields(cls))
        )

    def times(self, factor: float) -> Components:
        """All variances times a factor."""
        return Components(*(factor * getattr(self, field.name) for field in dataclasses.fields(self)))

    def parts(self, objects: int, seeds: int) -> tuple[float, float, float]:
        """Variance of the mean from the objects with their images, from the seeds, and from object × seed."""
        return (self.objects + self.images) / objects, self.seeds / seeds, self.both / (objects * seeds)

    def standard_error(self, objects: int, seeds: int) -> float:
        """Standard error of the mean over this many objects and seeds."""
        return float(np.sqrt(sum(self.parts(objects, seeds))))


@dataclass(frozen=True, slots=True)
class Aim:
    """What a comparison shall achieve.

    Attributes:
        power: Probability of showing a difference that exists.
        confidence: Confidence of the one-sided bound that shows it.
    """

    power: float = 0.8
    confidence: float = 0.95


def power_of(
    difference: float, components: Components, objects: int, seeds: int, aim: Aim, images_freedom: float | None = None
) -> float:
    """Probability that the one-sided bound of a difference excludes zero, in the right direction.

    Args:
        difference: True difference.
        components: Components of the difference.
        objects: Number of objects.
        seeds: Number of seeds, the same on both sides.
        aim: Its confidence is used.
        images_freedom: Degrees of freedom of the objects' part; None for one object per image.
    """
    reach, error = _outcomes(components, objects, seeds, aim.confidence, images_freedom)
    return _power(difference, reach, error)


def smallest_difference(
    components: Components, objects: int, seeds: int, aim: Aim, images_freedom: float | None = None
) -> float:
    """Minimal detectable difference: the one that is shown with the power of the aim. See :func:`power_of`."""
    reach, error = _outcomes(components, objects, seeds, aim.confidence, images_freedom)
    low, high = 0.0, float(reach.max()) + 10 * error
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, reach, error) < aim.power else (low, middle)
    return high


def _power(difference: float, reach: Array, error: float) -> float:
    if error == 0:
        return float(difference > 0)
    return float(special.ndtr((difference - reach) / error).mean())


def _outcomes(
    components: Components, objects: int, seeds: int, confidence: float, images_freedom: float | None
) -> tuple[Array, float]:
    """How far intervals would reach, for outcomes drawn with a fixed seed, and the standard error of the mean.

    For normal scores the mean squares are independent chi-squared variables, so they are drawn instead of scores.
    """
    own, seed, both = components.parts(objects, seeds)
    freedom = objects - 1.0 if images_freedom is None else images_freedom
    between = seeds - 1
    expected = [(own + both, freedom), (seed + both, between), (both, between * freedom)]
    rng = np.random.default_rng(0)
    drawn: list[Array] = []
    for variance, count in expected:
        # One draw from each of as many equally probable slices: less noise than free draws.
        slices = rng.permutation((np.arange(_DRAWS) + 0.5) / _DRAWS)
        drawn.append(variance * special.chdtri(count, slices) / count if count else np.zeros(_DRAWS))
    found = MeanSquares(
        objects=drawn[0],
        seeds=drawn[1] if between else None,
        both=drawn[2] if between else None,
        images_freedom=np.full(_DRAWS, freedom),
        seeds_freedom=between,
        third=np.zeros(_DRAWS),
    )
    return found.reach(confidence), float(np.sqrt(own + seed + both))
