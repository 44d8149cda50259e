"""Boards of simulated entries whose true scores are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfm_isbench.results.rank_ranges import BoardScores

SEEDS = (0, 1, 2)
CAP = 20


def simulated_board(
    rng: np.random.Generator, levels: Sequence[float], *, images: int = 40, sets: int = 1, seeds_spread: float = 0.6
) -> tuple[list[BoardScores], list[tuple[int, ...]]]:
    """Clicks of entries on the same objects, and their seeds. A higher level needs more clicks.

    Clicks are whole and censored at the cap. They vary with the object (for all entries alike, and for each), the
    training seed (likewise), and both; images have one or two objects, which share part of their difficulty.
    """
    n_entries, n_seeds = len(levels), len(SEEDS)
    luck = seeds_spread * rng.normal(size=(n_entries, n_seeds, 1)) + 0.3 * rng.normal(size=(1, n_seeds, 1))
    of_image = np.repeat(np.arange(images), 1 + np.arange(images) % 2)
    n_objects = len(of_image)
    boards = []
    for _ in range(sets):
        difficulty = 3 * rng.normal(size=images)[of_image] + 3 * rng.normal(size=n_objects)
        own = 1.5 * rng.normal(size=(n_entries, images))[:, of_image] + 2.5 * rng.normal(size=(n_entries, n_objects))
        noise = 3 * rng.normal(size=(n_entries, n_seeds, n_objects))
        clicks = np.asarray(levels)[:, None, None] + difficulty + own[:, None] + luck + noise
        boards.append(BoardScores(tuple(np.clip(np.ceil(clicks), 1, CAP)), [f"{image:04d}" for image in of_image]))
    return boards, [SEEDS] * n_entries


def true_ranges(levels: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest true rank of each entry: more than one if entries are equally good."""
    levels = np.asarray(levels)
    better = (levels[None] < levels[:, None]).sum(axis=1)
    worse = (levels[None] > levels[:, None]).sum(axis=1)
    return 1 + better, len(levels) - worse
