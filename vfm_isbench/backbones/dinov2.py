"""DINOv2 in timm's transformer, with the official code's position grid and checkpoint layouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD, check_multiple
from vfm_isbench.backbones.timm_models import ViTBackbone
from vfm_isbench.errors import ProtocolError, WeightsError

PositionEmbedding = Literal["official", "timm"]

OFFSET = 0.1
"""Added to the target size when computing the scale factor (official code, models without registers)."""


def resize_position_grid(grid: Tensor, size: tuple[int, int], *, registers: bool, how: PositionEmbedding) -> Tensor:
    """Resize DINOv2's learned position grid.

    Args:
        grid: 1×C×M×M, as trained (M = 37).
        size: (h, w) of the new patch grid.
        registers: Whether the model has registers; the official code treats such models differently.
        how: "official", or "timm" for timm's antialiased resampling (features differ by about 3 % of their norm).

    Returns:
        1×C×h×w.

    Source: official DINOv2 repository, ``vision_transformer.py``; protocol section 1.2.
    """
    if tuple(grid.shape[-2:]) == size:
        return grid
    if how == "timm" or registers:
        return functional.interpolate(grid, size=size, mode="bicubic", antialias=True)
    # PyTorch uses this scale factor directly instead of recomputing it from the output size; this shifts the samples.
    scale = tuple((side + OFFSET) / trained for side, trained in zip(size, grid.shape[-2:], strict=True))
    resized = functional.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=False)
    if tuple(resized.shape[-2:]) != size:
        raise ProtocolError(
            f"the official code cannot resize DINOv2's position grid to {size[0]}×{size[1]} patches: its rounding "
            f"gives {resized.shape[-2]}×{resized.shape[-1]}; choose another image size"
        )
    return resized


def _timm_state(
    state: Mapping[str, Tensor], grid: tuple[int, int], how: PositionEmbedding
) -> tuple[dict[str, Tensor], int]:
    """Convert an official or timm state dict for a transformer without class position; also count the registers."""
    fixed = {key: value.float() for key, value in state.items() if key != "mask_token"}
    registers = fixed.pop("register_tokens", fixed.pop("reg_token", None))
    position = fixed["pos_embed"]
    side = int(position.shape[1] ** 0.5)
    if position.shape[1] == side**2 + 1:
        # Adding the class position to the class token beforehand gives the same sum.
        fixed["cls_token"] = fixed["cls_token"] + position[:, :1]
        position = position[:, 1:]
    trained = position.transpose(1, 2).reshape(1, -1, side, side)
    resized = resize_position_grid(trained, grid, registers=registers is not None, how=how)
    fixed["pos_embed"] = resized.flatten(2).transpose(1, 2)
    if registers is not None:
        fixed["reg_token"] = registers
    return fixed, 0 if registers is None else registers.shape[1]


def build_dinov2(
    name: str,
    state: Mapping[str, Tensor],
    image_size: tuple[int, int],
    *,
    num_heads: int | None = None,
    position_embedding: PositionEmbedding = "official",
) -> ViTBackbone:
    """Build DINOv2 from a state dict; its tensors determine channels, depth, patch size and registers.

    Args:
        name: Name for messages and results.
        state: State dict in the official layout (``register_tokens``) or timm's (``reg_token``).
        image_size: (H, W) of the input images; the position grid is resized to it once.
        num_heads: Attention heads; by default channels / 64, as in all published models.
        position_embedding: See :func:`resize_position_grid`.

    Raises:
        WeightsError: if the tensors do not come from a DINOv2 transformer.
        ProtocolError: if the image size is not a multiple of the patch size.
    """
    from timm.models.vision_transformer import VisionTransformer  # here, because importing timm takes seconds

    needed = ("patch_embed.proj.weight", "pos_embed", "cls_token", "norm.weight", "blocks.0.attn.qkv.weight")
    missing = [key for key in needed if key not in state]
    if missing:
        raise WeightsError(
            f"these are not weights of a DINOv2 transformer: {', '.join(missing)} missing among {len(state)} tensors "
            f"(first ones: {', '.join(list(state)[:3])}). Expected the layout of the official checkpoints or of timm."
        )
    channels, _, patch_size, _ = state["patch_embed.proj.weight"].shape
    if num_heads is None and channels % 64:
        raise WeightsError(
            f"weights with {channels} channels cannot belong to {name!r}: each attention head of DINOv2 has 64 channels"
        )
    for side in image_size:
        check_multiple(side, patch_size, f"backbone {name!r}")
    grid = (image_size[0] // patch_size, image_size[1] // patch_size)
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    fixed, registers = _timm_state(state, grid, position_embedding)
    model = VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        embed_dim=channels,
        depth=depth,
        num_heads=num_heads or channels // 64,
        mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] / channels,
        init_values=1.0,
        reg_tokens=registers,
        no_embed_class=True,
        num_classes=0,
        global_pool="",
    )
    try:
        model.load_state_dict(fixed)
    except RuntimeError as error:
        raise WeightsError(f"the weights do not fit {name!r}: {error}") from error
    backbone = ViTBackbone(name, model, IMAGENET_MEAN, IMAGENET_STD)
    return backbone.to(torch.float32)
