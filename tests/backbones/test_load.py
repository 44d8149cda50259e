"""From names to backbones, without any hub."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from vfm_isbench.backbones import list_backbones, load_backbone
from vfm_isbench.backbones import load as load_module
from vfm_isbench.errors import ProtocolError, UnknownNameError, VfmIsbenchWarning, WeightsError
from vfm_isbench.storage import weights as weights_module
from vfm_isbench.testing.fakes import FakeBackbone

NO_HUB = "no hub in tests"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_options: Any) -> str:
        raise ConnectionError(NO_HUB)

    monkeypatch.setattr(weights_module, "hf_hub_download", refuse)


@pytest.fixture
def flat_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's transformers with a single block: their initial weights take seconds to draw."""
    create = timm.create_model

    def create_flat(name: str, **options: Any) -> Any:
        return create(name, depth=1, **options) if name.startswith("vit") else create(name, **options)

    monkeypatch.setattr(timm, "create_model", create_flat)


def dinov2_file(folder: Path, name: str, channels: int = 384, registers: int = 0) -> Path:
    """Random weights of one block, in timm's layout, as safetensors."""
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=70, patch_size=14, embed_dim=channels, depth=1, num_heads=1, num_classes=0, init_values=1.0,
        reg_tokens=registers, no_embed_class=registers > 0, global_pool="",
    )  # fmt: skip
    save_file(model.state_dict(), folder / name)
    return folder / name


def test_every_listed_name_has_a_description() -> None:
    listed = list_backbones()
    assert {"dinov2_vits14", "dinov2_vitb14_reg", "dinov2_vitl14", "efficientnet_lite0"} <= set(listed)
    assert all(listed.values())


@pytest.mark.parametrize("by", ["file", "folder"])
@pytest.mark.parametrize(("name", "registers"), [("dinov2_vits14", 0), ("dinov2_vits14_reg", 4)])
def test_dinov2_from_a_file_or_folder(tmp_path: Path, name: str, registers: int, by: str) -> None:
    path = dinov2_file(tmp_path, f"{name}.safetensors", registers=registers)
    backbone = load_backbone(name, 56, weights=path if by == "file" else tmp_path)
    assert (backbone.name, backbone.channels, backbone.patch_size) == (name, 384, 14)
    assert backbone.takes_click_tokens
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(2, 3, 56, 56)).shape == (2, 384, 4, 4)


@pytest.mark.parametrize("channels", [192, 32])
def test_dinov2_with_other_channels_is_refused(tmp_path: Path, channels: int) -> None:
    path = dinov2_file(tmp_path, "weights.safetensors", channels)
    with pytest.raises(WeightsError, match=f"with {channels} channels.*'dinov2_vits14'"):
        load_backbone("dinov2_vits14", 56, weights=path)


def test_without_hub_and_weights_the_error_says_what_to_do() -> None:
    with pytest.raises(WeightsError, match=f"'dinov2_vits14'.*{NO_HUB}.*backbone_weights"):
        load_backbone("dinov2_vits14", 224)


