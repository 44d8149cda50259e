"""What protocol and upsampler decide about each other: FeatUp's channel norm."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from small import SMALL

from vfm_isbench.probe.preparation import follow_protocol
from vfm_isbench.upsamplers import Bilinear, LoadedUpsampler
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
