"""The protocol decides on FeatUp's channel norm, where there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vfm_isbench.upsamplers import Bilinear, follow_channel_norm
from vfm_isbench.upsamplers.published.featup import FeatUpJBU

FEATURES = torch.randn(1, 8, 2, 2, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def test_it_is_left_out_of_a_copy() -> None:
    upsampler = FeatUpJBU(8).eval()
    changed, remarks = follow_channel_norm(upsampler, wanted=False)
    assert isinstance(changed, FeatUpJBU)
    assert (changed.channel_norm, upsampler.channel_norm, remarks) == (False, True, ())
    with torch.no_grad():
        assert not torch.allclose(changed(FEATURES, IMAGE), upsampler(FEATURES, IMAGE))
        assert torch.equal(changed(FEATURES, IMAGE), upsampler.without_channel_norm()(FEATURES, IMAGE))


@pytest.mark.parametrize("wanted", [True, False])
def test_what_agrees_or_has_no_such_norm_stays_as_it_is(wanted: bool) -> None:
    for upsampler in (Bilinear(), FeatUpJBU(8, channel_norm=wanted)):
        assert follow_channel_norm(upsampler, wanted) == (upsampler, ())


def test_a_norm_that_is_not_there_is_remarked_on() -> None:
    upsampler = FeatUpJBU(8, channel_norm=False)
    same, (remark,) = follow_channel_norm(upsampler, wanted=True)
    assert same is upsampler
    assert "without the channel norm" in remark


def declared(has_norm: bool, **source: Any) -> Any:
    upsampler: Any = FeatUpJBU(8, channel_norm=has_norm)
    upsampler.upsampler_source = {"kind": "featup", **source}
    return upsampler


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("channel_norm", [True, False])
def test_the_record_says_what_is_in_force(channel_norm: bool, wanted: bool) -> None:
    upsampler = declared(channel_norm, channel_norm=True)
    followed: Any = follow_channel_norm(upsampler, wanted)[0]
    assert followed.channel_norm is (channel_norm and wanted)
    assert followed.upsampler_source == {"kind": "featup", "channel_norm": channel_norm and wanted}
    assert upsampler.upsampler_source["channel_norm"] is True, "the user's own was changed"


def test_a_record_without_the_field_has_it_once_something_changed() -> None:
    followed: Any = follow_channel_norm(declared(True), wanted=False)[0]
    assert followed.upsampler_source == {"kind": "featup", "channel_norm": False}


def test_a_norm_that_was_asked_for_and_is_left_out_is_remarked_on() -> None:
    upsampler = declared(True, norm_asked=True)
    assert follow_channel_norm(upsampler, wanted=True) == (upsampler, ())
    _, (remark,) = follow_channel_norm(upsampler, wanted=False)
    assert "norm=true asked for" in remark and "featup_channel_norm" in remark
