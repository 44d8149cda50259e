"""Cached features are the backbone's, bit for bit, and never those of another backbone or another image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small import SMALL, CallCounter, evaluated, small_probe
from torch import nn

from vfm_isbench.acceleration.cached_probe import network_for
from vfm_isbench.acceleration.feature_cache import FeatureCache, open_feature_cache
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.errors import SpeedError, VfmIsbenchWarning
from vfm_isbench.testing.fakes import FakeBackbone, FakeDataset
from vfm_isbench.training import TrainingSamples, train
from vfm_isbench.upsamplers import Bilinear, Nearest


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 28, 42, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_features_come_back_as_they_were(tmp_path: Path) -> None:
    backbone = FakeBackbone().eval()
    some, more = images(3), torch.cat([images(3)[1:], images(2, seed=1)])
    first, second = FeatureCache(tmp_path, backbone), FeatureCache(tmp_path, backbone)
    assert torch.equal(first(some), backbone(some))
    counter = CallCounter(backbone)
    torch.testing.assert_close(second(more), backbone(more))
    assert torch.equal(second(some), first(some))
    assert (second.hits, second.misses, counter.calls) == (2 + 3, 2, 2)


@torch.no_grad()
def test_other_weights_or_pixels_are_not_found(tmp_path: Path) -> None:
    FeatureCache(tmp_path, FakeBackbone().eval())(images(2))
    changed = FakeBackbone().eval()
    changed.mix.weight[0, 0, 0, 0] += 1e-6
    for backbone, crops in [
        (changed, images(2)),
        (FakeBackbone(seed=1).eval(), images(2)),
        (FakeBackbone().eval(), images(2) + 1e-6),
    ]:
        cache = FeatureCache(tmp_path, backbone)
        assert torch.equal(cache(crops), backbone(crops))
        assert cache.hits == 0


class Layers(FakeBackbone):
    """Adds up the layers that a list names; the weights are the same whatever it says."""

    def __init__(self, layers: list[int]) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, image: torch.Tensor, click_tokens: torch.Tensor | None = None) -> torch.Tensor:
        features = super().forward(image, click_tokens)
        return sum([(features, 2 * features)[layer] for layer in self.layers], torch.zeros(()))


@torch.no_grad()
def test_a_backbone_with_another_setting_in_a_list_is_not_found(tmp_path: Path) -> None:
    FeatureCache(tmp_path, Layers([0]).eval())(images(1))
    other = FeatureCache(tmp_path, Layers([1]).eval())
    assert torch.equal(other(images(1)), Layers([1]).eval()(images(1)))
    assert other.hits == 0


@torch.no_grad()
def test_broken_files_are_made_anew(tmp_path: Path) -> None:
    backbone = FakeBackbone().eval()
    FeatureCache(tmp_path, backbone)(images(1))
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    cache = FeatureCache(tmp_path, backbone)
    assert torch.equal(cache(images(1)), backbone(images(1)))
    assert cache.misses == 1 and file.read_bytes() == whole
    assert len(list(tmp_path.rglob("*.*"))) == 1, "nothing half-written is left"


@torch.no_grad()
def test_a_full_cache_says_so_once_and_goes_on(tmp_path: Path) -> None:
    backbone = FakeBackbone().eval()
    size = backbone(images(1)).numel() * 4
    cache = FeatureCache(tmp_path, backbone, max_gib=2.5 * size / 2**30)
    with pytest.warns(VfmIsbenchWarning, match="no more features") as caught:
        assert torch.equal(cache(images(4)), backbone(images(4)))
        cache(images(4, seed=1))
    assert len(caught) == 1 and len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_a_backbone_that_cannot_be_identified_is_refused(tmp_path: Path) -> None:
    backbone = FakeBackbone()
    backbone.later = nn.LazyConv2d(8, 1)  # has no weights yet by which it could be told
    with pytest.raises(SpeedError, match="cannot be read"):
        FeatureCache(tmp_path, backbone)


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpeedError, match="choose another folder"):
        FeatureCache(tmp_path / "file", FakeBackbone())


def test_the_network_takes_features_from_the_cache(tmp_path: Path) -> None:
    probe = small_probe(SMALL.replace(injection="pre_upsampler")).eval()
    cache = open_feature_cache(probe, tmp_path)
    assert cache is not None and open_feature_cache(probe, None) is None
    plain, cached = (network_for(probe, Speed(), backbone).encode(images(1)) for backbone in (None, cache))
    assert torch.equal(plain.features, cached.features) and cache.misses == 1
    network_for(probe, Speed(), cache).encode(images(1))
    assert (cache.hits, cache.misses) == (1, 1)


@pytest.mark.parametrize("injection", ["late", "pre_upsampler"])
def test_runs_of_several_upsamplers_share_features_and_change_no_number(tmp_path: Path, injection: str) -> None:
    protocol = SMALL.replace(injection=injection, epochs=1, validation_samples=0)
    outcomes = []
    for upsampler in (Bilinear(), Nearest(), Nearest()):
        for speed in (Speed(), Speed(feature_cache=tmp_path)):
            probe = small_probe(protocol, upsampler)
            (record,) = train(probe, TrainingSamples(FakeDataset(), protocol), None, options=RunOptions(speed=speed))
            evidence, _ = evaluated(probe, FakeDataset(), protocol, speed=speed)
            outcomes.append((record.loss, [found.ious for found in evidence]))
    for plain, cached in zip(outcomes[::2], outcomes[1::2], strict=True):
        np.testing.assert_allclose(plain[0], cached[0], rtol=1e-5)
        np.testing.assert_allclose(plain[1], cached[1], atol=1e-4)
    backbone, before = FakeBackbone().eval(), len(list(tmp_path.rglob("*.safetensors")))
    assert before and FeatureCache(tmp_path, backbone).hits == 0