@pytest.mark.parametrize(("name", "stride", "channels"), [
    ("efficientnet_lite0", 16, 112), ("efficientnet_lite0@8", 8, 40), ("efficientnet_lite0@32", 32, 320),
])  # fmt: skip
def test_efficientnet_lite0_needs_no_hub(name: str, stride: int, channels: int) -> None:
    backbone = load_backbone(name, 96)
    assert (backbone.channels, backbone.patch_size, backbone.takes_click_tokens) == (channels, stride, False)
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(1, 3, 96, 96)).shape == (1, channels, 96 // stride, 96 // stride)


def test_efficientnet_lite0_knows_objects(real_root: Path) -> None:
    """Features of the object are more alike than those of object and background.

    By 0.17 to 0.49 in cosine on these photographs; by 0.03 to 0.06 with random weights.
    """
    backbone = load_backbone("efficientnet_lite0", 224).eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    for name in ("21077", "229036"):
        image = Image.open(real_root / "GrabCut" / "data_GT" / f"{name}.jpg").resize((224, 224))
        mask = Image.open(real_root / "GrabCut" / "boundary_GT" / f"{name}.bmp").convert("L").resize((14, 14))
        inside = torch.from_numpy(np.array(mask)).flatten() > 128
        pixels = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / std
        with torch.no_grad():
            tokens = functional.normalize(backbone(pixels[None])[0].flatten(1).T, dim=1)
        alike = tokens @ tokens.T
        assert alike[inside][:, inside].mean() > alike[inside][:, ~inside].mean() + 0.12


def test_efficientnet_lite0_from_other_weights_is_refused(tmp_path: Path) -> None:
    path = dinov2_file(tmp_path, "weights.safetensors")
    with pytest.raises(WeightsError, match="EfficientNet-Lite0"):
        load_backbone("efficientnet_lite0", 224, weights=path)


@pytest.mark.usefixtures("flat_transformers")
def test_any_timm_transformer_by_name() -> None:
    backbone = load_backbone("timm:vit_tiny_patch16_224", 96, pretrained=False)
    assert (backbone.channels, backbone.patch_size, backbone.takes_click_tokens) == (192, 16, True)
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(1, 3, 96, 96)).shape == (1, 192, 6, 6)


def test_any_timm_network_at_a_stride() -> None:
    backbone = load_backbone("timm:test_efficientnet@16", 96, pretrained=False)
    assert (backbone.patch_size, backbone.takes_click_tokens) == (16, False)
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(1, 3, 96, 96)).shape == (1, backbone.channels, 6, 6)


def test_a_timm_network_from_a_local_file(tmp_path: Path) -> None:
    model = timm.create_model("test_efficientnet")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    backbone = load_backbone("timm:test_efficientnet@8", 96, weights=tmp_path / "weights.safetensors")
    stem = backbone.state_dict()["model.conv_stem.weight"]
    torch.testing.assert_close(stem, model.state_dict()["conv_stem.weight"], rtol=0, atol=0)
    with pytest.raises(WeightsError, match="timm models need a file"):
        load_backbone("timm:test_efficientnet@8", 96, weights=tmp_path)


def test_weights_of_another_network_are_not_taken_for_its_own(tmp_path: Path) -> None:
    """timm loads what fits, which may be nothing, and goes on."""
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match=r"'timm:test_vit' lack \d+ of the \d+ tensors .* those of another one"):
        load_backbone("timm:test_vit", 160, weights=tmp_path / "weights.safetensors")


@pytest.mark.parametrize("lacking", ["norm.", "blocks.1.attn.proj."])
def test_weights_that_lack_a_few_tensors_are_refused(tmp_path: Path, lacking: str) -> None:
    state = timm.create_model("test_vit").state_dict()
    save_file({key: value for key, value in state.items() if not key.startswith(lacking)}, tmp_path / "w.safetensors")
    said = rf"'timm:test_vit' lack 2 of .* \({lacking}weight, {lacking}bias\), which would be random"
    with pytest.raises(WeightsError, match=said):
        load_backbone("timm:test_vit", 160, weights=tmp_path / "w.safetensors")
    logging.disable(logging.CRITICAL)  # timm tells it in its log only
    try:
        with pytest.raises(WeightsError, match=said):
            load_backbone("timm:test_vit", 160, weights=tmp_path / "w.safetensors")
    finally:
        logging.disable(logging.NOTSET)
    assert logging.getLogger("timm.models._builder").isEnabledFor(logging.WARNING)


def test_a_classifier_may_be_missing_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    state = timm.create_model("test_resnet").state_dict()
    save_file({key: value for key, value in state.items() if not key.startswith("fc.")}, tmp_path / "w.safetensors")
    backbone = load_backbone("timm:test_resnet@8", 96, weights=tmp_path / "w.safetensors")
    torch.testing.assert_close(backbone.state_dict()["model.conv1.0.weight"], state["conv1.0.weight"], rtol=0, atol=0)
    assert not [each for each in recwarn if issubclass(each.category, VfmIsbenchWarning)]


