"""The drift of features: cosines by hand, and from a probe to the one it started from."""

from __future__ import annotations

import math

import pytest
import torch
from small import SMALL, small_probe

from vfm_isbench.inspection.drift import FeatureDrift, feature_drift, mean_cosine
from vfm_isbench.probe import build_probe
from vfm_isbench.testing.fakes import FakeBackbone, FakeUpsampler


def test_the_mean_cosine_is_that_of_the_vectors() -> None:
    one = torch.tensor([[3.0, 0.0], [4.0, 1.0]])[None, :, None]  # vectors (3, 4) and (0, 1)
    other = torch.tensor([[3.0, 1.0], [4.0, 1.0]])[None, :, None]  # vectors (3, 4) and (1, 1)
    assert mean_cosine(one, other) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert mean_cosine(one, -2 * one) == pytest.approx(-1)
    assert mean_cosine(one, torch.zeros_like(one)) == 0


def test_each_part_drifts_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(count, 3, 28, 28, generator=generator) for count in (2, 1)]
    backbone, upsampler = FakeBackbone(), FakeUpsampler()
    start = build_probe(SMALL, backbone, upsampler)
    trained = build_probe(SMALL.replace(train_backbone=True, train_upsampler=True), backbone, upsampler)
    assert feature_drift(trained, start, images) == FeatureDrift(1.0, 1.0)
    with torch.no_grad():
        trained.trainable()["upsampler"].get_submodule("guide").bias.add_(1)  # type: ignore[union-attr, operator]
    only_upsampler = feature_drift(trained, start, images)
    assert only_upsampler.backbone == 1 and only_upsampler.upsampled < 0.99
    with torch.no_grad():
        trained.trainable()["backbone"].get_submodule("mix").weight.neg_()  # type: ignore[union-attr, operator]
    both = feature_drift(trained, start, images)
    assert both.backbone < 0.99
    # Every image counts alike, however they are batched.
    assert feature_drift(trained, start, [torch.cat(images)]).upsampled == pytest.approx(both.upsampled)


def test_without_images_there_is_no_drift() -> None:
    probe = small_probe()
    with pytest.raises(ValueError, match="at least one image"):
        feature_drift(probe, probe, [])
