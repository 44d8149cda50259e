"""Where the uncertainty of a mean over objects and training seeds comes from: variance components.

The score of object i with training seed s is taken as

    mean + image of i + object i + seed s + object i × seed s,

where every term but the first is a random draw: objects are nested in images, and each object occurs with each seed
(crossed random effects). The variance of the mean over S seeds and N objects is the sum of three parts: objects with
their images (falls with N), seeds (falls with S), and object × seed (falls with both). Three mean squares show them:

- ``objects``: the spread of the objects' means over seeds, clustered by image. Expectation: objects + object × seed.
- ``seeds``: the spread of the seeds' means over objects. Expectation: seeds + object × seed.
- ``both``: the spread of what remains without the means of objects and seeds, clustered by image. Expectation:
  object × seed.

So the variance of the mean is ``objects`` + ``seeds`` − ``both``: simply adding the first two would count object × seed
twice. This is two-way clustering (Cameron, Gelbach and Miller 2011, "Robust inference with multiway clustering") with
few clusters in one way. Sums over an image are divided by sqrt(1 − share of the image), which makes their squares
unbiased for independent objects in images of any size (CR2 of Bell and McCaffrey 2002, "Bias reduction in standard
errors for linear regression with multi-stage samples").

All functions accept leading axes, for simulations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from vfm_isbench.types import Array

_LARGEST_SHIFT = 0.5
"""Of the reach: keeps the value well inside its interval if a few objects decide the skewness."""


@dataclass(frozen=True, slots=True)
class Images:
    """Which objects are in which image, with objects sorted by image.

    Attributes:
        order: Sorts the N objects by image.
        starts: First position of each image in that order.
        counts: Objects in each image.
    """

    order: Array
    starts: Array
    counts: Array

    @classmethod
    def of(cls, images: Sequence[str]) -> Images:
        """From the image of each object."""
        _, groups, counts = np.unique(np.asarray(images, dtype=str), return_inverse=True, return_counts=True)
        return cls(np.argsort(groups.ravel(), kind="stable"), np.cumsum(counts) - counts, counts)

    @classmethod
    def of_single_objects(cls, objects: int) -> Images:
        """Every object in an image of its own."""
        return cls(np.arange(objects), np.arange(objects), np.ones(objects, dtype=int))

    @property
    def n_objects(self) -> int:
        """Number of objects."""
        return len(self.order)

    def sums(self, scores: Array) -> Array:
        """Sums over the objects of each image: (…, N) to (…, M)."""
        sums: Array = np.add.reduceat(scores[..., self.order], self.starts, axis=-1)
        return sums

    def unbiased_sums(self, deviations: Array) -> Array:
        """Sums of deviations from the mean, scaled so that their squares add up to the variance of the total."""
        return self.sums(deviations) / np.sqrt(1 - self.counts / self.n_objects)

    def freedom(self, scores: Array) -> Array:
        """Degrees of freedom of the variance over images of N scores: M − 1 if all images hold as many objects.

        If they do not, large images weigh more, and there is less information than images. By how much depends on how
        much the objects in an image have in common, which is estimated by an analysis of variance.
        """
        counts, objects = self.counts, self.n_objects
        images = len(counts)
        within_freedom = max(objects - images, 1)
        sums = self.sums(scores)
        total = scores.sum(axis=-1, keepdims=True) ** 2 / objects
        between = (np.square(sums) / counts).sum(axis=-1)
        within = (np.square(scores).sum(axis=-1) - between) / within_freedom
        typical = (objects - np.square(counts).sum() / objects) / (images - 1)
        common = np.maximum((between - total[..., 0]) / (images - 1) - within, 0) / typical
        variances = counts * np.maximum(within, 0)[..., None] + np.square(counts) * common[..., None]
        squares = np.square(variances).sum(axis=-1)
        fallback = float(objects) ** 2 / float(np.square(counts).sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            effective = np.where(squares > 0, np.square(variances.sum(axis=-1)) / squares, fallback)
        freedom: Array = np.maximum(effective * (images - 1) / images, 1.0)
        return freedom


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """The mean squares of a mean, or of a difference of two means, each as a variance of that mean.

    Attributes:
        objects: From the choice of objects, clustered by image; contains object × seed.
        seeds: From the training seeds; contains object × seed. None if there is a single seed.
        both: Object × seed alone; None likewise.
        images_freedom: Degrees of freedom of ``objects``.
        seeds_freedom: Degrees of freedom of ``seeds``.
        third: Third central moment of the mean from the choice of objects: its skewness before scaling.
    """

    objects: Array
    seeds: Array | None
    both: Array | None
    images_freedom: Array
    seeds_freedom: int
    third: Array

    @property
    def seeds_alone(self) -> Array:
        """What the seeds add to ``objects``: never negative, and zero for a single seed."""
        if self.seeds is None or self.both is None:
            return np.zeros_like(self.objects)
        alone: Array = np.maximum(self.seeds - self.both, 0)
        return alone

    @property
    def variance(self) -> Array:
        """Variance of the mean."""
        return self.objects + self.seeds_alone

    def reach(self, quantile: float) -> Array:
        """Half the length of an interval whose ends are exceeded with probability 1 − ``quantile`` each.

        Student's t times the standard error, with Satterthwaite's degrees of freedom ("An approximate distribution of
        estimates of variance components", 1946) in two readings of few seeds:

        - What is left of ``seeds`` after subtracting ``both``, but not less than zero, is what seeds add. This wastes
          nothing, but is too short if seeds do differ and the few drawn happen to agree.
        - ``seeds`` as it is, beside what is left of ``objects``. This is exact if objects cancel in a paired
          difference, but may be too long.

        The squared reach is the mean of the squares of both. In the degrees of freedom, the seeds' part counts more the
        fewer seeds there are, because Satterthwaite's formula promises too much if the largest of several parts has
        one or two degrees of freedom.
        """
        alone = student(quantile, self.images_freedom) * np.sqrt(self.objects)
        if self.seeds is None or self.both is None:
            return alone
        caution = 1 + 8 / self.seeds_freedom**3
        remainder = np.maximum(self.objects - self.both, 0)
        least = np.minimum(self.images_freedom, self.seeds_freedom)

        def one(variance: Array, objects: Array, seeds: Array, both: Array) -> Array:
            uncertainty = (
                np.square(self.objects) / self.images_freedom
                + np.square(caution * seeds) / self.seeds_freedom
                + np.square(both) / (self.seeds_freedom * self.images_freedom)
            )
            with np.errstate(invalid="ignore", divide="ignore"):
                freedom = np.square(objects + caution * seeds) / uncertainty
            freedom = np.where(uncertainty > 0, np.maximum(freedom, least), least)
            return student(quantile, freedom) * np.sqrt(variance)

        short = one(self.variance, self.objects, self.seeds_alone, np.zeros_like(self.both))
        long = np.maximum(alone, one(remainder + self.seeds, remainder, self.seeds, self.both))
        reach: Array = np.sqrt((np.square(short) + np.square(long)) / 2)
        return reach

    def shift(self, quantile: float) -> Array:
        """How far both ends move because the scores are skewed.

        The first term of the Cornish-Fisher expansion of Student's t (Johnson 1978, "Modified t tests and confidence
        intervals for asymmetrical populations"; Hall 1992, "The bootstrap and Edgeworth expansion"): with a long tail
        above, samples that miss the tail are too low and look too certain, so both ends move up.
        """
        reach, variance = self.reach(quantile), self.variance
        square = float(special.ndtri(quantile)) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            shift = np.where(variance > 0, self.third / (6 * variance) * (1 + 2 * square), 0.0)
        shift = np.clip(shift, -_LARGEST_SHIFT * reach, _LARGEST_SHIFT * reach)
        return shift


def mean_squares(scores: Array, images: Images) -> MeanSquares:
    """Mean squares of the mean over seeds and objects.

    Args:
        scores: (…, S, N): a row per training seed, a column per object.
        images: Image of each object; at least two images.
    """
    seeds = scores.shape[-2]
    if seeds == 1:
        return _of_objects(scores.mean(axis=-2), images, None, None, 0)
    squares, products = _of_seeds(scores, images)
    scale = 1 / ((seeds - 1) * seeds)
    return _of_objects(scores.mean(axis=-2), images, squares * scale, products * scale, seeds - 1)


def mean_squares_of_difference(first: Array, second: Array, images: Images) -> MeanSquares:
    """Mean squares of the difference of two means over the same objects and independent seeds.

    Seeds are assumed to spread equally on both sides, so a side with a single seed borrows the spread of the other.

    Args:
        first: (…, S₁, N) scores.
        second: (…, S₂, N) scores.
        images: Image of each object; at least two images.
    """
    counts = first.shape[-2], second.shape[-2]
    difference = second.mean(axis=-2) - first.mean(axis=-2)
    freedom = sum(counts) - 2
    if freedom == 0:
        return _of_objects(difference, images, None, None, 0)
    (first_squares, first_products), (second_squares, second_products) = (
        _of_seeds(side, images) for side in (first, second)
    )
    scale = (1 / counts[0] + 1 / counts[1]) / freedom
    return _of_objects(
        difference,
        images,
        (first_squares + second_squares) * scale,
        (first_products + second_products) * scale,
        freedom,
    )


def student(quantile: float, freedom: Array) -> Array:
    """Quantile of Student's t."""
    found: Array = special.stdtrit(freedom, quantile)
    return found


def _of_objects(
    means: Array, images: Images, seeds: Array | None, both: Array | None, seeds_freedom: int
) -> MeanSquares:
    """Complete the mean squares from each object's mean over seeds, (…, N)."""
    centred = means - means.mean(axis=-1, keepdims=True)
    sums = images.unbiased_sums(centred)
    # The skewness of few draws is too small; this factor corrects the third moment for M equal images.
    n_images = len(images.counts)
    correction = math.sqrt(n_images * (n_images - 1)) / (n_images - 2) if n_images > 2 else 0.0
    return MeanSquares(
        objects=np.square(sums).sum(axis=-1) / images.n_objects**2,
        seeds=seeds,
        both=both,
        images_freedom=images.freedom(centred),
        seeds_freedom=seeds_freedom,
        third=correction * (sums**3).sum(axis=-1) / images.n_objects**3,
    )


def _of_seeds(scores: Array, images: Images) -> tuple[Array, Array]:
    """Sums of squares over seeds: of the seeds' means, and of the means of what objects and seeds do not explain."""
    by_seed = scores.mean(axis=-1, keepdims=True)
    deviations = by_seed - by_seed.mean(axis=-2, keepdims=True)
    residuals = scores - scores.mean(axis=-2, keepdims=True) - deviations
    products = np.square(images.unbiased_sums(residuals)).sum(axis=(-1, -2)) / images.n_objects**2
    return np.square(deviations[..., 0]).sum(axis=-1), products
