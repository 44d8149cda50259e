"""The shortcut gives the probe's own logits, for every injection, upsampler and head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import SMALL, CallCounter, evaluated, small_probe

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.acceleration.speed import Speed
from vfm_isbench.heads import ConvHead
from vfm_isbench.kernels import threads, winograd
from vfm_isbench.kernels.winograd import LEAST_CHANNELS
from vfm_isbench.protocol import Injection
from vfm_isbench.protocol.validation import HeadName
from vfm_isbench.testing.fakes import FakeDataset, FakeUpsampler
from vfm_isbench.training import TrainingSamples, normalized_focal_loss
from vfm_isbench.training.prediction import predict_batch
from vfm_isbench.training.samples import collate
from vfm_isbench.upsamplers import Bicubic, Bilinear, Identity, Nearest, Upsampler
from vfm_isbench.upsamplers.builtin.jbu import JointBilateralUpsampler
from vfm_isbench.upsamplers.published.featup import FeatUpJBU
from vfm_isbench.upsamplers.published.lift import LiFT
from vfm_isbench.upsamplers.published.loftup import LoftUp

UPSAMPLERS: list[Upsampler] = [
    Identity(),
    Nearest(),
    Bilinear(),
    Bilinear(align_corners=False),
    Bicubic(),
    FakeUpsampler(),
]


@pytest.fixture(params=["direct", "winograd"])
def channels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Channels from which on Winograd's filtering is used: more or fewer than the probes have."""
    if request.param == "direct":
        return LEAST_CHANNELS
    monkeypatch.setattr(winograd, "_STRIP_VALUES", 4000)
    return 1


