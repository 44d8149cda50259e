"""Measures of features, on features whose values are known."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from vfm_isbench.semantic import boundary_sharpness, pooled_agreement


def half_and_half(size: int = 12) -> torch.Tensor:
    labels = torch.zeros(size, size, dtype=torch.long)
    labels[:, size // 2 :] = 1
    return labels


def test_sharpness_is_the_ratio_of_steps() -> None:
    # Each column is one more than the last, and the boundary is a step of five.
    columns = torch.arange(12.0)
    columns[6:] += 4
    features = columns.expand(1, 12, 12)
    # Within: 12 rows of 10 steps of 1 to the right, 11×12 steps of 0 downwards.
    expected = 5 / (120 / (120 + 132))
    assert boundary_sharpness(features, half_and_half()) == pytest.approx(expected)


def test_turning_shifting_and_scaling_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 12, 12, generator=generator) * torch.tensor([9, 7, 5, 1, 1, 1.0]).view(-1, 1, 1)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    other = 3 * torch.einsum("dc,chw->dhw", turn, features) + 1
    for components in (3, None):
        found = boundary_sharpness(features, half_and_half(), components)
        assert found is not None
        assert boundary_sharpness(other, half_and_half(), components) == pytest.approx(found, rel=1e-5)


def test_blurring_a_boundary_makes_it_less_sharp() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 16, 16, generator=generator) + 4 * half_and_half(16)
    blurred = functional.avg_pool2d(features[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    # Noise and edge shrink alike within 5×5, but the step is spread over five pixels.
    sharp, blunt = boundary_sharpness(features, half_and_half(16)), boundary_sharpness(blurred, half_and_half(16))
    assert sharp is not None and blunt is not None and sharp > 1
    assert boundary_sharpness(functional.interpolate(features[None, :, ::4, ::4], 16)[0], half_and_half(16)) != sharp


def test_pixels_that_do_not_count_are_left_out() -> None:
    features = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
    labels = half_and_half()
    labels[0, 0] = 255
    spoilt = features.clone()
    spoilt[:, 0, 0] = 1e6
    found = boundary_sharpness(features, labels, None)
    assert found is not None
    assert boundary_sharpness(spoilt, labels, None) == pytest.approx(found)


def test_no_boundary_and_constant_features_have_no_sharpness() -> None:
    features = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert boundary_sharpness(features, torch.zeros(12, 12, dtype=torch.long)) is None
    assert boundary_sharpness(torch.ones(3, 12, 12), half_and_half(), None) is None


def test_agreement_is_one_where_each_patch_keeps_its_mean() -> None:
    features = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0))
    repeated = functional.interpolate(features[None], 12)[0]
    assert pooled_agreement(repeated, features) == pytest.approx(1)
    assert pooled_agreement(-repeated, features) == pytest.approx(-1)
    shifted = repeated.roll(4, dims=2)
    expected = functional.cosine_similarity(features.roll(1, dims=2), features, dim=0).mean()
    assert pooled_agreement(shifted, features) == pytest.approx(float(expected), abs=1e-6)
