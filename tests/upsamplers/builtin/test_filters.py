"""Lanczos and the guided filter against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vfm_isbench.upsamplers import GuidedFilter, Lanczos

STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@pytest.mark.parametrize(("grid", "size"), [((4, 4), (16, 16)), ((3, 5), (17, 31)), ((9, 7), (64, 50))])
def test_lanczos_is_that_of_pillow(grid: tuple[int, int], size: tuple[int, int]) -> None:
    features = torch.randn(1, 2, *grid, generator=torch.Generator().manual_seed(0))
    output = Lanczos()(features, torch.zeros(1, 3, *size))
    for channel in range(2):
        picture = Image.fromarray(features[0, channel].numpy())
        expected = np.asarray(picture.resize(size[::-1], Image.Resampling.LANCZOS))
        torch.testing.assert_close(output[0, channel], torch.from_numpy(expected.copy()), atol=1e-5, rtol=0)


def test_lanczos_overshoots_and_keeps_patches_that_are_pixels() -> None:
    step = torch.tensor([0.0, 0, 0, 1, 1, 1]).view(1, 1, 1, 6).expand(1, 1, 6, 6)
    output = Lanczos()(step, torch.zeros(1, 3, 24, 24))
    assert float(output.min()) < -0.02 and float(output.max()) > 1.02
    torch.testing.assert_close(Lanczos()(step, torch.zeros(1, 3, 6, 6)), step)


def by_pixel(features: Tensor, rgb: Tensor, radius: int, eps: float) -> Tensor:
    """The guided filter of one channel h×w and one image 3×H×W, patch by patch in NumPy."""
    height, width = features.shape
    blocks = rgb.numpy().reshape(3, height, rgb.shape[1] // height, width, rgb.shape[2] // width)
    colours, values = blocks.mean((2, 4)).astype(np.float64), features.numpy().astype(np.float64)
    slopes, offsets = np.zeros((3, height, width)), np.zeros((height, width))
    windows = {
        (r, c): (slice(max(0, r - radius), r + radius + 1), slice(max(0, c - radius), c + radius + 1))
        for r in range(height)
        for c in range(width)
    }
    for (r, c), window in windows.items():
        inside = colours[(slice(None), *window)].reshape(3, -1)
        wanted = values[window].ravel()
        # Ridge regression of the values on the colours, by least squares with three more rows.
        centred = inside - inside.mean(1, keepdims=True)
        rows = np.concatenate([centred.T, np.sqrt(eps * len(wanted)) * np.eye(3)])
        slopes[:, r, c] = np.linalg.lstsq(rows, np.concatenate([wanted - wanted.mean(), np.zeros(3)]), rcond=None)[0]
        offsets[r, c] = wanted.mean() - slopes[:, r, c] @ inside.mean(1)
    means = [[maps[window].mean() for window in windows.values()] for maps in (*slopes, offsets)]
    small = torch.tensor(np.array(means).reshape(1, 4, height, width))
    large = torch.nn.functional.interpolate(small, rgb.shape[-2:], mode="bilinear", align_corners=False)[0]
    return (large[:3] * rgb).sum(0) + large[3]


@pytest.mark.parametrize(("radius", "eps"), [(1, 0.01), (2, 0.001)])
def test_the_guided_filter_is_a_regression_in_every_window(radius: int, eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 5, 4, generator=generator)
    image = torch.randn(2, 3, 20, 16, generator=generator)
    output = GuidedFilter(radius, eps)(features, image)
    for index in range(2):
        for channel in range(3):
            expected = by_pixel(features[index, channel], (image * STD)[index], radius, eps)
            torch.testing.assert_close(output[index, channel].double(), expected, atol=1e-4, rtol=1e-3)


def test_features_that_follow_the_colours_follow_them_at_every_pixel() -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    rgb = image * STD

    def follow(maps: Tensor) -> Tensor:
        return (2 * maps[:, :1] - maps[:, 1:2] + 0.5 * maps[:, 2:]) + 3

    small = follow(torch.nn.functional.adaptive_avg_pool2d(rgb, 8))
    torch.testing.assert_close(GuidedFilter(eps=1e-9)(small, image), follow(rgb), atol=1e-3, rtol=0)


def test_a_shift_of_the_colours_changes_nothing() -> None:
    features, image = torch.randn(1, 4, 6, 6), torch.randn(1, 3, 24, 24)
    torch.testing.assert_close(GuidedFilter()(features, image), GuidedFilter()(features, image + 5), atol=1e-4, rtol=0)


@pytest.mark.parametrize("make", [lambda: Lanczos(0), lambda: GuidedFilter(0), lambda: GuidedFilter(eps=0.0)])
def test_impossible_settings_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="must be"):
        make()


def test_other_settings_are_in_the_name() -> None:
    assert Lanczos(2).upsampler_name == "lanczos(lobes=2)"
    assert GuidedFilter(1, 0.1).upsampler_name == "guided_filter(radius=1, eps=0.1)"
