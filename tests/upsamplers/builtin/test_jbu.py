from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vfm_isbench.errors import ContractError
from vfm_isbench.upsamplers import JointBilateralUpsampler

IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def slow_jbu(features: Tensor, image: Tensor, sigma_spatial: float, sigma_range: float, radius: int) -> Tensor:
    """The definition, pixel by pixel and patch by patch, for one image: C×h×w, 3×H×W → C×H×W."""
    channels, height, width = features.shape
    rows, cols = image.shape[1:]
    rgb = image * IMAGENET_STD
    patch_rgb = functional.adaptive_avg_pool2d(rgb, (height, width))
    output = torch.zeros(channels, rows, cols)
    for row in range(rows):
        for col in range(cols):
            y, x = (row + 0.5) * height / rows, (col + 0.5) * width / cols
            total = 0.0
            for i in range(math.floor(y) - radius, math.floor(y) + radius + 1):
                for j in range(math.floor(x) - radius, math.floor(x) + radius + 1):
                    if not (0 <= i < height and 0 <= j < width):
                        continue
                    distance = (y - 0.5 - i) ** 2 + (x - 0.5 - j) ** 2
                    colour = float((rgb[:, row, col] - patch_rgb[:, i, j]).square().sum())
                    weight = math.exp(-distance / (2 * sigma_spatial**2) - colour / (2 * sigma_range**2))
                    output[:, row, col] += weight * features[:, i, j]
                    total += weight
            output[:, row, col] /= total
    return output


def random_pair(grid: tuple[int, int], size: tuple[int, int], seed: int, channels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, *grid, generator=generator), torch.randn(1, 3, *size, generator=generator)


@settings(max_examples=25, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    sigma_spatial=st.floats(0.3, 2),
    sigma_range=st.floats(0.1, 1),
    radius=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_equals_the_definition(
    grid: tuple[int, int],
    size: tuple[int, int],
    sigma_spatial: float,
    sigma_range: float,
    radius: int,
    seed: int,
) -> None:
    features, image = random_pair(grid, size, seed)
    expected = slow_jbu(features[0], image[0], sigma_spatial, sigma_range, radius)
    output = JointBilateralUpsampler(sigma_spatial, sigma_range, radius)(features, image)[0]
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(grid=st.tuples(st.integers(1, 6), st.integers(1, 6)), ratio=st.integers(2, 5), seed=st.integers(0, 99))
def test_output_stays_within_the_range_of_the_features(grid: tuple[int, int], ratio: int, seed: int) -> None:
    features, image = random_pair(grid, (grid[0] * ratio + 1, grid[1] * ratio), seed)
    output = JointBilateralUpsampler()(features, image)
    low, high = features.amin((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
    assert bool(((output >= low - 1e-5) & (output <= high + 1e-5)).all())


@settings(max_examples=15, deadline=None)
@given(grid=st.tuples(st.integers(1, 6), st.integers(1, 6)), ratio=st.sampled_from([2, 4, 6]), seed=st.integers(0, 99))
def test_mirrored_and_transposed_input_gives_mirrored_and_transposed_output(
    grid: tuple[int, int], ratio: int, seed: int
) -> None:
    features, image = random_pair(grid, (grid[0] * ratio, grid[1] * ratio), seed)
    jbu = JointBilateralUpsampler()
    output = jbu(features, image)
    torch.testing.assert_close(jbu(features.flip(-1), image.flip(-1)), output.flip(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(jbu(features.mT, image.mT), output.mT, atol=1e-5, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(offset=st.floats(-2, 2), seed=st.integers(0, 99))
def test_only_differences_of_colour_count(offset: float, seed: int) -> None:
    features, image = random_pair((3, 4), (12, 15), seed)
    jbu = JointBilateralUpsampler()
    torch.testing.assert_close(jbu(features, image + offset), jbu(features, image), atol=1e-3, rtol=1e-3)


def test_follows_an_edge_of_the_image_through_a_patch() -> None:
    # The left patch holds columns 0-7, but the image's edge is at column 6: its two dark columns belong to the right.
    image = torch.full((1, 3, 8, 16), 1.5)
    image[..., 6:] = -1.5
    features = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    row = JointBilateralUpsampler()(features, image)[0, 0, 4]
    assert bool((row[:6] > 0.9).all())
    assert bool((row[8:] < 0.1).all())
    without_guidance = JointBilateralUpsampler()(features, torch.zeros_like(image))[0, 0, 4]
    assert bool((row[6:8] < without_guidance[6:8] - 0.1).all())


def test_stays_finite_where_every_gaussian_underflows() -> None:
    features, image = random_pair((3, 3), (12, 12), seed=0)
    output = JointBilateralUpsampler(sigma_spatial=0.01, sigma_range=1e-3)(features, image)
    assert bool(output.isfinite().all())


def test_gradient_to_the_features_is_the_weights() -> None:
    features, image = random_pair((3, 4), (9, 13), seed=2, channels=1)
    jbu = JointBilateralUpsampler(radius=1)
    assert torch.autograd.gradcheck(lambda f: jbu(f, image.double()), features.double().requires_grad_())


def test_weights_are_computed_once_per_image_and_grid() -> None:
    features, image = random_pair((3, 4), (9, 13), seed=2)
    jbu = JointBilateralUpsampler()
    guidance = jbu.encode_guidance(image)
    jbu.upsample(features, guidance)
    first = guidance.weights[3, 4]
    jbu.upsample(features + 1, guidance)
    assert guidance.weights[3, 4] is first
    assert list(guidance.weights) == [(3, 4)]


def test_features_and_guidance_of_different_batches_are_refused() -> None:
    jbu = JointBilateralUpsampler()
    with pytest.raises(ContractError, match="features of 2 images but guidance of 1"):
        jbu.upsample(torch.zeros(2, 4, 3, 3), jbu.encode_guidance(torch.zeros(1, 3, 9, 9)))


@pytest.mark.parametrize("arguments", [{"sigma_spatial": 0.0}, {"sigma_range": -1.0}, {"radius": -1}])
def test_settings_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        JointBilateralUpsampler(**arguments)


def test_name_tells_settings_other_than_the_default() -> None:
    assert JointBilateralUpsampler().upsampler_name == "jbu"
    assert JointBilateralUpsampler(radius=1).upsampler_name == "jbu(sigma_spatial=0.4, sigma_range=0.15, radius=1)"


def test_masks_of_photographs_come_out_better_than_by_interpolation(real_root) -> None:  # type: ignore[no-untyped-def]
    errors = []
    for path in sorted((real_root / "DAVIS" / "gt").glob("*.png")):
        (photo,) = (real_root / "DAVIS" / "img").glob(f"{path.stem}.*")
        rgb = torch.from_numpy(np.array(Image.open(photo).convert("RGB").resize((224, 224), Image.Resampling.BOX)))
        mask = np.array(Image.open(path).convert("L").resize((224, 224), Image.Resampling.NEAREST)) > 0
        truth = torch.from_numpy(mask).float()[None, None]
        image = (rgb.permute(2, 0, 1)[None] / 255 - 0.45) / IMAGENET_STD
        coarse = functional.adaptive_avg_pool2d(truth, (16, 16))
        bilinear = functional.interpolate(coarse, (224, 224), mode="bilinear", align_corners=False)
        errors.append(
            [float((u - truth).square().mean()) for u in (bilinear, JointBilateralUpsampler()(coarse, image))]
        )
    assert len(errors) >= 5
    by_bilinear, by_jbu = np.mean(errors, axis=0)
    assert by_jbu < 0.95 * by_bilinear
