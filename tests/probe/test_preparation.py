"""Before a probe is built: FeatUp's channel norm, hidden modules, identity and behaviour."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import SMALL, small_probe
from torch import Tensor, nn

from vfm_isbench.errors import ContractError, VfmIsbenchWarning
from vfm_isbench.metrics.behaviour import differs
from vfm_isbench.probe.preparation import Checked, check_and_identify, check_on_grid, follow_protocol
from vfm_isbench.testing.fakes import FakeBackbone
from vfm_isbench.upsamplers import Bicubic, Bilinear, LoadedUpsampler, Nearest, find_module
from vfm_isbench.upsamplers.published.featup import FeatUpJBU

FEATURES = torch.randn(1, 8, 2, 2, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(1))
ON, OFF = SMALL, SMALL.replace(featup_channel_norm=False)


def featup(has_norm: bool = True, **source: Any) -> LoadedUpsampler:
    upsampler = LoadedUpsampler.of(FeatUpJBU(8, channel_norm=has_norm).eval())
    return dataclasses.replace(upsampler, source={"kind": "featup", **source} if source else None)


def test_the_norm_is_left_out_of_a_copy() -> None:
    upsampler = featup()
    changed, protocol, remarks = follow_protocol(upsampler, OFF)
    assert (changed.capabilities.channel_norm, upsampler.capabilities.channel_norm) == (False, True)
    assert (protocol, remarks) == (OFF, ())
    with torch.no_grad():
        assert not torch.allclose(changed(FEATURES, IMAGE), upsampler(FEATURES, IMAGE))
        by_hand: Any = upsampler.call
        assert torch.equal(changed(FEATURES, IMAGE), by_hand.without_channel_norm()(FEATURES, IMAGE))


def test_the_steps_of_the_copy_leave_the_norm_out_too() -> None:
    changed = follow_protocol(featup(), OFF)[0]
    with torch.no_grad():
        by_steps = changed.upsample(FEATURES, changed.encode_guidance(IMAGE))
        assert torch.equal(by_steps, changed(FEATURES, IMAGE))


@pytest.mark.parametrize("wanted", [ON, OFF], ids=["on", "off"])
def test_upsamplers_that_agree_or_have_no_norm_stay_as_they_are(wanted: Any) -> None:
    for upsampler in (LoadedUpsampler.of(Bilinear()), featup(wanted.featup_channel_norm)):
        same, protocol, remarks = follow_protocol(upsampler, wanted)
        assert same is upsampler and (protocol, remarks) == (wanted, ())


def test_weights_without_a_norm_switch_the_field_off() -> None:
    upsampler = featup(has_norm=False)
    same, protocol, (remark,) = follow_protocol(upsampler, ON)
    assert same is upsampler
    assert protocol == OFF and protocol.fingerprint() != ON.fingerprint()
    assert "without the channel norm" in remark


@pytest.mark.parametrize("wanted", [ON, OFF], ids=["on", "off"])
@pytest.mark.parametrize("has_norm", [True, False])
def test_the_source_says_whether_the_norm_is_in_use(has_norm: bool, wanted: Any) -> None:
    upsampler = featup(has_norm, channel_norm=True)
    followed = follow_protocol(upsampler, wanted)[0]
    in_use = has_norm and wanted.featup_channel_norm
    assert followed.capabilities.channel_norm is in_use
    assert followed.source == {"kind": "featup", "channel_norm": in_use}
    assert upsampler.source == {"kind": "featup", "channel_norm": True}, "the user's own was changed"


def test_a_source_without_the_field_gets_it_with_a_change() -> None:
    assert follow_protocol(featup(weights="w"), OFF)[0].source == {
        "kind": "featup",
        "weights": "w",
        "channel_norm": False,
    }


def test_leaving_out_a_norm_that_was_asked_for_is_noted() -> None:
    upsampler = featup(norm_asked=True)
    assert follow_protocol(upsampler, ON) == (upsampler, ON, ())
    _, _, (remark,) = follow_protocol(upsampler, OFF)
    assert "norm=true was given" in remark and "featup_channel_norm" in remark


def test_warnings_of_the_loader_are_noted() -> None:
    upsampler = dataclasses.replace(LoadedUpsampler.of(Bilinear()), source={"warnings": ["random weights"]})
    assert follow_protocol(upsampler, ON)[2] == ("loading the upsampler warned: random weights",)


def identify(upsampler: Any, backbone: FakeBackbone | None = None) -> Checked:
    return check_and_identify(LoadedUpsampler.of(upsampler), SMALL, backbone or FakeBackbone(), torch.device("cpu"))


def test_behaviour_tells_apart_what_computes_something_else() -> None:
    found = [identify(upsampler).behaviour["upsampler"] for upsampler in (Bilinear(), Bilinear(), Nearest(), Bicubic())]
    assert found[0] == found[1]
    assert all(differs(found[0], other) for other in found[2:])
    changed = FakeBackbone()
    changed.mix.weight.data[0, 0] += 0.1
    mine, theirs = (identify(Bilinear(), backbone).behaviour["backbone"] for backbone in (FakeBackbone(), changed))
    assert differs(mine, theirs)


def test_rounding_is_not_another_behaviour() -> None:
    def rounded(features: Tensor, image: Tensor) -> Tensor:
        return Bilinear()(features.double(), image).float() * (1 + 1e-6)

    mine, theirs = (identify(upsampler).behaviour["upsampler"] for upsampler in (Bilinear(), rounded))
    assert mine != theirs and not differs(mine, theirs)


@pytest.mark.filterwarnings("ignore::vfm_isbench.errors.VfmIsbenchWarning")
def test_random_outputs_have_no_behaviour() -> None:
    def noisy(features: Tensor, image: Tensor) -> Tensor:
        return Bilinear()(features, image) + torch.rand(())

    assert identify(noisy).behaviour["upsampler"] is None


class Network(nn.Module):
    """Normalises with the statistics of the batch in train mode, which also changes its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, features: Tensor) -> Tensor:
        normalised: Tensor = self.norm(features)
        return normalised


