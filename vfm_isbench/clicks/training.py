"""Simulated clicks for training: random first clicks, then clicks inside the error of a prediction (RITM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from vfm_isbench.clicks.distance import bounding_box, inner_distance, squared_inner_distance
from vfm_isbench.types import Array, Click

SQUARE = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstClickRule:
    """How many first clicks are drawn, and where (protocol section 2.3).

    Attributes:
        max_clicks: Maximum number of clicks of each sign.
        decay: The number of further positive clicks, and of negative clicks, is k with probability ∝ decay^k.
        erode_probability: Probability that positive clicks keep away from the object's border.
        erode_iterations: Number of 3×3 erosions in that case, unless ten pixels or fewer would remain.
        negative_anywhere: Share of negative clicks anywhere outside the target.
        negative_other: Share on other objects (anywhere outside the target if there are none).
        negative_border: Share in a band around the target.
        border_ratio: Width of that band: ⌈border_ratio · √area⌉ dilations.
    """

    max_clicks: int = 24
    decay: float = 0.8
    erode_probability: float = 0.9
    erode_iterations: int = 3
    negative_anywhere: float = 0.1
    negative_other: float = 0.4
    negative_border: float = 0.5
    border_ratio: float = 0.1


def _draw_count(highest: int, decay: float, rng: np.random.Generator) -> int:
    weights = decay ** np.arange(highest + 1)
    return int(rng.choice(highest + 1, p=weights / weights.sum()))


def _draw_pixels(mask: Array, count: int, is_positive: bool, rng: np.random.Generator) -> list[Click]:
    candidates = np.flatnonzero(mask)
    if len(candidates) == 0:
        return []
    drawn = candidates[rng.integers(0, len(candidates), size=count)]
    return [Click(int(i // mask.shape[1]), int(i % mask.shape[1]), is_positive) for i in drawn]


def _away_from_border(mask: Array, rule: FirstClickRule, rng: np.random.Generator) -> Array:
    if rng.random() >= rule.erode_probability:
        return mask
    # Pixels beyond the image count as object, so that the image's border does not erode an object that it cuts.
    # So the box has a margin of background, except where it ends at the image's border.
    eroded = np.zeros_like(mask)
    box = bounding_box(mask, margin=1)
    if box is not None:
        eroded[box] = ndimage.binary_erosion(mask[box], SQUARE, iterations=rule.erode_iterations, border_value=1)
    return eroded if np.count_nonzero(eroded) > 10 else mask


def _band_around(target: Array, ratio: float) -> Array:
    width = int(np.ceil(ratio * np.sqrt(np.count_nonzero(target))))
    band = np.zeros_like(target)
    box = bounding_box(target, margin=width)
    if box is None:
        return band
    # A square structuring element of side 2·width + 1 equals `width` dilations by 3×3.
    band[box] = ndimage.maximum_filter(target[box].view(np.uint8), size=2 * width + 1, mode="constant")
    band &= ~target
    return band


def first_clicks(
    selected: Sequence[Array], others: Array, shape: tuple[int, int], rule: FirstClickRule, rng: np.random.Generator
) -> list[Click]:
    """Draw the clicks that a training sample starts with.

    If several instances are selected (a merged target), each gets one click, and every further click falls on any of
    them with equal probability. If none is (pure background), there are only negative clicks, anywhere.

    Args:
        selected: Masks (H×W booleans) of the instances that make up the target.
        others: H×W booleans, the instances that do not belong to the target.
        shape: (H, W).
        rule: How many clicks, and where.
        rng: Source of randomness.

    Returns:
        Positive clicks, then negative ones, at most ``rule.max_clicks`` of each.

    Source: RITM ``isegm/data/points_sampler.py``; protocol section 2.3.
    """
    target = np.zeros(shape, dtype=bool)
    for mask in selected:
        target |= mask
    return [*_positive_clicks(selected, rule, rng), *_negative_clicks(target, others, rule, rng)]


def _positive_clicks(selected: Sequence[Array], rule: FirstClickRule, rng: np.random.Generator) -> list[Click]:
    areas = [_away_from_border(mask, rule, rng) for mask in selected]
    clicks = [click for area in areas for click in _draw_pixels(area, 1, True, rng)]
    # One instance: 1 + k clicks with k below the cap. Several: one each plus k with k up to the cap, then truncated.
    highest = rule.max_clicks - 1 if len(areas) == 1 else rule.max_clicks
    further = _draw_count(highest, rule.decay, rng) if areas else 0
    for _ in range(further):
        clicks += _draw_pixels(areas[rng.integers(len(areas))], 1, True, rng)
    return clicks[: rule.max_clicks]


def _negative_clicks(target: Array, others: Array, rule: FirstClickRule, rng: np.random.Generator) -> list[Click]:
    outside = ~target
    places: list[Array] = [
        outside,
        others if others.any() else outside,
        _band_around(target, rule.border_ratio) if target.any() else outside,
    ]
    shares = [rule.negative_anywhere, rule.negative_other, rule.negative_border]
    count = _draw_count(rule.max_clicks, rule.decay, rng)
    chosen = rng.choice(len(places), size=count, p=np.asarray(shares) / sum(shares))
    clicks: list[Click] = []
    for place, mask in enumerate(places):
        clicks += _draw_pixels(mask, int(np.count_nonzero(chosen == place)), False, rng)
    return clicks


def error_region(target: Array, probability: Array, threshold: float = 0.49) -> tuple[Array, bool]:
    """Where the next training click may fall: the inner half of the larger error.

    Args:
        target: H×W booleans.
        probability: H×W in [0, 1], the current prediction.
        threshold: A target pixel below it is missed; a background pixel above it is wrong.

    Returns:
        H×W booleans (True where the distance to the error's border exceeds half its maximum; all False without errors),
        and whether the click is positive: it is if the missed region is strictly deeper.

    Source: RITM's iterative training ("4× erosion" of the error); protocol section 2.4.
    """
    missed = inner_distance(target & (probability < threshold))
    wrong = inner_distance(~target & (probability > threshold))
    is_positive = bool(missed.max() > wrong.max())
    depth = missed if is_positive else wrong
    return depth > depth.max() / 2, is_positive


def next_training_click(
    target: Array, probability: Array, rng: np.random.Generator, threshold: float = 0.49
) -> Click | None:
    """Draw one click uniformly from :func:`error_region`; None if the prediction has no error."""
    region, is_positive = error_region(target, probability, threshold)
    clicks = _draw_pixels(region, 1, is_positive, rng)
    return clicks[0] if clicks else None


def next_training_clicks(
    targets: Tensor,
    probabilities: Tensor,
    rng: np.random.Generator,
    threshold: float = 0.49,
    *,
    all_at_once: bool | None = None,
) -> list[Click | None]:
    """Draw a click for every image of a batch, as :func:`next_training_click` does in turn.

    Args:
        targets: B×H×W, above 0.5 on the object.
        probabilities: B×H×W float32 in [0, 1].
        rng: Source of randomness; both ways draw the same numbers.
        threshold: See :func:`error_region`.
        all_at_once: Find the regions of all images together on the device of the tensors; otherwise one by one on the
            CPU. None means together, except on CPUs, where one by one is faster. The clicks are the same.
    """
    if all_at_once is None:
        all_at_once = probabilities.device.type != "cpu"
    if all_at_once:
        return _draw_all_at_once(*_error_regions(targets > 0.5, probabilities, threshold), rng)
    pairs = zip((targets > 0.5).cpu().numpy(), probabilities.cpu().numpy(), strict=True)
    return [next_training_click(target, probability, rng, threshold) for target, probability in pairs]


def _error_regions(targets: Tensor, probabilities: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """:func:`error_region` for a batch: B×H×W and B booleans, on its device."""
    # As numpy compares them; devices may differ in how they round a threshold that float32 does not hold.
    threshold = float(np.float32(threshold))
    missed, wrong = targets & (probabilities < threshold), ~targets & (probabilities > threshold)
    of_missed, of_wrong = squared_inner_distance(torch.cat([missed, wrong])).chunk(2)
    is_positive = of_missed.amax(dim=(1, 2)) > of_wrong.amax(dim=(1, 2))
    squared = torch.where(is_positive[:, None, None], of_missed, of_wrong)
    return 4 * squared > squared.amax(dim=(1, 2), keepdim=True), is_positive


def _draw_all_at_once(regions: Tensor, is_positive: Tensor, rng: np.random.Generator) -> list[Click | None]:
    """Draw a pixel of each region B×H×W. The device is waited for twice: for the sizes, and for the pixels."""
    width = regions.shape[2]
    up_to_here = regions.flatten(1).cumsum(dim=1)
    sizes, signs = torch.stack([up_to_here[:, -1], is_positive.to(up_to_here.dtype)]).tolist()
    drawn = [int(rng.integers(0, size, size=1)[0]) if size else 0 for size in sizes]
    nth = torch.tensor(drawn).to(regions.device, non_blocking=True)
    pixels = torch.searchsorted(up_to_here, nth[:, None] + 1)[:, 0].tolist()
    return [
        Click(pixel // width, pixel % width, bool(sign)) if size else None
        for size, sign, pixel in zip(sizes, signs, pixels, strict=True)
    ]


def add_click(clicks: Sequence[Click], new: Click, slots: int, step: int) -> list[Click]:
    """Append an iterative click, keeping at most ``slots`` of its sign.

    If all slots of that sign are taken, the click replaces the one ``step`` from the end (1 = the last), as in RITM,
    where iterative clicks fill the array of slots from its end.
    """
    same = [c for c in clicks if c.is_positive is new.is_positive]
    rest = [c for c in clicks if c.is_positive is not new.is_positive]
    if len(same) < slots:
        same.append(new)
    else:
        same[-min(step, slots)] = new
    return [*same, *rest] if new.is_positive else [*rest, *same]