def seeded(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("head", ["conv", "linear"])  # tests/probe/test_pyramids.py has the others
@pytest.mark.parametrize("upsampler", UPSAMPLERS, ids=repr)
@pytest.mark.parametrize("injection", get_args(Injection))
@pytest.mark.parametrize("size", [(28, 42), (14, 28)])
def test_logits_are_those_of_the_probe(
    injection: Injection,
    upsampler: Upsampler,
    head: HeadName,
    align_corners: bool,
    size: tuple[int, int],
    channels: int,
) -> None:
    protocol = SMALL.replace(injection=injection, head=head, align_corners=align_corners)
    probe = small_probe(protocol, upsampler).eval()
    quick, images = CachedProbe(probe, winograd_channels=channels), seeded(2, 3, *size, seed=0)
    encoded = quick.encode(images)
    for seed in (1, 2):
        click_maps = seeded(2, 3, *size, seed=seed)
        torch.testing.assert_close(quick.logits(encoded, click_maps), probe(images, click_maps), rtol=0, atol=1e-5)


@pytest.mark.parametrize("upsampler", [Bilinear(), FakeUpsampler()], ids=repr)
@pytest.mark.parametrize("injection", ["late", "early"])
def test_strips_and_views_are_computed_by_threads_of_their_own(
    injection: Injection, upsampler: Upsampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[int] = []
    share = threads.share

    def count(items: Sequence[Any], works: Sequence[Callable[[Iterator[Any]], None]]) -> None:
        shared.append(len(items))
        share(items, works)

    monkeypatch.setattr(threads, "available", lambda _: 2)
    monkeypatch.setattr(threads, "share", count)
    monkeypatch.setattr(threads, "_LEAST_VALUES", 1)
    monkeypatch.setattr(winograd, "_LEAST_TILES", 1)
    probe = small_probe(SMALL.replace(injection=injection, click_encoder="simple_vit"), upsampler).eval()
    quick, images = CachedProbe(probe, winograd_channels=1), seeded(2, 3, 56, 56, seed=0)
    with torch.no_grad():
        encoded = quick.encode(images)
        for seed in (1, 2):
            click_maps = seeded(2, 3, 56, 56, seed=seed)
            shared.clear()
            found = quick.logits(encoded, click_maps)
            assert shared[0] == 2, "views of the click encoder"
            assert shared[-1] >= 6, "strips of the head"
            torch.testing.assert_close(found, probe(images, click_maps), rtol=0, atol=1e-5)


def test_the_first_convolution_is_done_once_per_crop() -> None:
    probe = small_probe(SMALL.replace(injection="late"), FakeUpsampler()).eval()
    assert isinstance(probe.head, ConvHead)
    counter, quick = CallCounter(probe.head.convs[0].get_submodule("conv")), CachedProbe(probe)
    encoded = quick.encode(seeded(2, 3, 28, 28, seed=0))
    for seed in (1, 2, 3):
        quick.logits(encoded, seeded(2, 3, 28, 28, seed=seed))
    assert counter.calls == 1


@pytest.mark.parametrize("make", [LoftUp, FeatUpJBU, LiFT, lambda _: JointBilateralUpsampler()])
@pytest.mark.parametrize("injection", get_args(Injection))
@given(rows=st.integers(2, 4), cols=st.integers(2, 4), batch=st.integers(1, 2), seed=st.integers(0, 9))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_upsamplers_that_look_at_the_image(
    make: Callable[[int], Upsampler], injection: Injection, rows: int, cols: int, batch: int, seed: int, channels: int
) -> None:
    """Through their two steps, at any number of patches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = small_probe(SMALL.replace(injection=injection), make(8)).eval()
    images, click_maps = (seeded(batch, 3, 14 * rows, 14 * cols, seed=seed + more) for more in (0, 1))
    quick = CachedProbe(probe, winograd_channels=channels)
    with torch.no_grad():
        found = quick.logits(quick.encode(images), click_maps)
        torch.testing.assert_close(found, probe(images, click_maps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_heads_of_any_depth(layers: int, channels: int) -> None:
    probe = small_probe(SMALL.replace(head_layers=layers), FakeUpsampler()).eval()
    images, click_maps = seeded(2, 3, 28, 42, seed=0), seeded(2, 3, 28, 42, seed=1)
    quick = CachedProbe(probe, winograd_channels=channels)
    with torch.no_grad():
        found = quick.logits(quick.encode(images), click_maps)
        torch.testing.assert_close(found, probe(images, click_maps), rtol=0, atol=1e-5)


def learned(kind: Callable[[int], Upsampler]) -> Upsampler:
    """With the same random weights in every run.

    One seed in twelve puts a value so near to the kink of a ReLU that rounding decides its gradient; this one does not.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return kind(8)


LEARNED = [learned(kind) for kind in (LoftUp, FeatUpJBU, LiFT)]


@pytest.mark.parametrize("head", ["conv", "linear"])  # tests/probe/test_pyramids.py has the others
@pytest.mark.parametrize("upsampler", [*UPSAMPLERS, *LEARNED], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("injection", get_args(Injection))
def test_a_training_step_is_that_of_the_probe(
    injection: Injection, upsampler: Upsampler, head: HeadName, channels: int
) -> None:
    """Iterative clicks, logits and gradients."""
    protocol = SMALL.replace(injection=injection, head=head)
    probe = small_probe(protocol, upsampler)
    samples = TrainingSamples(FakeDataset(), protocol)
    batch = collate([samples[0, item] for item in range(3)])
    found = []
    for shortcut in (True, False):
        probe.zero_grad(set_to_none=True)
        rng = np.random.default_rng(3)  # three iterative clicks
        logits, targets = predict_batch(
            probe, batch, protocol, rng, speed=Speed(shortcut=shortcut, winograd_channels=channels)
        )
        normalized_focal_loss(logits, targets).mean().backward()
        found.append([logits, *(parameter.grad for parameter in probe.trainable().parameters())])
    for quick, whole in zip(*found, strict=True):
        torch.testing.assert_close(quick, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("injection", get_args(Injection))
def test_an_evaluation_gives_the_same_clicks_and_scores_by_either_way(injection: Injection, channels: int) -> None:
    protocol = SMALL.replace(injection=injection)
    probe = small_probe(protocol, Bilinear())
    quick, whole = (
        evaluated(probe, FakeDataset(), protocol, speed=Speed(shortcut=shortcut, winograd_channels=channels))[0]
        for shortcut in (True, False)
    )
    assert [found.clicks for found in quick] == [found.clicks for found in whole]
    np.testing.assert_allclose([found.ious for found in quick], [found.ious for found in whole], rtol=0, atol=1e-4)
