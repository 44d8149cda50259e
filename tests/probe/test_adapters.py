"""Granularity in a probe: it changes nothing before training, and only adapters learn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small import SMALL, evaluated
from torch import Tensor

from vfm_isbench.acceleration.cached_probe import CachedProbe, network_for
from vfm_isbench.acceleration.feature_cache import open_feature_cache
from vfm_isbench.acceleration.speed import RunOptions, Speed
from vfm_isbench.backbones import Backbone
from vfm_isbench.backbones.timm_models import ViTBackbone
from vfm_isbench.datasets import ObjectDataset, open_dataset
from vfm_isbench.errors import MissingPackageError, ProtocolError, RunError, VfmIsbenchWarning
from vfm_isbench.inspection.distortion import FEATURES, distortion, layer_distortions
from vfm_isbench.isegprobe import export_reference
from vfm_isbench.probe import Probe, build_probe, check_combination
from vfm_isbench.protocol import Protocol
from vfm_isbench.storage.hashing import tensors_sha256
from vfm_isbench.testing.fakes import FakeBackbone, FakeUpsampler
from vfm_isbench.training import Checkpoint, TrainingSamples, load_checkpoint, train
from vfm_isbench.training.checkpoint import save_checkpoint
from vfm_isbench.upsamplers import Bicubic, Bilinear, Upsampler

WAYS = ("input", "lora", "gated_lora")
PARTS = SMALL.replace(
    image_size=32,
    train_dataset="part_scenes",
    test_datasets=("part_scenes",),
    click_encoder="distances",
    validation_samples=0,
    epochs=2,
    samples_per_epoch=4,
    batch_size=2,
    milestones=(),
    object_limit=3,
    max_clicks=2,
)


@pytest.fixture(scope="module")
def vit() -> Backbone:
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionTransformer(
            img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0, global_pool=""
        )
    return ViTBackbone("vit", model, (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def scenes() -> ObjectDataset:
    return open_dataset("part_scenes", "test", None, PARTS)


def probe_of(way: str, backbone: Backbone, protocol: Protocol = PARTS) -> Probe:
    return build_probe(protocol.replace(granularity=way), backbone, Bilinear())


def inputs(way: str = "input", granularity: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image, maps = torch.rand(2, 3, 32, 32, generator=generator), torch.rand(2, 3, 32, 32, generator=generator)
    constant = torch.full((2, 1, 32, 32), granularity)
    return image, maps if way == "none" else torch.cat([maps, constant], 1)


def step(probe: Probe, count: int = 3) -> None:
    """A few steps of training, after which no factor is zero any more."""
    optimizer = torch.optim.Adam(probe.trainable().parameters(), lr=0.05)
    for _ in range(count):
        optimizer.zero_grad()
        torch.autograd.backward(probe.train()(*inputs()).square().mean())
        optimizer.step()


@pytest.mark.parametrize("injection", ["late", "pre_upsampler", "early"])
@pytest.mark.parametrize("way", WAYS)
def test_a_new_probe_computes_exactly_what_one_without_granularity_does(
    way: str, injection: str, vit: Backbone
) -> None:
    protocol = PARTS.replace(injection=injection)
    without, with_it = probe_of("none", vit, protocol).eval(), probe_of(way, vit, protocol).eval()
    assert torch.equal(with_it(*inputs()), without(*inputs("none")))
    assert set(layer_distortions(with_it, inputs()[0], 0.3, of_copy=True).values()) == {0.0}


@pytest.mark.parametrize("way", WAYS)
def test_every_adapter_learns_and_nothing_frozen_does(way: str, vit: Backbone) -> None:
    probe = probe_of(way, vit)
    before = {name: value.clone() for name, value in probe.trainable().state_dict().items()}
    frozen = tensors_sha256(vit.state_dict())
    step(probe)
    same = [name for name, value in probe.trainable().state_dict().items() if torch.equal(value, before[name])]
    assert same == []
    assert tensors_sha256(vit.state_dict()) == frozen
    assert all(weight.grad is None for weight in vit.parameters())
    kinds = {name.split(".")[1] for name in before if name.startswith("adapters.")}
    more = {"input": set(), "lora": {"to_backbone", "lora"}, "gated_lora": {"to_backbone", "lora", "gate"}}
    assert kinds == {"to_tokens"} | more[way]
    assert not any(
        module.training for part in (probe.backbone, probe.adapters.backbone) if part for module in part.modules()
    )


def test_only_lora_distorts_what_the_upsampler_gets(vit: Backbone) -> None:
    images, found, copied = inputs()[0], {}, {}
    for way in WAYS:
        probe = probe_of(way, vit)
        step(probe)
        found[way] = layer_distortions(probe, images, 0.3)
        copied[way] = layer_distortions(probe, images, 0.3, of_copy=True)
        assert not torch.equal(probe(*inputs(granularity=0.1)), probe(*inputs(granularity=0.9)))
    assert list(found["lora"]) == ["block 1", "block 2", FEATURES]
    assert set(found["input"].values()) == set(found["gated_lora"].values()) == {0.0}
    assert min(found["lora"].values()) > 1e-6 and min(copied["gated_lora"].values()) > 1e-9
    assert copied["lora"] == found["lora"]


def test_distortion_is_one_minus_cosine() -> None:
    first, second = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [6.0, 8.0]])
    assert distortion(first, second) == pytest.approx(0.5)
    assert distortion(first, -first) == pytest.approx(2.0)
    assert distortion(first.T, second.T, dim=0) == pytest.approx(0.5)


@pytest.mark.parametrize("upsampler", [Bilinear(), Bicubic(), FakeUpsampler(channels=16)])
@pytest.mark.parametrize("injection", ["late", "pre_upsampler", "early"])
@pytest.mark.parametrize("way", WAYS)
def test_the_network_that_evaluates_computes_what_the_probe_does(
    way: str, injection: str, upsampler: Upsampler, vit: Backbone
) -> None:
    probe = build_probe(PARTS.replace(granularity=way, injection=injection), vit, upsampler)
    step(probe)
    network = network_for(probe.eval(), Speed())
    assert type(network) is CachedProbe
    image, _ = inputs()
    encoded = network.encode(image)
    for granularity in (0.3, 0.3, 0.8):  # what is kept of one granularity is not used for another
        maps = inputs(granularity=granularity)[1]
        with torch.no_grad():
            expected = probe(image, maps)
            assert torch.allclose(network.logits(encoded, maps), expected, atol=1e-4)
            halves = [network.encode(one[None]) for one in image]
            small = network.small_of(halves, maps)
            joined = network.join(halves)
            if joined is not None:
                assert torch.allclose(network.logits(joined, maps), expected, atol=1e-4)
        for number, half in enumerate(halves):
            given = None if small is None else small[number]
            with torch.no_grad():
                logits = network.logits(half, maps[number : number + 1], given)
            assert torch.allclose(logits, expected[number : number + 1], atol=1e-4)
    probe.zero_grad()
    with torch.enable_grad():
        torch.autograd.backward(network.logits(encoded, maps).square().mean())
        cached = {name: weight.grad.clone() for name, weight in probe.trainable().named_parameters()}
        probe.zero_grad()
        torch.autograd.backward(probe(image, maps).square().mean())
    for name, weight in probe.trainable().named_parameters():
        assert torch.allclose(cached[name], weight.grad, atol=1e-4, rtol=1e-3), name


def test_features_are_cached_on_disk_only_where_they_depend_on_the_image_alone(vit: Backbone, tmp_path: Path) -> None:
    for way in ("none", "input", "gated_lora"):
        assert open_feature_cache(probe_of(way, vit), tmp_path) is not None
    with pytest.warns(VfmIsbenchWarning, match="no features are cached: the adapters"):
        assert open_feature_cache(probe_of("lora", vit), tmp_path) is None


@pytest.mark.parametrize("way", ["input", "gated_lora"])
def test_a_checkpoint_continues_bit_for_bit_and_evaluates_alike(
    way: str, vit: Backbone, scenes: ObjectDataset, tmp_path: Path
) -> None:
    protocol = PARTS.replace(granularity=way)
    samples, options = TrainingSamples(scenes, protocol), RunOptions(progress=False)
    whole = probe_of(way, vit, protocol)
    kept: list[Path] = []

    def keep(history, tensors) -> None:
        kept.append(tmp_path / f"{len(history)}.safetensors")
        save_checkpoint(kept[-1], Checkpoint(protocol, {"name": "bilinear"}, history, tensors))

    train(whole, samples, None, keep=keep, options=options)
    resumed = probe_of(way, vit, protocol)
    train(resumed, samples, None, start=load_checkpoint(kept[0]), options=options)
    assert tensors_sha256(resumed.trainable().state_dict()) == tensors_sha256(whole.trainable().state_dict())
    restored = probe_of(way, vit, protocol)
    load_checkpoint(kept[-1]).restore(restored.trainable())
    assert evaluated(restored, scenes, protocol)[0] == evaluated(whole, scenes, protocol)[0]
    assert not any("backbone.model" in name for name in load_checkpoint(kept[-1]).tensors)


def test_objects_are_evaluated_with_their_own_granularity_or_a_fixed_one(vit: Backbone, scenes: ObjectDataset) -> None:
    seen: list[float] = []
    probe = probe_of("input", vit)
    probe.adapters.to_tokens.register_forward_pre_hook(lambda _module, values: seen.extend(values[0].tolist()))
    protocol = PARTS.replace(granularity="input", object_limit=8, max_clicks=1, flip_test=True)
    evaluated(probe, scenes, protocol)
    sample = scenes.read(scenes.objects[0].image)
    expected = [sample.granularity([object_id.instance]) for object_id in scenes.objects[:8]]
    assert seen == pytest.approx([value for value in expected for _ in range(2)])
    assert max(expected) == 1.0 and min(expected) < 0.5
    seen.clear()
    evaluated(probe, scenes, protocol.replace(granularity_at_test=0.25))
    assert set(seen) == {0.25}


def test_what_cannot_work_is_refused(vit: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = PARTS.replace(granularity="lora", image_size=28)
    with pytest.raises(
        ProtocolError, match="trains adapters in the attention.*'fake' has no attention; use granularity"
    ):
        check_combination(protocol, FakeBackbone())
    with pytest.raises(ProtocolError, match="granularity_at_test is 0.5; expected None"):
        PARTS.replace(granularity_at_test=0.5)
    probe = probe_of("input", vit)
    with pytest.raises(RunError, match="granularity 'input' has no counterpart in iSegProbe"):
        export_reference(probe, PARTS.replace(granularity="input"), tmp_path / "a.pth")
    with pytest.raises(ProtocolError, match="takes no granularity"):
        layer_distortions(probe_of("none", vit), inputs()[0], 0.5)

    class Calls:
        needs_backbone = True

        def bind_backbone(self, backbone):
            return self

        def __call__(self, features, image):
            return features

    with pytest.raises(ProtocolError, match="would get features without the adapters"):
        build_probe(PARTS.replace(granularity="lora"), vit, Calls())
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingPackageError, match=r"need peft.*pip install 'vfm_isbench\[lora\]'"):
        probe_of("lora", vit)


def test_the_signature_shows_granularity_only_where_there_is_one() -> None:
    assert "gran:" not in PARTS.signature()
    assert (
        "|gran:gated_lora4@0.5|"
        in PARTS.replace(granularity="gated_lora", lora_rank=4, granularity_at_test=0.5).signature()
    )
    assert "|gran:input|" in PARTS.replace(granularity="input").signature()


def test_data_without_parts_says_so() -> None:
    from vfm_isbench.datasets import open_training_data

    protocol = PARTS.replace(granularity="input", train_dataset="scenes", validation_dataset="part_scenes")
    with pytest.warns(VfmIsbenchWarning, match="granularity 'input' cannot be learned from 'scenes'"):
        data = open_training_data(protocol, None)
    assert data.notes() == [
        "trained on scenes: it has no parts, so every granularity in it is 1 and tells the probe nothing"
    ]
