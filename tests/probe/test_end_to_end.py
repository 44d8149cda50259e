"""Backbone and upsampler that are trained with the probe: on copies, in eval mode, and only where gradients arrive."""

from __future__ import annotations

import functools

import pytest
import torch
from small import SMALL, small_probe
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.errors import ContractError, ProtocolError
from vfm_isbench.probe import build_probe
from vfm_isbench.probe.end_to_end import check_trained_parts, own_upsampler
from vfm_isbench.probe.preparation import check_and_identify
from vfm_isbench.protocol import Protocol
from vfm_isbench.testing.fakes import FakeBackbone, FakeUpsampler
from vfm_isbench.upsamplers import BackboneAccess, Bilinear, LoadedUpsampler, Upsampler, identity_of

CPU = torch.device("cpu")
BOTH = SMALL.replace(train_upsampler=True, train_backbone=True)


class Half(nn.Module):
    """One weight gets a gradient, the other does not."""

    def __init__(self, *, used: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.unused = nn.Parameter(torch.ones(1))
        self.used = used

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        scale = self.scale if self.used else self.scale.detach()
        return functional.interpolate(features, image.shape[-2:]) * scale


class WithoutGradients(FakeUpsampler):
    @torch.no_grad()
    def upsample(self, features: Tensor, guidance: Tensor) -> Tensor:
        return super().upsample(features, guidance)

    @torch.no_grad()
    def encode_guidance(self, image: Tensor) -> Tensor:
        return super().encode_guidance(image)


class Inference(FakeUpsampler):
    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return super().forward(features, image)


class PerImage(Half):
    needs_gradients = True


class Uncopied(FakeUpsampler):
    def __deepcopy__(self, memo: object) -> None:
        raise RuntimeError("holds a lock")


_HELD = Half()


def by_function(features: Tensor, image: Tensor) -> Tensor:
    return _HELD(features, image)


def checked(upsampler: Upsampler, protocol: Protocol = BOTH) -> tuple[str, ...]:
    return check_trained_parts(LoadedUpsampler.of(upsampler), protocol, FakeBackbone(), CPU)


@pytest.mark.parametrize(
    ("upsampler", "message"),
    [
        (Bilinear(), r"'bilinear' holds no weights that could be trained.*--train-upsampler"),
        (WithoutGradients(), r"no gradient, or only zeros, reaches guide\.weight, .*norm\.bias.*torch\.no_grad\(\)"),
        (Inference(), r"no gradient, or only zeros, reaches guide\.weight"),
        (Half(used=False), r"no gradient, or only zeros, reaches scale, unused; look for"),
        (PerImage(), r"optimises per image"),
        (Uncopied(), r"copy\.deepcopy fails: RuntimeError: holds a lock"),
        (by_function, r"a copy shares 2 weights with it, because a function holds them"),
    ],
    ids=["no weights", "no_grad", "inference_mode", "detach", "per image", "no copy", "function"],
)
def test_upsamplers_that_cannot_be_trained_are_refused(upsampler: Upsampler, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        checked(upsampler)
    assert checked(upsampler, SMALL) == ()


def test_so_is_a_backbone_that_passes_no_gradient() -> None:
    class Frozen(FakeBackbone):
        @torch.no_grad()
        def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
            return super().forward(image, click_tokens)

    with pytest.raises(ProtocolError, match=r"the backbone 'fake' .* reaches patch_embed\.weight.*--train-backbone"):
        check_trained_parts(LoadedUpsampler.of(FakeUpsampler()), BOTH, Frozen(), CPU)


def test_weights_without_a_gradient_are_named_in_a_note_of_the_check() -> None:
    assert checked(FakeUpsampler()) == ()
    with pytest.warns(match="1 of its 2 weights: unused"):
        found = check_and_identify(LoadedUpsampler.of(Half()), BOTH, FakeBackbone(), CPU)
    name = identity_of(Half()).name
    assert found.notes == (
        f"the upsampler {name!r} is trained, but in a trial no gradient reached 1 of its 2 weights: unused",
    )


def test_only_what_the_protocol_trains_gets_gradients_and_is_copied() -> None:
    backbone, upsampler = FakeBackbone(), FakeUpsampler()
    for protocol in (SMALL, SMALL.replace(train_upsampler=True), SMALL.replace(train_backbone=True), BOTH):
        probe = build_probe(protocol, backbone, upsampler)
        assert (probe.backbone is not backbone) == protocol.train_backbone
        assert (probe.upsampler.call is not upsampler) == protocol.train_upsampler
        names = {"click_encoder", "head", *protocol.trained_parts}
        assert set(probe.trainable()) == names
        with_gradient = {id(weight) for weight in probe.parameters() if weight.requires_grad}
        assert with_gradient == {id(weight) for weight in probe.trainable().parameters()}
        assert not any(weight.requires_grad for part in (backbone, upsampler) for weight in part.parameters())
        if protocol.train_upsampler:  # its two steps are the copy's own
            assert isinstance(probe.upsampler.call, FakeUpsampler)
            with torch.no_grad():
                probe.upsampler.call.guide.weight.zero_()
                probe.upsampler.call.guide.bias.zero_()
            image = torch.ones(1, 3, 28, 28)
            assert not probe.upsampler.encode_guidance(image).any() and upsampler.encode_guidance(image).any()


def test_backbone_and_upsampler_stay_in_eval_mode() -> None:
    """So the statistics of a BatchNorm stay those it came with, and dropout is off."""
    probe = small_probe(BOTH, FakeUpsampler()).train()
    assert probe.click_encoder.training and probe.head.training
    assert isinstance(probe.upsampler.call, FakeUpsampler)
    assert not any(part.training for whole in (probe.backbone, probe.upsampler.call) for part in whole.modules())


def test_an_upsampler_that_calls_the_backbone_gets_the_trained_one() -> None:
    class Calls(FakeUpsampler):
        needs_backbone = True

        def bind_backbone(self, features_of: BackboneAccess) -> None:
            self.features_of = features_of

        def forward(self, features: Tensor, image: Tensor) -> Tensor:
            return functional.interpolate(self.norm(self.features_of(image)), image.shape[-2:])

    backbone, upsampler = FakeBackbone(), Calls()
    probe = build_probe(BOTH, backbone, upsampler)
    image = torch.rand(1, 3, 28, 28)
    before = probe.upsampler(torch.zeros(1, 8, 2, 2), image)
    with torch.no_grad():
        backbone.patch_embed.weight.zero_()
    assert torch.equal(probe.upsampler(torch.zeros(1, 8, 2, 2), image), before)
    with torch.no_grad():
        probe.backbone.get_submodule("patch_embed").weight.zero_()  # type: ignore[union-attr, operator]
    assert not torch.equal(probe.upsampler(torch.zeros(1, 8, 2, 2), image), before)


def test_modules_wrapped_in_a_partial_are_copied() -> None:
    held = Half()
    copied = own_upsampler(functools.partial(held.forward))
    assert isinstance(copied.call, functools.partial)
    assert copied.call.func.__self__ is not held  # type: ignore[attr-defined]
