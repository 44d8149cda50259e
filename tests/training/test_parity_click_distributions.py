"""First clicks drawn for real photographs have the distributions of the protocol, tested against the description.

The expected values are worked out here from protocol section 2 alone, sample by sample, without the library's code.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_models import TrainingPhotographs
from scipy import ndimage, stats

from vfm_isbench.clicks import first_clicks
from vfm_isbench.protocol import Protocol
from vfm_isbench.training import TrainingSamples
from vfm_isbench.training.samples import first_click_rule
from vfm_isbench.types import Array, Click

SAMPLES = 500
SIGNIFICANCE = 1e-3
PAPER = Protocol.preset("paper").replace(sample_weights="uniform", merge_probability=0.0)


@dataclass(frozen=True, eq=False)
class Crop:
    """A sample before its clicks are drawn: the target's instances, the other objects, and the random state."""

    selected: Sequence[Array]
    others: Array
    rng: np.random.Generator

    @functools.cached_property
    def target(self) -> Array:
        return np.any([np.zeros_like(self.others), *self.selected], axis=0)

    @functools.cached_property
    def core(self) -> Array:
        return eroded(self.target)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A crop with its first clicks."""

    crop: Crop
    clicks: Sequence[Click]

    def pixels(self, is_positive: bool) -> Array:
        """N×2 rows and columns of the clicks of one sign."""
        return np.array([(c.row, c.col) for c in self.clicks if c.is_positive is is_positive], dtype=int).reshape(-1, 2)


@pytest.fixture(scope="module")
def samples(real_root: Path) -> list[Drawn]:
    """Samples of the real training images, drawn by the paper's rule."""
    recorder = _Recorder(TrainingPhotographs(real_root), PAPER)
    return [recorder.draw(item) for item in range(SAMPLES)]


def redrawn(samples: list[Drawn], protocol: Protocol) -> list[Drawn]:
    """The same crops with the clicks of another rule, as training by that rule would draw them."""
    return [Drawn(sample.crop, clicks_on(sample.crop, protocol)) for sample in samples]


def clicks_on(crop: Crop, protocol: Protocol) -> Sequence[Click]:
    rule = first_click_rule(protocol)
    return first_clicks(crop.selected, crop.others, crop.others.shape, rule, copy.deepcopy(crop.rng))


class _Recorder(TrainingSamples):
    """Training samples that also keep the crop before its clicks are drawn."""

    def draw(self, item: int) -> Drawn:
        sample = self[0, item]
        return Drawn(self._crop, sample.clicks)

    def _augment_until_object(self, *arguments: Any) -> tuple[Array, Array, list[int]]:
        image, self._labels, instances = super()._augment_until_object(*arguments)
        return image, self._labels, instances

    def _choose_target(self, instances: list[int], rng: np.random.Generator) -> list[int]:
        chosen = super()._choose_target(instances, rng)
        others = np.isin(self._labels, [instance for instance in instances if instance not in chosen])
        self._crop = Crop([self._labels == instance for instance in chosen], others, copy.deepcopy(rng))
        return chosen


def truncated_geometric(highest: int, decay: float = 0.8) -> Array:
    weights = decay ** np.arange(highest + 1)
    return np.asarray(weights / weights.sum())


def counts_p_value(counts: Sequence[int], expected: Array) -> float:
    """Chi-square of counts 0 … n, the rare ones at the end in one class."""
    observed = np.bincount(counts, minlength=len(expected)).astype(float)
    wanted = expected * len(counts)
    last = int(np.searchsorted(-wanted, -8))
    observed = np.append(observed[:last], observed[last:].sum())
    wanted = np.append(wanted[:last], wanted[last:].sum())
    return float(stats.chisquare(observed, wanted).pvalue)


def eroded(mask: Array, times: int = 3) -> Array:
    """Erosion by 3×3, the outside of the crop counting as object; the mask itself where ten pixels or fewer remain."""
    padded = np.pad(mask, times, constant_values=True)
    rows = np.lib.stride_tricks.sliding_window_view(padded, 2 * times + 1, axis=0).all(axis=-1)
    smaller = np.lib.stride_tricks.sliding_window_view(rows, 2 * times + 1, axis=1).all(axis=-1)
    return smaller if smaller.sum() > 10 else mask


