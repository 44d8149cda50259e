"""Clicks as tensors: the layout of points, and the disk maps for the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vfm_isbench.types import Click

ABSENT = -1.0
"""Coordinate that marks an unused slot in a points tensor."""


def points_tensor(clicks: Sequence[Sequence[Click]], slots: int | None = None) -> Tensor:
    """Lay out the clicks of a batch: positive clicks, then negative clicks, each padded to ``slots``.

    Args:
        clicks: One sequence of clicks per image.
        slots: Slots per sign; by default the number that the image with most clicks needs (at least 1).

    Returns:
        B×2·slots×2, float32: (row, column), -1 in unused slots.

    Raises:
        ValueError: if an image has more clicks of one sign than slots.
    """
    by_sign = [[[c for c in image if c.is_positive is sign] for sign in (True, False)] for image in clicks]
    needed = max((len(of_sign) for image in by_sign for of_sign in image), default=0)
    slots = max(needed, 1) if slots is None else slots
    if needed > slots:
        raise ValueError(f"{needed} clicks of one sign do not fit into {slots} slots")
    points = np.full((len(clicks), 2 * slots, 2), ABSENT, dtype=np.float32)
    for index, image in enumerate(by_sign):
        for offset, of_sign in zip((0, slots), image, strict=True):
            for slot, click in enumerate(of_sign):
                points[index, offset + slot] = click.row, click.col
    return torch.from_numpy(points)


def disk_maps(points: Tensor, height: int, width: int, radius: float = 5.0) -> Tensor:
    """Draw a disk around every click.

    Args:
        points: B×2N×(2 or more): N positive, then N negative slots of (row, column, …) in pixels of the H×W map. A slot
            is unused if both are negative. Clicks outside the map are drawn as far as their disk reaches into it;
            a click beyond the upper left corner counts as unused, as in the reference.
        height: H.
        width: W.
        radius: Disk radius in pixels; pixels whose squared distance to the click equals radius² belong to the disk.

    Returns:
        B×2×H×W zeros and ones: positive disks, negative disks.

    Source: protocol section 1.3.
    """
    batch, twice, _ = points.shape
    centres = points[..., :2].float().reshape(batch, 2, twice // 2, 2)
    used = centres.amax(dim=-1) >= 0
    rows = torch.arange(height, device=points.device, dtype=torch.float32)
    cols = torch.arange(width, device=points.device, dtype=torch.float32)
    row_part = (rows - centres[..., 0, None]) ** 2
    col_part = (cols - centres[..., 1, None]) ** 2
    row_part = row_part.masked_fill(~used[..., None], float("inf"))
    # Slot by slot: the maps of all slots at once exceed the processor's cache and take several times as long.
    nearest = torch.full((batch, 2, height, width), float("inf"), device=points.device)
    for row_squared, col_squared in zip(row_part.unbind(dim=2), col_part.unbind(dim=2), strict=True):
        torch.minimum(nearest, row_squared[..., :, None] + col_squared[..., None, :], out=nearest)
    return (nearest <= radius**2).float()


def click_maps(
    points: Tensor, previous_mask: Tensor, radius: float = 5.0, granularities: Sequence[float] | None = None
) -> Tensor:
    """The network's click map: previous mask, positive disks, negative disks, and the granularity where it has any.

    Args:
        points: B×2N×2, see :func:`points_tensor`.
        previous_mask: B×1×H×W probabilities.
        radius: Disk radius in pixels.
        granularities: Granularity of the target in each image, for a fourth channel that has this value everywhere;
            None for a probe that takes no granularity.

    Returns:
        B×3×H×W float32, or B×4×H×W.
    """
    disks = disk_maps(points, previous_mask.shape[-2], previous_mask.shape[-1], radius)
    if granularities is None:
        return torch.cat([previous_mask, disks], dim=1)
    values = torch.tensor(granularities, dtype=previous_mask.dtype).to(previous_mask.device, non_blocking=True)
    return torch.cat([previous_mask, disks, values.view(-1, 1, 1, 1).expand_as(previous_mask)], dim=1)
