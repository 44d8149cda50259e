"""Upsamplers of other packages: their name, where they came from, and what they declare."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plugin_packages import Packages

from vfm_isbench.benchmark import follow_protocol
from vfm_isbench.errors import UnknownNameError
from vfm_isbench.protocol import Protocol
from vfm_isbench.upsamplers import (
    FeatUpJBU,
    LoadOptions,
    check_upsampler,
    find_module,
    identity_of,
    is_own,
    load_upsampler,
)

SOURCE = """
import torch
from torch import nn
from torch.nn import functional
from vfm_isbench.upsamplers import Bilinear, FeatUpJBU, Identity

def resize(features, image):
    return functional.interpolate(features, image.shape[-2:])

def image_first(image, features):
    return resize(features, image)

class Mixing(nn.Module):
    upsampler_name = "a name of its own"
    upsampler_source = {"kind": "mixing", "weights": "none"}
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(2, 2, 1)
        nn.init.ones_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)
    def forward(self, features, image):
        return resize(self.mix(features), image)

class Gated:
    def encode_guidance(self, image):
        return image.mean(dim=1, keepdim=True)
    def upsample(self, features, guidance):
        return functional.interpolate(features, guidance.shape[-2:]) * guidance
    def __call__(self, features, image):
        return self.upsample(features, self.encode_guidance(image))

def featup():
    return FeatUpJBU(2, channel_norm=True)

ready = Mixing()
bilinear = Bilinear
identity = Identity
"""
ATTRIBUTES = ["resize", "image_first", "Mixing", "Gated", "featup", "ready", "bilinear", "identity"]


@pytest.fixture(autouse=True)
def mine(packages: Packages) -> Packages:
    install(packages)
    return packages


def install(packages: Packages, version: str = "1.0", source: str = SOURCE) -> None:
    points = {("upsampler", f"my_{attribute}"): f"mine_module:{attribute}" for attribute in ATTRIBUTES}
    packages.install("mine", points, {"mine_module": source}, version)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_makers_and_ready_ones_keep_the_contract_under_their_name(attribute: str) -> None:
    upsampler = load_upsampler(f"my_{attribute}")
    report = check_upsampler(upsampler, channels=2, grid=(4, 4), image_size=(56, 56), device=torch.device("cpu"))
    assert report.n_parameters == (6 if attribute in ("Mixing", "ready") else report.n_parameters)
    identity = identity_of(upsampler)
    assert identity.name == f"my_{attribute}"
    assert identity.source is not None and identity.source["plugin"]["package"] == "mine"
    assert identity.source["plugin"]["version"] == "1.0"
    assert identity.sha256 is not None


def test_what_it_says_of_its_source_is_kept_beside() -> None:
    source = identity_of(load_upsampler("my_Mixing")).source
    assert source is not None
    assert (source["kind"], source["weights"], source["plugin"]["version"]) == ("mixing", "none", "1.0")


def test_the_fingerprint_tells_versions_and_code_apart(mine: Packages) -> None:
    first = identity_of(load_upsampler("my_Mixing")).sha256
    assert identity_of(load_upsampler("my_Mixing")).sha256 == first
    install(mine, version="1.1")
    second = identity_of(load_upsampler("my_Mixing")).sha256
    # What a method calls is not followed by the fingerprint of a module; the hash of the package's code has it.
    install(mine, version="1.1", source=SOURCE.replace("image.shape[-2:])", "image.shape[-2:], mode='area')", 1))
    third = identity_of(load_upsampler("my_Mixing")).sha256
    assert len({first, second, third}) == 3


def test_declarations_are_passed_on() -> None:
    able = {name: load_upsampler(f"my_{name}").capabilities for name in ("bilinear", "Mixing", "identity", "Gated")}
    assert able["bilinear"].interpolation == ("bilinear", True)
    assert able["Mixing"].interpolation is None
    assert able["identity"].keeps_patch_resolution and not able["bilinear"].keeps_patch_resolution
    assert able["Gated"].upsample is not None and able["Gated"].encode_guidance is not None
    assert able["Mixing"].upsample is None and able["Mixing"].encode_guidance is None
    assert find_module(load_upsampler("my_Mixing")) is not None


def test_the_protocol_decides_about_the_channel_norm_of_featup_in_a_plugin_too() -> None:
    protocol = Protocol.preset("paper").replace(featup_channel_norm=False)
    upsampler, _, _ = follow_protocol(load_upsampler("my_featup"), protocol)
    assert isinstance(upsampler.call, FeatUpJBU) and not upsampler.call.channel_norm
    assert upsampler.capabilities.channel_norm is False
    assert identity_of(upsampler).name == "my_featup"
    assert upsampler.plugin_origin is not None and upsampler.plugin_origin["package"] == "mine"


def test_a_plugin_is_not_of_this_library() -> None:
    assert is_own("bilinear")
    assert not is_own("my_Mixing")


def test_weights_cannot_be_given_to_it() -> None:
    with pytest.raises(UnknownNameError, match="has no weights to replace"):
        load_upsampler("my_Mixing", LoadOptions(weights=Path("w.pth")))
