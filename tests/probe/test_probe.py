"""The probe: where clicks join, what is computed once, and that frozen means frozen."""

from __future__ import annotations

from functools import partial
from typing import get_args

import pytest
import torch
from small import SMALL, CallCounter, small_probe
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.acceleration.cached_probe import CachedProbe
from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from vfm_isbench.click_encoders import PatchEmbedding
from vfm_isbench.heads import ConvHead
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Injection
from vfm_isbench.testing.fakes import FakeBackbone, FakeUpsampler
from vfm_isbench.upsamplers import Bilinear, Identity, Nearest, Upsampler

INJECTIONS = get_args(Injection)
UPSAMPLERS = [Identity, Bilinear, FakeUpsampler]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


IMAGES, CLICK_MAPS = seeded(2, 3, 28, 42), seeded(2, 3, 28, 42, seed=1)


def probe_with(injection: Injection, upsampler: Upsampler) -> Probe:
    return small_probe(SMALL.replace(injection=injection), upsampler)


def resize(maps: Tensor, size: tuple[int, int], align_corners: bool = True) -> Tensor:
    return functional.interpolate(maps, size, mode="bilinear", align_corners=align_corners)


@pytest.mark.parametrize("kind", UPSAMPLERS)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_every_combination_gives_a_logit_per_pixel(injection: Injection, kind: type) -> None:
    probe = probe_with(injection, kind())
    logits = probe(IMAGES, CLICK_MAPS)
    assert logits.shape == (2, 1, 28, 42)
    assert logits.isfinite().all()
    assert logits.std() > 0


@pytest.mark.parametrize("injection", INJECTIONS)
def test_clicks_and_image_matter(injection: Injection) -> None:
    probe = probe_with(injection, Bilinear())
    logits = probe(IMAGES, CLICK_MAPS)
    assert not torch.allclose(logits, probe(IMAGES, 1 - CLICK_MAPS), atol=1e-3)
    assert not torch.allclose(logits, probe(1 - IMAGES, CLICK_MAPS), atol=1e-3)


