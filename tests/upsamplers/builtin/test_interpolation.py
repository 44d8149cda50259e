from __future__ import annotations

import torch

from vfm_isbench.upsamplers import Bicubic, Bilinear, Identity, Nearest

FEATURES = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
IMAGE = torch.zeros(1, 3, 4, 4)


def test_identity_returns_the_very_features() -> None:
    assert Identity()(FEATURES, IMAGE) is FEATURES


def test_nearest_gives_pixels_the_features_of_their_patch() -> None:
    expected = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
    assert torch.equal(Nearest()(FEATURES, IMAGE)[0, 0], expected)


def test_bilinear_aligns_corners_as_the_reference_does() -> None:
    columns = Bilinear()(FEATURES, IMAGE)[0, 0, 0]
    torch.testing.assert_close(columns, torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))


def test_bilinear_can_keep_patch_centres_instead() -> None:
    columns = Bilinear(align_corners=False)(FEATURES, IMAGE)[0, 0, 0]
    torch.testing.assert_close(columns, torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_bicubic_keeps_patch_centres_and_overshoots() -> None:
    # Keys' kernel with a = -0.75 at distances 0.25, 0.75, 1.25, 1.75, the border repeated.
    weights = torch.tensor([0.87890625, 0.26171875, -0.10546875, -0.03515625])
    second = weights[0] * 0 + weights[1] * 1 + weights[2] * 0 + weights[3] * 1
    flat = FEATURES[:, :, :1].expand(1, 1, 2, 2)
    torch.testing.assert_close(Bicubic()(flat, IMAGE)[0, 0, 0, 1], second)
    assert Bicubic()(flat, IMAGE).min() < 0


def test_settings_other_than_the_default_are_in_the_name() -> None:
    assert Bilinear().upsampler_name == "bilinear"
    assert Bilinear(align_corners=False).upsampler_name == "bilinear(align_corners=False)"
    assert Bicubic(align_corners=True).upsampler_name == "bicubic(align_corners=True)"
    assert repr(Bilinear()) == "Bilinear(align_corners=True)"
