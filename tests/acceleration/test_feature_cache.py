"""Cached features are the backbone's, bit for bit, and never those of another backbone or another image."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from small import SMALL, CallCounter, evaluated, small_probe
from torch import nn

from vfm_isbench.acceleration.cached_probe import network_for
from vfm_isbench.acceleration.feature_cache import FeatureCache, open_feature_cache, reporting
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
    (file,) = tmp_path.rglob("*.features")
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    cache = FeatureCache(tmp_path, backbone)
    assert torch.equal(cache(images(1)), backbone(images(1)))
    assert cache.misses == 1 and cache.damaged == [file] and file.read_bytes() == whole
    assert len(list(tmp_path.rglob("*.*"))) == 1, "nothing half-written is left"


def damages(whole: bytes) -> list[bytes]:
    """A file damaged in 55 ways: cut off, and with one byte changed, in every part of it."""
    tensors = 32
    header = tensors + 8 + int.from_bytes(whole[tensors : tensors + 8], "little")
    cuts = [0, 1, 31, 32, 33, 39, 40, 41, header - 1, header, header + 1, (header + len(whole)) // 2, len(whole) - 4]
    cuts += [len(whole) - 1]
    parts = {
        "checksum": range(0, 32, 5),
        "length of the header": range(32, 40),
        "header": range(40, header, max(1, (header - 40) // 18)),
        "features": range(header, len(whole), (len(whole) - header) // 12),
    }
    flips = [position for part in parts.values() for position in part] + [len(whole) - 1]
    damaged = [whole[:cut] for cut in cuts]
    for number, position in enumerate(flips):
        changed = bytearray(whole)
        changed[position] ^= 1 << number % 8
        damaged.append(bytes(changed))
    damaged.append(whole + b"0")
    assert len(damaged) >= 55 and whole not in damaged
    return damaged[: -1 if len(damaged) == 56 else None]


@torch.no_grad()
def test_every_damaged_file_is_found_replaced_and_reported(tmp_path: Path) -> None:
    backbone = FakeBackbone().eval()
    crops = images(1)
    expected = backbone(crops)
    FeatureCache(tmp_path, backbone)(crops)
    (file,) = tmp_path.rglob("*.features")
    whole = file.read_bytes()
    for number, content in enumerate(damages(whole)):
        file.write_bytes(content)
        cache = FeatureCache(tmp_path, backbone)
        told = pytest.warns(VfmIsbenchWarning, match="a file of the feature cache could not be read or failed")
        with told, reporting(cache):
            assert torch.equal(cache(crops), expected), number
        assert file.read_bytes() == whole, number
    with reporting(cache):  # what was reported once is not reported again
        cache(crops)


@torch.no_grad()
def test_files_of_another_crop_shape_or_type_are_not_used(tmp_path: Path) -> None:
    backbone = FakeBackbone().eval()
    cache = FeatureCache(tmp_path, backbone)
    crops = images(2)
    expected = cache(crops)
    first, second = tmp_path.rglob("*.features")
    whole = second.read_bytes()
    other = [save({"features": expected[0].flatten()}), save({"features": expected[0].half()}), save({"else": crops})]
    for content in [first.read_bytes(), *(whole[:32] + tensors for tensors in other)]:
        second.write_bytes(content)
        again = FeatureCache(tmp_path, backbone)
        torch.testing.assert_close(again(crops), expected)  # computed alone, not in a batch
        assert again.damaged == [second]
        torch.testing.assert_close(load(second.read_bytes()[32:])["features"], load(whole[32:])["features"])


def test_damaged_files_change_no_result_and_each_part_of_a_run_counts_them(tmp_path: Path) -> None:
    protocol = SMALL.replace(epochs=1, validation_samples=0)

    def run(speed: Speed) -> tuple[float, list[tuple[float, ...]]]:
        probe = small_probe(protocol, Bilinear())
        (record,) = train(probe, TrainingSamples(FakeDataset(), protocol), None, options=RunOptions(speed=speed))
        return record.loss, [found.ious for found in evaluated(probe, FakeDataset(), protocol, speed=speed)[0]]

    speed = Speed(feature_cache=tmp_path)
    run(speed)
    cached = run(speed)
    files = sorted(tmp_path.rglob("*.features"))
    for number, file in enumerate(files):
        content = bytearray(file.read_bytes())
        content[(number * 997) % len(content)] ^= 128
        file.write_bytes(content)
    with pytest.warns(VfmIsbenchWarning, match=r"\d+ files of the feature cache could not be read") as caught:
        again = run(speed)
    np.testing.assert_allclose(again[0], cached[0], rtol=1e-5)
    np.testing.assert_allclose(again[1], cached[1], atol=1e-4)
    told = [int(str(warning.message).split()[0]) for warning in caught]
    assert len(told) == 2 and sum(told) == len(files), "one warning of the training, one of the test set"
    assert run(speed) == again, "the files are whole again"


def half_written(code: int) -> Any:
    """Stands in for ``Path.open``: a disk that is full after a few bytes."""
    original = Path.open

    def opening(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        opened = original(path, mode, *arguments, **options)
        if mode == "wb":
            opened.write(b"some")
            opened.close()
            raise OSError(code, os.strerror(code))
        return opened

    return opening


@torch.no_grad()
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_costs_the_cache_and_nothing_else(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = FakeBackbone().eval()
    FeatureCache(tmp_path, backbone)(images(1))

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    crops = torch.cat([images(1), images(3, seed=1)])
    cache = FeatureCache(tmp_path, backbone)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", half_written(code))
        with pytest.warns(VfmIsbenchWarning, match="no more features are cached") as caught:
            torch.testing.assert_close(cache(crops), backbone(crops))
    assert len(caught) == 1
    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.warns(VfmIsbenchWarning, match="no more features are cached"):
        reader = FeatureCache(tmp_path, backbone)
    torch.testing.assert_close(reader(crops), backbone(crops))
    assert reader.hits == 1
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1, "nothing half-written is left"


@torch.no_grad()
def test_a_full_cache_says_so_once_and_goes_on(tmp_path: Path) -> None:
    backbone = FakeBackbone().eval()
    size = backbone(images(1)).numel() * 4
    cache = FeatureCache(tmp_path, backbone, max_gib=2.5 * size / 2**30)
    with pytest.warns(VfmIsbenchWarning, match="no more features") as caught:
        assert torch.equal(cache(images(4)), backbone(images(4)))
        cache(images(4, seed=1))
    assert len(caught) == 1 and len(list(tmp_path.rglob("*.features"))) == 2


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
    backbone, before = FakeBackbone().eval(), len(list(tmp_path.rglob("*.features")))
    assert before and FeatureCache(tmp_path, backbone).hits == 0