def parts(injection: Injection, upsampler: Upsampler) -> tuple[Probe, FakeBackbone, nn.Module, nn.Module, Tensor]:
    """A probe, its parts, and the image as its backbone gets it."""
    backbone, encoder, head = FakeBackbone(), PatchEmbedding(8, 14), ConvHead(8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    probe = Probe(backbone, upsampler, encoder, head, injection=injection).eval()
    return probe, backbone, encoder, head, (IMAGES - mean) / std


def test_late_clicks_join_the_upsampled_features() -> None:
    probe, backbone, encoder, head, image = parts("late", Nearest())
    features = functional.interpolate(backbone(image), (28, 42), mode="nearest")
    expected = head(features + resize(encoder(CLICK_MAPS), (28, 42)))
    torch.testing.assert_close(probe(IMAGES, CLICK_MAPS), expected)


def test_clicks_before_the_upsampler_join_the_backbone_features() -> None:
    probe, backbone, encoder, head, image = parts("pre_upsampler", Nearest())
    features = backbone(image) + encoder(CLICK_MAPS)
    expected = head(functional.interpolate(features, (28, 42), mode="nearest"))
    torch.testing.assert_close(probe(IMAGES, CLICK_MAPS), expected)


def test_early_clicks_go_through_the_backbone() -> None:
    probe, backbone, encoder, head, image = parts("early", Nearest())
    features = backbone(image, encoder(CLICK_MAPS))
    expected = head(functional.interpolate(features, (28, 42), mode="nearest"))
    torch.testing.assert_close(probe(IMAGES, CLICK_MAPS), expected)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_without_upsampling_the_head_runs_on_patches_and_its_logits_are_resized(injection: Injection) -> None:
    probe, backbone, encoder, head, image = parts(injection, Identity())
    tokens = encoder(CLICK_MAPS)
    features = backbone(image, tokens) if injection == "early" else backbone(image) + tokens
    torch.testing.assert_close(probe(IMAGES, CLICK_MAPS), resize(head(features), (28, 42)))


@pytest.mark.parametrize("injection", INJECTIONS)
def test_features_short_of_the_image_are_resized_before_the_head(injection: Injection) -> None:
    def double(features: Tensor, image: Tensor) -> Tensor:
        return features.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def double_and_resize(features: Tensor, image: Tensor) -> Tensor:
        return resize(double(features, image), (28, 42))

    short, whole = (probe_with(injection, upsampler) for upsampler in (double, double_and_resize))
    torch.testing.assert_close(short(IMAGES, CLICK_MAPS), whole(IMAGES, CLICK_MAPS))


def test_align_corners_reaches_every_resize() -> None:
    for injection, upsampler in (("late", Nearest()), ("pre_upsampler", Identity())):
        aligned, other = (
            small_probe(SMALL.replace(injection=injection, align_corners=align), upsampler) for align in (True, False)
        )
        assert not torch.allclose(aligned(IMAGES, CLICK_MAPS), other(IMAGES, CLICK_MAPS), atol=1e-4)


def test_backbone_and_upsampler_get_the_image_each_normalised_its_own_way() -> None:
    class Otherwise(FakeBackbone):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.std = (0.5, 0.5, 0.5), (0.25, 0.5, 1.0)

        def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
            seen.append(image)
            return super().forward(image, click_tokens)

    def recording(features: Tensor, image: Tensor) -> Tensor:
        seen.append(image)
        return features

    seen: list[Tensor] = []
    probe = Probe(Otherwise(), recording, PatchEmbedding(8, 14), ConvHead(8), injection="late")
    probe(torch.tensor([0.485, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 28, 28), torch.zeros(1, 3, 28, 28))
    for_backbone, for_upsampler = (image[0, :, 3, 4] for image in seen)
    torch.testing.assert_close(for_backbone, torch.tensor([(0.485 - 0.5) / 0.25, 0.0, 0.5]))
    torch.testing.assert_close(for_upsampler, torch.tensor([0.0, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225]))


@pytest.mark.parametrize(("injection", "backbone_calls"), [("late", 1), ("pre_upsampler", 1), ("early", 5)])
def test_the_backbone_runs_once_per_image_unless_clicks_go_through_it(
    injection: Injection, backbone_calls: int
) -> None:
    probe = probe_with(injection, Bilinear())
    counter = CallCounter(probe.backbone)
    network = CachedProbe(probe)
    encoded = network.encode(IMAGES)
    for seed in range(5):
        network.logits(encoded, seeded(2, 3, 28, 42, seed=seed))
    assert counter.calls == backbone_calls


@pytest.mark.parametrize(("injection", "upsampling_calls"), [("late", 1), ("pre_upsampler", 5), ("early", 5)])
def test_an_upsampler_in_two_steps_sees_the_image_once(injection: Injection, upsampling_calls: int) -> None:
    calls = []

    class Recording(FakeUpsampler):
        def encode_guidance(self, image: Tensor) -> Tensor:
            calls.append("encode")
            return super().encode_guidance(image)

        def upsample(self, features: Tensor, guidance: Tensor) -> Tensor:
            calls.append("upsample")
            return super().upsample(features, guidance)

    probe = probe_with(injection, Recording())
    network = CachedProbe(probe)
    encoded = network.encode(IMAGES)
    for seed in range(5):
        network.logits(encoded, seeded(2, 3, 28, 42, seed=seed))
    assert calls.count("encode") == 1
    assert calls.count("upsample") == upsampling_calls


def wrapped_in_a_function(upsampler: FakeUpsampler) -> Upsampler:
    return lambda features, image: upsampler(features, image)


def wrapped_in_partial(upsampler: FakeUpsampler) -> Upsampler:
    return partial(lambda features, image, module: module(features, image), module=upsampler)


WRAPPINGS = [lambda upsampler: upsampler, wrapped_in_a_function, wrapped_in_partial, lambda module: module.forward]


@pytest.mark.parametrize("wrap", WRAPPINGS)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_frozen_means_frozen_over_training_steps(injection: Injection, wrap: object) -> None:
    module = FakeUpsampler()
    probe = probe_with(injection, wrap(module))  # type: ignore[operator]
    frozen: list[nn.Module] = [probe.backbone, module]
    before = [{key: value.clone() for key, value in part.state_dict().items()} for part in frozen]
    trained_before = [parameter.clone() for parameter in probe.trainable().parameters()]
    # Everything with a gradient, not only what trainable() names.
    optimizer = torch.optim.SGD(probe.parameters(), lr=0.1)
    for seed in range(3):
        probe.train()
        probe(seeded(2, 3, 28, 28, seed=seed), seeded(2, 3, 28, 28, seed=seed + 9)).square().mean().backward()
        optimizer.step()
    for part, values in zip(frozen, before, strict=True):
        assert not any(inner.training for inner in part.modules())
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in part.parameters())
        for key, value in part.state_dict().items():
            assert torch.equal(value, values[key]), key
    assert probe.click_encoder.training and probe.head.training
    changed = zip(trained_before, probe.trainable().parameters(), strict=True)
    assert all(not torch.equal(earlier, now) for earlier, now in changed)


@pytest.mark.parametrize("kind", UPSAMPLERS)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_gradients_reach_every_trained_parameter(injection: Injection, kind: type) -> None:
    probe = probe_with(injection, kind()).train()
    probe(IMAGES, CLICK_MAPS).square().mean().backward()
    for name, parameter in probe.trainable().named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_only_click_encoder_and_head_are_trained() -> None:
    probe = probe_with("late", FakeUpsampler())
    trained = {name.split(".")[0] for name, parameter in probe.named_parameters() if parameter.requires_grad}
    assert trained == {"click_encoder", "head"}
    assert {name.split(".")[0] for name, _ in probe.trainable().named_parameters()} == trained


@pytest.mark.parametrize("injection", INJECTIONS)
def test_encoding_keeps_no_graph(injection: Injection) -> None:
    """Not even where an upsampler has a bare parameter that nobody could find to freeze."""
    scale = torch.ones(1, requires_grad=True)

    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        return features * scale

    probe = probe_with(injection, upsampler)
    probe.head = nn.Identity()  # no convolution, whose weights are trained
    encoded = CachedProbe(probe).encode(IMAGES)
    assert not encoded.image.requires_grad
    assert encoded.features is None or not encoded.features.requires_grad
    assert (encoded.features is None) == (injection == "early")


def test_modes_of_the_trained_parts_follow_the_probe() -> None:
    probe = probe_with("late", FakeUpsampler())
    for mode in (True, False, True):
        assert probe.train(mode) is probe
        assert probe.training is probe.head.training is probe.click_encoder.training is mode
        assert not probe.backbone.training


def test_a_module_inside_a_callable_moves_and_stays_frozen_with_the_probe() -> None:
    inner = nn.BatchNorm2d(8)
    probe = probe_with("late", lambda features, _image: inner(features))
    probe.double().train()
    assert inner.weight.dtype == torch.float64
    assert not inner.training
    assert not inner.weight.requires_grad
    assert len(probe.trainable().state_dict()) == len(probe_with("late", Bilinear()).trainable().state_dict())
