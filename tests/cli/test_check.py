"""``check``: what ``run`` would refuse before training, it refuses too, with the same words."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from vfm_isbench import Benchmark, cli
from vfm_isbench.errors import ContractError, VfmIsbenchError
from vfm_isbench.probe.fit import notes_on_fit
from vfm_isbench.protocol import PRESETS, Protocol
from vfm_isbench.upsamplers import load_upsampler
from vfm_isbench.upsamplers.published.featup import FeatUpJBU
from vfm_isbench.upsamplers.published.lift import LiFT
from vfm_isbench.upsamplers.published.loftup import LoftUp

SOURCE = """import torch
from torch import nn
from torch.nn import functional


class Fixed(nn.Module):
    def __init__(self, channels=384):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, features, image):
        return functional.interpolate(self.mix(features), image.shape[-2:], mode="bilinear")


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(112, 112)

    def forward(self, features, image):
        mixed = self.mix(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return functional.interpolate(mixed, image.shape[-2:], mode="bilinear")


class Odd(Fixed):
    def __init__(self):
        super().__init__(17)


def swapped(a, b):
    return functional.interpolate(b, a.shape[-2:], mode="bilinear")


def swapped_sized(a, b, c):
    return functional.interpolate(b, c, mode="bilinear")


def unit(features, image):
    assert image.min() >= 0, "negative colours"
    return functional.interpolate(features, image.shape[-2:], mode="bilinear")


def root(features, image):
    weight = image.sqrt().mean(1, keepdim=True)
    return functional.interpolate(features, image.shape[-2:], mode="bilinear") * weight


def keywords(*, features, image):
    return functional.interpolate(features, image.shape[-2:], mode="bilinear")


def detached(features, image):
    return functional.interpolate(features.detach(), image.shape[-2:], mode="bilinear")


def rounded(features, image):
    return functional.interpolate(features, image.shape[-2:], mode="bilinear").round()


def by_numpy(features, image):
    return functional.interpolate(torch.from_numpy(features.numpy()), image.shape[-2:], mode="bilinear")


def last(features, image):
    return functional.interpolate(features, image.shape[-2:], mode="bilinear").permute(0, 2, 3, 1)


def tokens(features, image):
    return last(features, image).flatten(1, 2)


def broken(features, image):
    raise RuntimeError("nothing helps")
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upsamplers, and no training and no network."""
    (tmp_path / "up.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vfm_isbench.benchmark.train", lambda *a, **k: pytest.fail("trained before looking"))


def check(*words: str) -> int:
    return cli.main(["check", *words, "--device", "cpu"])


def test_the_defaults_are_those_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    demo = Protocol.preset("demo")
    assert check("bilinear") == 0
    printed = capsys.readouterr()
    side = demo.image_size
    assert f"{demo.label} protocol, features of {demo.backbone} (40 channels, patch 8), images of {side}×{side}" in (
        printed.out
    )
    assert not printed.err, "nothing is missing for the demo"


CAUSES = [
    ("Fixed", [], "It works with 384 channels, but the features here have 40.*dinov2_vits14.*paper, paper-early"),
    ("Linear", [], r"It works with 112 channels.*efficientnet_lite0@16 \(--backbone NAME\).*demo@1"),
    ("Odd", [], "It works with 17 channels.*No backbone of the table has 17 channels"),
    ("swapped", [], r"adapt\(upsampler, 'image_features'\), or call its parameters \(image, features\)"),
    ("swapped_sized", [], "parameters .* expected .features, image."),
    ("unit", [], r"It works if the image has values from 0 to 1.*image \* std \+ mean"),
    ("root", [], r"NaN.*It works if the image has values from 0 to 1"),
    ("detached", ["--injection", "pre_upsampler"], r"cut off from the features.*look for \.detach"),
    ("rounded", ["--injection", "pre_upsampler"], "to the features but zeros.*look for rounding"),
    ("by_numpy", ["--injection", "pre_upsampler"], "no gradient passes through numpy"),
    ("last", [], r"the channels are last; move them with \.permute\(0, 3, 1, 2\)"),
    ("tokens", [], r"it looks like tokens B×N×C: \.transpose\(1, 2\)"),
    ("broken", [], "nothing helps.*If it takes its arguments in another way"),
]


MISMATCHED = [
    ("loftup:clip", LoftUp, 512, "loftup:clip was trained on the features of clip_vitb16 (--backbone clip_vitb16)"),
    ("featup:maskclip", FeatUpJBU, 512, "trained on the features of maskclip_vitb16 (--backbone maskclip_vitb16)"),
    ("lift:", LiFT, 384, "Backbones with 384 channels: dinov2_vits14, dinov2_vits14_reg, timm:"),
]


@pytest.mark.parametrize(("name", "kind", "channels", "said"), MISMATCHED, ids=[name for name, *_ in MISMATCHED])
def test_a_published_upsampler_on_other_channels_is_refused_with_what_fits(
    name: str, kind: type, channels: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = "" if kind is LiFT else "upsampler."
    state = {prefix + key: value for key, value in kind(channels).state_dict().items()}
    if kind is LoftUp:
        state = {key.removeprefix("upsampler.") if "channelnorm" in key else key: state[key] for key in state}
    torch.save(state, tmp_path / "weights.pth")
    words = ["--channels", "768", "--patch-size", "16", "--image-size", "32"]
    assert check(name, "--upsampler-weights", str(tmp_path / "weights.pth"), *words) == 2
    printed = capsys.readouterr().err
    assert f"It works with {channels} channels, but the features here have 768" in printed
    assert said in printed


def test_a_pair_that_cannot_fit_is_refused_before_anything_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the data, nor the weights of the backbone, nor those of the upsampler are here."""
    said = "loftup:dinov2b was trained on the features of dinov2_vitb14 (768 channels), but dinov2_vits14 has 384"
    assert check("loftup:dinov2b", "--protocol", "paper") == 2
    assert said in capsys.readouterr().err
    assert cli.main(["run", "loftup:dinov2b", "--protocol", "paper", "--output", str(tmp_path), "--device", "cpu"]) == 2
    printed = capsys.readouterr().err
    assert said in printed and "--backbone dinov2_vitb14" in printed and "missing" not in printed


def test_a_published_upsampler_on_another_backbone_of_as_many_channels_is_noted() -> None:
    loaded = dataclasses.replace(load_upsampler("bilinear"), name="featup:dinov2")
    protocol = Protocol.preset("paper").replace(backbone="timm:vit_small_patch16_224.dino")
    assert notes_on_fit(loaded, protocol) == (
        "featup:dinov2 was trained on the features of dinov2_vits14, not of timm:vit_small_patch16_224.dino",
    )
    assert notes_on_fit(loaded, Protocol.preset("paper")) == ()
    assert notes_on_fit(load_upsampler("bilinear"), protocol) == ()


@pytest.mark.parametrize(("name", "options", "said"), CAUSES, ids=[name for name, *_ in CAUSES])
def test_run_refuses_what_check_refuses_and_both_name_the_cause(
    name: str, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(f"up.py:{name}", *options) == 2
    refused = capsys.readouterr().err
    assert re.search(said, refused, re.DOTALL), refused
    protocol = Protocol.preset("demo").replace(injection=options[1]) if options else Protocol.preset("demo")
    with pytest.raises(VfmIsbenchError) as caught:
        Benchmark(protocol, device="cpu", progress=False).run(f"up.py:{name}")
    assert isinstance(caught.value, ContractError)
    assert refused == f"vfm-isbench: {caught.value}\n"


def test_parameters_that_take_keywords_only_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("up.py:keywords") == 0
    printed = capsys.readouterr().out
    assert "keeps the contract" in printed and re.search(r"called as: +\(.*=.*\), from the names", printed)


def test_another_backbone_has_other_channels(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("up.py:Linear", "--backbone", "efficientnet_lite0@16", "--image-size", "64") == 0
    assert check("up.py:Linear", "--protocol", "demo@1", "--image-size", "64") == 0
    assert check("up.py:Linear", "--channels", "112", "--image-size", "64") == 0
    assert check("up.py:Linear", "--channels", "112", "--patch-size", "14", "--image-size", "56") == 0
    assert "features of stand-in (112 channels, patch 14), images of 56×56" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        (["--patch-size", "14", "--image-size", "128"], "126 or 140"),
        (["--patch-size", "32", "--image-size", "20"], "use 32\n"),
        (["--image-size", "100"], "96 or 104"),
    ],
)
def test_image_sizes_that_fit_are_suggested(words: list[str], sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("bilinear", *words) == 2
    assert sizes in capsys.readouterr().err


def test_weights_and_data_that_a_run_would_miss_are_notes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    protocol = Protocol.preset("demo").replace(
        name="photographs", backbone="timm:test_efficientnet@16", test_datasets=("grabcut", "davis")
    )
    monkeypatch.setitem(PRESETS, "photographs", protocol)
    assert check("bilinear", "--protocol", "photographs") == 0
    printed = capsys.readouterr()
    assert "keeps the contract" in printed.out and "features of timm:test_efficientnet@16" in printed.out
    assert "random weights, because those of timm:test_efficientnet@16 are not here" in printed.err
    assert "a run would stop: data sets are missing: grabcut" in printed.err
    assert "vfm-isbench data download grabcut davis --data-root DIR" in printed.err


def test_several_problems_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("nowhere.py:up", "--backbone", "dinov2_vits15", "--click-encoder", "simple_bit") == 2
    printed = capsys.readouterr().err
    for part in ("3 things are missing", "Did you mean 'simple_vit'", "Did you mean 'dinov2_vits14'", "nowhere.py"):
        assert part in printed
