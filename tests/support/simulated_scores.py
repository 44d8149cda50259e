"""Scores of simulated populations with a known mean: objects in images, crossed with training seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vfm_isbench.types import Array

Kind = Callable[[Array], Array]


def clicks(latent: Array) -> Array:
    """NoC-like: whole clicks from 1, censored at 20 (about a quarter of the objects for a spread of 1)."""
    return np.clip(np.ceil(8 * np.exp(1.2 * latent)), 1, 20)


def many_at_the_cap(latent: Array) -> Array:
    """NoC-like, with about 70 % of the objects at the cap."""
    return np.clip(np.ceil(30 * np.exp(0.8 * latent)), 1, 20)


def iou(latent: Array) -> Array:
    """IoU-like: in [0, 1], skewed towards 1."""
    return 1 / (1 + np.exp(-1.5 - latent))


def long_tail(latent: Array) -> Array:
    """A log-normal tail: far more skewed than any score that is bounded."""
    return np.exp(0.8 * latent)


def plain(latent: Array) -> Array:
    """Normal scores."""
    return latent


@dataclass(frozen=True)
class Population:
    """Standard deviations of the parts of a latent score, and what is made of it."""

    kind: Kind = plain
    image: float = 0.6
    object: float = 0.6
    seed: float = 0.2
    both: float = 0.5

    def draw(self, rng: np.random.Generator, trials: int, seeds: int, counts: Array) -> Array:
        """trials×seeds×N scores; the objects of image g are counts[g] neighbours."""
        image = np.repeat(np.arange(len(counts)), counts)
        effects = self.image * rng.normal(size=(trials, 1, len(counts)))[..., image]
        effects = effects + self.object * rng.normal(size=(trials, 1, len(image)))
        effects = effects + self.seed * rng.normal(size=(trials, seeds, 1))
        return self.kind(effects + self.both * rng.normal(size=(trials, seeds, len(image))))

    @property
    def mean(self) -> float:
        """The true mean, by quadrature over the normal latent score."""
        return _mean(self.kind, float(np.hypot(np.hypot(self.image, self.object), np.hypot(self.seed, self.both))))


@lru_cache
def _mean(kind: Kind, spread: float) -> float:
    grid = np.linspace(-8, 8, 400_001)
    weights = np.exp(-(grid**2) / 2)
    return float((kind(spread * grid) * weights).sum() / weights.sum())


def layout(name: str, images: int) -> Array:
    """Objects per image: "single", "few" (1, 2, 3, …), "many" (1 … 12), "crowd" (one image holds a fifth of all)."""
    counts = {"single": 1, "few": 3, "many": 12, "crowd": 2}[name]
    found = 1 + np.arange(images) % counts
    if name == "crowd":
        found[0] = found[1:].sum() // 4
    return found


def names_of(counts: Array) -> list[str]:
    """Name of the image of each object."""
    return [f"{image:05d}" for image in np.repeat(np.arange(len(counts)), counts)]