def test_a_norm_behind_the_pooling_leaves_that_of_the_patch_tokens_without_scale(tmp_path: Path) -> None:
    """As in BEiT. The initial values of a norm are not random."""
    state = timm.create_model("test_vit", global_pool="avg", fc_norm=True).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.warns(VfmIsbenchWarning, match=r"lack 2 .*norm\.weight, norm\.bias.*initial values"):
        backbone = load_backbone("timm:test_vit", 160, weights=tmp_path / "w.safetensors")
    own = backbone.state_dict()
    torch.testing.assert_close(own["model.cls_token"], state["cls_token"], rtol=0, atol=0)
    assert (own["model.norm.weight"] == 1).all()
    assert (own["model.norm.bias"] == 0).all()


class Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_code_in_pickled_weights_does_not_run(tmp_path: Path) -> None:
    torch.save({**timm.create_model("test_vit").state_dict(), "x": Intruder(tmp_path / "ran")}, tmp_path / "w.bin")
    with pytest.raises(WeightsError, match="weights_only"):
        load_backbone("timm:test_vit", 160, weights=tmp_path / "w.bin")
    assert not (tmp_path / "ran").exists()


def test_versions_of_timm_that_run_code_in_pickled_weights_are_not_allowed() -> None:
    """1.0.26 is the first that reads all files with ``weights_only=True``."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (least,) = re.findall(r'"timm>=([\d.]+)"', text)
    assert tuple(map(int, least.split("."))) >= (1, 0, 26)


@pytest.fixture
def unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub at an address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited to try again"))


@pytest.mark.usefixtures("flat_transformers", "unreachable_hub")
def test_without_a_network_timm_weights_are_reported_by_address_and_file_without_waiting() -> None:
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1.* cannot be reached") as caught:
        load_backbone("timm:vit_tiny_patch16_224", 96)
    repository = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert f"{repository}/resolve/main/model.safetensors on another machine" in str(caught.value)
    assert "--backbone-weights" in str(caught.value)


@pytest.mark.usefixtures("flat_transformers", "unreachable_hub")
def test_without_a_network_cached_timm_weights_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = timm.create_model("vit_tiny_patch16_224")
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    asked = []

    def cached(repository: str, file: str) -> str | None:
        asked.append((repository, file))
        return str(path) if file == path.name else None

    monkeypatch.setattr("vfm_isbench.backbones.from_timm.try_to_load_from_cache", cached)
    backbone = load_backbone("timm:vit_tiny_patch16_224", 224)
    assert asked == [("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "model.safetensors")]
    loaded, own = backbone.state_dict()["model.cls_token"], model.state_dict()["cls_token"]
    torch.testing.assert_close(loaded, own, rtol=0, atol=0)


@pytest.mark.usefixtures("flat_transformers")
def test_the_file_that_the_error_names_can_be_given_although_timm_reads_another_layout(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224")  # its own loader reads the layout of JAX
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    backbone = load_backbone("timm:vit_tiny_patch16_224", 224, weights=tmp_path / "model.safetensors")
    loaded, own = backbone.state_dict()["model.cls_token"], model.state_dict()["cls_token"]
    torch.testing.assert_close(loaded, own, rtol=0, atol=0)


def test_models_without_published_weights_say_so() -> None:
    with pytest.raises(WeightsError, match="timm publishes no weights of this name"):
        load_backbone("timm:vit_small_patch16_18x2_224", 96)


def test_strides_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="no features at stride 7; it has 2, 4, 8, 16, 32"):
        load_backbone("efficientnet_lite0@7", 224)
    with pytest.raises(UnknownNameError, match="stride after @ must be a whole number"):
        load_backbone("efficientnet_lite0@x", 224)


def test_a_network_without_patch_tokens_needs_a_stride() -> None:
    with pytest.raises(ProtocolError, match="timm:resnet18@16"):
        load_backbone("timm:resnet18", 224, pretrained=False)


@pytest.mark.parametrize(("name", "image_size", "channels", "patch_size"), [
    ("vit_tiny_r_s16_p8_224", 224, 192, 32),  # a convolutional stem before the patches
    ("vit_tiny_patch16_224@16", 64, 192, 16),
    ("swin_tiny_patch4_window7_224@16", 128, 384, 16),
    ("deit_tiny_distilled_patch16_224", 64, 192, 16),  # two tokens before those of the patches
])  # fmt: skip
def test_timm_networks_declare_what_they_do(name: str, image_size: int, channels: int, patch_size: int) -> None:
    backbone = load_backbone(f"timm:{name}", image_size, pretrained=False).eval()
    assert (backbone.channels, backbone.patch_size) == (channels, patch_size)
    cells = image_size // patch_size
    with torch.no_grad():
        assert backbone(torch.zeros(2, 3, image_size, image_size)).shape == (2, channels, cells, cells)


@pytest.mark.parametrize(("name", "image_size", "said"), [
    ("vit_tiny_r_s16_p8_224", 112, "could not build.*image_size 112.*for images of 224×224: set image_size to 224"),
    ("efficientformer_l1@32", 128, "failed on.*made for images of 224×224: set image_size to 224"),
    ("convmixer_768_32", 224, "give a stride, as in timm:convmixer_768_32@7"),
])  # fmt: skip
def test_networks_that_do_not_run_are_refused_with_what_does(name: str, image_size: int, said: str) -> None:
    with pytest.raises(ProtocolError, match=f"(?=.*{name}).*{said}"):
        load_backbone(f"timm:{name}", image_size, pretrained=False)


def test_a_transformer_at_a_stride_gives_its_last_block() -> None:
    backbone = load_backbone("timm:deit_tiny_patch16_224@16", 64, pretrained=False)
    assert len(backbone.model.model.blocks) == 12


class Odd(FakeBackbone):
    """Does something other than it declares, and draws random numbers."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.name, self.change = "timm:test_vit", change

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        return cast(Tensor, self.change(super().forward(image) + torch.rand(1)))


