"""The shortcut gives the probe's own logits, for every injection, upsampler and head."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from small import SMALL, CallCounter, small_probe

from vfm_isbench.evaluation import evaluate_dataset
from vfm_isbench.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.heads import ConvHead
from vfm_isbench.protocol import Injection
from vfm_isbench.protocol_checks import HeadName
from vfm_isbench.shortcut import QuickProbe
from vfm_isbench.speed import Speed
from vfm_isbench.upsamplers import Bicubic, Bilinear, Identity, Nearest, Upsampler

UPSAMPLERS: list[Upsampler] = [
    Identity(),
    Nearest(),
    Bilinear(),
    Bilinear(align_corners=False),
    Bicubic(),
    FakeUpsampler(),
]


def seeded(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("head", get_args(HeadName))
@pytest.mark.parametrize("upsampler", UPSAMPLERS, ids=repr)
@pytest.mark.parametrize("injection", get_args(Injection))
@pytest.mark.parametrize("size", [(28, 42), (14, 28)])
def test_logits_are_those_of_the_probe(
    injection: Injection, upsampler: Upsampler, head: HeadName, align_corners: bool, size: tuple[int, int]
) -> None:
    protocol = SMALL.replace(injection=injection, head=head, align_corners=align_corners)
    probe = small_probe(protocol, upsampler).eval()
    quick, images = QuickProbe(probe), seeded(2, 3, *size, seed=0)
    encoded = quick.encode(images)
    for seed in (1, 2):
        click_maps = seeded(2, 3, *size, seed=seed)
        torch.testing.assert_close(quick.logits(encoded, click_maps), probe(images, click_maps), rtol=0, atol=1e-5)


def test_the_first_convolution_is_done_once_per_crop() -> None:
    probe = small_probe(SMALL.replace(injection="late"), FakeUpsampler()).eval()
    assert isinstance(probe.head, ConvHead)
    counter, quick = CallCounter(probe.head.convs[0].get_submodule("conv")), QuickProbe(probe)
    encoded = quick.encode(seeded(2, 3, 28, 28, seed=0))
    for seed in (1, 2, 3):
        quick.logits(encoded, seeded(2, 3, 28, 28, seed=seed))
    assert counter.calls == 1


@pytest.mark.parametrize("injection", get_args(Injection))
def test_an_evaluation_gives_the_same_clicks_and_scores_by_either_way(injection: Injection) -> None:
    protocol = SMALL.replace(injection=injection)
    probe = small_probe(protocol, Bilinear())
    quick, whole = (
        evaluate_dataset(probe, FakeDataset(), protocol, speed=Speed(shortcut=shortcut), progress=False)[0]
        for shortcut in (True, False)
    )
    assert [found.clicks for found in quick] == [found.clicks for found in whole]
    np.testing.assert_allclose([found.ious for found in quick], [found.ious for found in whole], rtol=0, atol=1e-4)