class OfTheClass:
    network = Network()

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        return Bilinear()(self.network(features), image)


class MadeOnTheFirstCall:
    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        if not hasattr(self, "made"):
            self.made = [Network()]
        return Bilinear()(self.made[0](features), image)


ELSEWHERE = types.SimpleNamespace(get=functools.cache(Network))


def behind_a_getter(features: Tensor, image: Tensor) -> Tensor:
    return Bilinear()(ELSEWHERE.get()(features), image)


@pytest.mark.parametrize("make", [OfTheClass, MadeOnTheFirstCall, lambda: behind_a_getter])
@pytest.mark.filterwarnings("ignore:the upsampler runs modules that it does not hold")
def test_networks_in_train_mode_are_frozen_wherever_they_are(make: Callable[[], Any]) -> None:
    checked = identify(make())
    module = find_module(checked.upsampler)
    assert module is not None
    (network,) = [part for part in module.modules() if isinstance(part, Network)]
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    assert network.norm.num_batches_tracked == 0, "its statistics were changed"
    probe = small_probe(SMALL, checked.upsampler).train()
    probe(torch.rand(2, 3, 28, 28), torch.rand(2, 3, 28, 28)).sum().backward()
    assert not network.training and network.norm.num_batches_tracked == 0
    assert network.norm.weight.grad is None


def test_hidden_modules_are_named_in_a_note() -> None:
    with pytest.warns(VfmIsbenchWarning, match=r"does not hold itself \(Network\).*eval mode"):
        checked = identify(OfTheClass())
    assert "Network" in checked.notes[0]


def test_an_upsampler_that_ends_the_program_is_refused() -> None:
    with pytest.raises(ContractError, match="raised SystemExit: 0"):
        identify(lambda features, image: sys.exit(0))


def test_the_check_computes_like_the_benchmark() -> None:
    """Rounded to TF32, an upsampler's outputs would depend on the batch by more than the check allows."""
    rounded = []

    def upsampler(features: Tensor, image: Tensor) -> Tensor:
        rounded.append(torch.backends.cudnn.allow_tf32)
        return nn.functional.interpolate(features, image.shape[-2:])

    before = torch.backends.cudnn.allow_tf32
    check_on_grid(LoadedUpsampler.of(upsampler), SMALL, (2, 2), 8, torch.device("cpu"))
    assert rounded and not any(rounded)
    assert torch.backends.cudnn.allow_tf32 is before is True