@pytest.mark.parametrize(("change", "said"), [
    (lambda features: features[:, :3], r"returned \(1, 3, 2, 2\) for 1×3×28×28 zeros instead of \(1, 8, 2, 2\)"),
    (lambda features: features / 0, "returned NaN or infinite values"),
    (lambda features: [features], "returned a list"),
    (lambda features: features.no_such_thing, "failed on 1×3×28×28 zeros with AttributeError"),
])  # fmt: skip
def test_every_backbone_is_tried_once(
    change: Callable[[Tensor], Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "load_timm", lambda *_args: Odd(change))
    with pytest.raises(ProtocolError, match=f"'timm:test_vit' {said}"):
        load_backbone("timm:test_vit", 28)


def test_the_trial_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Odd(lambda features: features)
    backbone.mix.eval()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    random = torch.get_rng_state()
    monkeypatch.setattr(load_module, "load_timm", lambda *_args: backbone)
    assert load_backbone("timm:test_vit", 28) is backbone
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert (backbone.training, backbone.norm.training, backbone.mix.training) == (True, True, False)


def test_unknown_names_get_a_suggestion_of_readable_length() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'dinov2_vits14'"):
        load_backbone("dinov2_vits15", 224)
    with pytest.raises(UnknownNameError, match="Did you mean 'timm:resnet18'"):
        load_backbone("resnet18", 224)
    with pytest.raises(UnknownNameError, match="resnet18") as caught:
        load_backbone("timm:resnet81", 224)
    assert len(str(caught.value)) < 500


def test_the_image_must_be_whole_patches() -> None:
    with pytest.raises(ProtocolError, match="image_size 100 is not a multiple of 16.*96 or 112"):
        load_backbone("efficientnet_lite0", 100)


def test_random_weights_are_always_the_same_and_leave_the_generator_alone() -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        backbone = load_backbone("timm:test_vit", 64, pretrained=False)
        assert torch.equal(torch.get_rng_state(), before)
        assert backbone.has_random_weights
        states.append(backbone.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert states[0]["model.blocks.0.attn.qkv.weight"].std() > 0
