"""DINOv2 equals the official code, with and without registers, at three image sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity_models import Deviation
from safetensors.torch import load_file

from vfm_isbench.backbones.dinov2 import PositionEmbedding, build_dinov2


def tokens_and_record(path: Path, size: int, how: PositionEmbedding) -> tuple[torch.Tensor, torch.Tensor]:
    recorded = load_file(path)
    state = {key.removeprefix("state."): value for key, value in recorded.items() if key.startswith("state.")}
    image = recorded[f"image_{size}"]
    shape = image.shape[-2], image.shape[-1]
    backbone = build_dinov2("small", state, shape, num_heads=2, position_embedding=how).eval()
    with torch.no_grad():
        return backbone(image).flatten(2).transpose(1, 2), recorded[f"patch_tokens_{size}"]


@pytest.mark.parametrize("size", [224, 112, 518])
@pytest.mark.parametrize("name", ["dinov2_small_random", "dinov2_reg_small_random"])
def test_patch_tokens(parity_root: Path, name: str, size: int, deviation: Deviation) -> None:
    tokens, recorded = tokens_and_record(parity_root / f"{name}.safetensors", size, "official")
    assert tokens.shape == recorded.shape
    kind = "with registers" if "reg" in name else "without registers"
    deviation(f"backbone: DINOv2 patch tokens, {kind}", float((tokens - recorded).abs().max()), 1e-5)


def test_timm_resizing_gives_other_tokens(parity_root: Path) -> None:
    tokens, recorded = tokens_and_record(parity_root / "dinov2_small_random.safetensors", 224, "timm")
    assert (tokens - recorded).norm() > 0.01 * recorded.norm()
