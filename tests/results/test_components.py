"""Components are recovered from scores, and the power they promise is the power that comparisons have."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_scores import names_of

from vfm_isbench.results.components import Aim, Components, power_of, smallest_difference
from vfm_isbench.results.variance import Images, mean_squares
from vfm_isbench.types import Array

KNOWN = Components(objects=16.0, images=5.0, seeds=0.3, both=23.0)
"""Roughly those of the demo's NoC80."""


def drawn(parts: Components, rng: np.random.Generator, trials: int, seeds: int, counts: Array) -> Array:
    """Differences of scores with mean zero: trials×seeds×N, all images with equally many objects."""
    common = parts.images / (counts[0] - 1) if counts[0] > 1 else 0.0
    image = np.repeat(np.arange(len(counts)), counts)
    effects = np.sqrt(common) * rng.normal(size=(trials, 1, len(counts)))[..., image]
    effects = effects + np.sqrt(parts.objects - common) * rng.normal(size=(trials, 1, len(image)))
    effects = effects + np.sqrt(parts.seeds) * rng.normal(size=(trials, seeds, 1))
    scores: Array = effects + np.sqrt(parts.both) * rng.normal(size=(trials, seeds, len(image)))
    return scores


def test_components_are_recovered() -> None:
    rng = np.random.default_rng(0)
    counts = np.full(30, 3)
    found = [Components.of(scores, names_of(counts)) for scores in drawn(KNOWN, rng, 400, 4, counts)]
    mean = Components.mean_of([one for one in found if one is not None])
    assert mean.objects == pytest.approx(16, rel=0.05)
    assert mean.images == pytest.approx(5, rel=0.25)
    assert mean.both == pytest.approx(23, rel=0.03)
    # Never negative, so slightly too large on average.
    assert 0.3 <= mean.seeds < 0.45


def test_no_component_is_negative_and_their_sum_is_the_variance_of_the_mean() -> None:
    """Also if the objects of an image differ more than objects at large, and seeds agree by chance."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        found = Components.of(rng.normal(size=(2, 6)), list("aabbcc"))
        assert found is not None
        assert min(found.objects, found.images, found.seeds, found.both) >= 0
        assert found.standard_error(6, 2) ** 2 == pytest.approx(sum(found.parts(6, 2)))
    alternating = Components.of(np.tile([1.0, -1.0], (2, 3)) + np.array([[0.0], [1.0]]), list("aabbcc"))
    assert alternating == Components(objects=0.0, images=0.0, seeds=pytest.approx(0.5), both=pytest.approx(0.0))


@pytest.mark.parametrize(("seeds", "images"), [(1, 5), (3, 1)])
def test_a_single_seed_or_image_shows_no_components(seeds: int, images: int) -> None:
    counts = np.full(images, 2)
    assert Components.of(np.ones((seeds, 2 * images)), names_of(counts)) is None


def test_a_missing_score_shows_no_components() -> None:
    scores = np.arange(12.0).reshape(2, 6)
    scores[0, 0] = np.nan
    assert Components.of(scores, list("abcdef")) is None


@pytest.mark.parametrize(
    ("parts", "seeds", "images", "per_image"),
    [
        (KNOWN, 3, 20, 2),
        (KNOWN, 3, 200, 3),
        (KNOWN, 5, 40, 1),
        (KNOWN, 2, 40, 2),
        (Components(0.0, 0.0, 1.0, 30.0), 3, 60, 1),
        (Components(20.0, 10.0, 0.0, 1.0), 3, 30, 4),
    ],
)
def test_promised_and_achieved_power_agree_within_five_points(
    parts: Components, seeds: int, images: int, per_image: int
) -> None:
    rng = np.random.default_rng(1)
    counts = np.full(images, per_image)
    if per_image == 1:
        parts = Components(parts.objects, 0.0, parts.seeds, parts.both)
    smallest = smallest_difference(parts, images * per_image, seeds, Aim(), images - 1)
    grouped = Images.of(names_of(counts))
    scores = drawn(parts, rng, 2000, seeds, counts)
    found, values = mean_squares(scores, grouped), scores.mean(axis=(-1, -2))
    for difference, promised in ((smallest, 0.8), (smallest / 2, None)):
        if promised is None:
            promised = power_of(difference, parts, images * per_image, seeds, Aim(), images - 1)
        low = values + difference + found.shift(0.95) - found.reach(0.95)
        assert abs(np.mean(low > 0) - promised) < 0.05
    # Nothing is shown more often than 5 % if there is nothing, except for what few seeds hide.
    assert np.mean(values + found.shift(0.95) - found.reach(0.95) > 0) < 0.07


@pytest.mark.parametrize(
    ("seeds", "images", "per_image", "power"), [(3, 60, 2, 0.8), (3, 60, 2, 0.95), (5, 200, 1, 0.8)]
)
def test_a_gate_with_this_margin_settles(seeds: int, images: int, per_image: int, power: float) -> None:
    """What docs/ci.md promises of a margin equal to the smallest difference."""
    counts = np.full(images, per_image)
    parts = KNOWN if per_image > 1 else Components(KNOWN.objects, 0.0, KNOWN.seeds, KNOWN.both)
    margin = smallest_difference(parts, images * per_image, seeds, Aim(power), images - 1)
    scores = drawn(parts, np.random.default_rng(2), 2000, seeds, counts)
    found, worse = mean_squares(scores, Images.of(names_of(counts))), scores.mean(axis=(-1, -2))
    low, high = worse + found.shift(0.95) - found.reach(0.95), worse + found.shift(0.95) + found.reach(0.95)
    assert np.mean(high <= margin) > power - 0.05, "as good as the baseline: pass"
    assert np.mean(low + 2 * margin > margin) > power - 0.05, "worse by two margins: regression"
    assert np.mean(high + margin <= margin) < 0.07, "worse by the margin: hardly ever a pass"


def test_more_objects_seeds_and_patience_show_smaller_differences() -> None:
    def smallest(objects: int = 100, seeds: int = 3, power: float = 0.8, confidence: float = 0.95) -> float:
        return smallest_difference(KNOWN, objects, seeds, Aim(power, confidence))

    assert smallest(objects=200) < smallest()
    assert smallest(seeds=5) < smallest()
    assert smallest(power=0.5) < smallest() < smallest(confidence=0.99)
    assert smallest_difference(KNOWN.times(4), 100, 3, Aim()) == pytest.approx(2 * smallest(), rel=1e-3)
    # Objects do not make up for seeds that differ.
    assert smallest(objects=10**6) > 2 * np.sqrt(KNOWN.seeds / 3)


def test_without_any_spread_every_difference_shows() -> None:
    assert smallest_difference(Components(0.0, 0.0, 0.0, 0.0), 10, 3, Aim()) == 0