def band(target: Array) -> Array:
    """Within ⌈0.1·√area⌉ pixels of the target, rows and columns counted apart, and outside it."""
    width = int(np.ceil(0.1 * np.sqrt(target.sum())))
    distance = ndimage.distance_transform_cdt(~target, metric="chessboard")
    return (distance <= width) & ~target


def numbers_p_value(samples: list[Drawn]) -> float:
    with_target = [sample for sample in samples if sample.crop.target.any()]
    positive = counts_p_value([len(s.pixels(True)) - 1 for s in with_target], truncated_geometric(23))
    negative = counts_p_value([len(s.pixels(False)) for s in samples], truncated_geometric(24))
    return min(positive, negative)


def positions_p_value(samples: list[Drawn]) -> float:
    """Positive clicks: share inside the eroded object, and uniform there (Kolmogorov-Smirnov of the pixels' ranks)."""
    rng = np.random.default_rng(0)
    inside, expected, variance = 0, 0.0, 0.0
    ranks: list[float] = []
    for sample in samples:
        pixels = sample.pixels(True)
        if len(pixels) == 0:
            continue
        core = sample.crop.core
        # All clicks of a sample share the draw whether to erode: only the first one is counted.
        row, col = pixels[0]
        share = 0.9 + 0.1 * core.sum() / sample.crop.target.sum()
        inside += int(core[row, col])
        expected += share
        variance += share * (1 - share)
        order = np.cumsum(core.ravel())
        ranks += [(order[r * core.shape[1] + c] - rng.random()) / order[-1] for r, c in pixels if core[r, c]]
    share_p = 2 * stats.norm.sf(abs(inside - expected) / np.sqrt(variance))
    return float(min(share_p, stats.kstest(ranks, "uniform").pvalue))


def strategies_p_value(samples: list[Drawn]) -> float:
    """Negative clicks: how many fall in the border band, on other objects (outside the band), and elsewhere."""
    observed, expected = np.zeros(3), np.zeros(3)
    covariance = np.zeros((3, 3))
    for sample in samples:
        if not (sample.crop.target.any() and sample.crop.others.any()):
            continue
        outside, near = ~sample.crop.target, band(sample.crop.target)
        regions = np.stack([near, sample.crop.others & ~near, outside & ~near & ~sample.crop.others])
        shares = sum(
            weight * (regions & place).sum(axis=(1, 2)) / place.sum()
            for weight, place in ((0.1, outside), (0.4, sample.crop.others), (0.5, near))
        )
        for row, col in sample.pixels(False):
            observed += regions[:, row, col]
            expected += shares
            covariance += np.diag(shares) - np.outer(shares, shares)
    deviation = (observed - expected)[:2]
    distance = deviation @ np.linalg.solve(covariance[:2, :2], deviation)
    return float(stats.chi2.sf(distance, df=2))


CHECKS = {"numbers": numbers_p_value, "positions": positions_p_value, "strategies": strategies_p_value}
OTHER_RULES = {
    "numbers": {"first_click_decay": 0.7},
    "positions": {"erode_probability": 0.6},
    "strategies": {"negative_shares": (0.2, 0.4, 0.4)},
}


@pytest.mark.parametrize("what", CHECKS)
def test_first_clicks_follow_the_protocol(what: str, samples: list[Drawn]) -> None:
    assert CHECKS[what](samples) > SIGNIFICANCE


@pytest.mark.parametrize("what", CHECKS)
def test_another_rule_would_be_noticed(what: str, samples: list[Drawn]) -> None:
    assert CHECKS[what](redrawn(samples, PAPER.replace(**OTHER_RULES[what]))) < SIGNIFICANCE


def test_clicks_are_redrawn_as_training_draws_them(samples: list[Drawn], real_root: Path) -> None:
    assert all(clicks_on(sample.crop, PAPER) == sample.clicks for sample in samples)
    other = PAPER.replace(**OTHER_RULES["strategies"])
    recorder = _Recorder(TrainingPhotographs(real_root), other)
    assert [recorder.draw(item).clicks for item in range(10)] == [
        drawn.clicks for drawn in redrawn(samples[:10], other)
    ]
