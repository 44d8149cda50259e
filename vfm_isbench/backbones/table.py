"""The table of backbones: what of each family runs here, what it gives, and which published upsamplers fit it.

Tests compare every row with the network itself, see ``tests/backbones/test_table.py``; ``docs/backbones.md`` shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vfm_isbench.backbones.base import FeatureNorm

Colours = Literal["ImageNet", "CLIP", "0.5", "none"]

COLOURS: dict[Colours, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation that normalise the input."""

INJECTIONS = ("early", "late", "pre_upsampler")


@dataclass(frozen=True, slots=True)
class Row:
    """One backbone.

    Attributes:
        family: Whose model it is.
        name: What ``--backbone`` takes.
        channels: Number of feature channels.
        patch_size: Pixels per feature cell and side.
        prefix: Tokens before those of the patches, which are dropped.
        colours: Normalisation of its input, see :data:`COLOURS`.
        feature_norm: What brings its features to a usual size.
        early: Whether click tokens can be injected early.
        upsamplers: Published upsamplers that were trained for it; those made for any backbone fit all.
        tried_at: Image sizes at which it was built with random weights and run, in pixels.
        remark: What else to know.
    """

    family: str
    name: str
    channels: int
    patch_size: int
    prefix: int
    colours: Colours
    feature_norm: FeatureNorm = "final norm"
    early: bool = True
    upsamplers: tuple[str, ...] = ()
    tried_at: int = 224
    remark: str = ""

    @property
    def injections(self) -> tuple[str, ...]:
        """Injections that it works with."""
        return INJECTIONS if self.early else INJECTIONS[1:]


def _map(family: str, name: str, channels: int, colours: Colours = "ImageNet", **more: object) -> Row:
    """A feature map at stride 16, or at the stride in the name."""
    stride = int(name.rpartition("@")[2])
    return Row(family, name, channels, stride, 0, colours, "standardised", False, **more)  # type: ignore[arg-type]


_FOR_DINOV2_S = ("loftup:dinov2s", "featup:dinov2", "lift:FILE", "UPLiFT")
_PACKAGED = "weights from a package, without the hub"
_CNN_REMARK = "2048 channels; the stride of its training was not verified"

TABLE = (
    Row("DINOv2", "dinov2_vits14", 384, 14, 1, "ImageNet", upsamplers=_FOR_DINOV2_S),
    Row("DINOv2", "dinov2_vits14_reg", 384, 14, 5, "ImageNet", upsamplers=("loftup:dinov2s_reg",)),
    Row("DINOv2", "dinov2_vitb14", 768, 14, 1, "ImageNet", upsamplers=("loftup:dinov2b",)),
    Row("DINOv2", "dinov2_vitb14_reg", 768, 14, 5, "ImageNet", upsamplers=("loftup:dinov2b_reg",)),
    Row("DINOv2", "dinov2_vitl14", 1024, 14, 1, "ImageNet"),
    Row("DINOv2", "dinov2_vitl14_reg", 1024, 14, 5, "ImageNet"),
    Row("DINOv3", "timm:vit_small_patch16_dinov3.lvd1689m", 384, 16, 5, "ImageNet"),
    Row("DINOv3", "timm:vit_small_plus_patch16_dinov3.lvd1689m", 384, 16, 5, "ImageNet", upsamplers=("UPLiFT",)),
    Row("DINOv3", "timm:vit_base_patch16_dinov3.lvd1689m", 768, 16, 5, "ImageNet"),
    Row("DINOv3", "timm:vit_large_patch16_dinov3.lvd1689m", 1024, 16, 5, "ImageNet"),
    _map("DINOv3 ConvNeXt", "timm:convnext_tiny.dinov3_lvd1689m@16", 384),
    _map("DINOv3 ConvNeXt", "timm:convnext_small.dinov3_lvd1689m@16", 384),
    _map("DINOv3 ConvNeXt", "timm:convnext_base.dinov3_lvd1689m@16", 512),
    Row("SigLIP", "timm:vit_base_patch16_siglip_224.webli", 768, 16, 0, "0.5", upsamplers=("loftup:siglip",)),
    Row("SigLIP 2", "timm:vit_base_patch16_siglip_224.v2_webli", 768, 16, 0, "0.5", upsamplers=("loftup:siglip2",)),
    Row("SigLIP 2 NaFlex", "timm:naflexvit_base_patch16_siglip.v2_webli", 768, 16, 0, "0.5"),
    Row("CLIP", "timm:vit_base_patch16_clip_quickgelu_224.openai", 768, 16, 1, "CLIP"),
    Row("CLIP", "timm:vit_large_patch14_clip_quickgelu_224.openai", 1024, 14, 1, "CLIP"),
    Row("CLIP, projected", "clip_vitb16", 512, 16, 1, "CLIP", "projection", False, ("loftup:clip", "featup:clip")),
    Row("MaskCLIP", "maskclip_vitb16", 512, 16, 1, "CLIP", "projection", False, ("featup:maskclip",)),
    Row("MAE", "timm:vit_base_patch16_224.mae", 768, 16, 1, "ImageNet"),
    Row("MAE", "timm:vit_large_patch16_224.mae", 1024, 16, 1, "ImageNet"),
    Row("DINO", "timm:vit_small_patch16_224.dino", 384, 16, 1, "ImageNet", upsamplers=("featup:dino16", "lift:FILE")),
    Row("DINO", "timm:vit_small_patch8_224.dino", 384, 8, 1, "ImageNet"),
    Row("DINO", "timm:vit_base_patch16_224.dino", 768, 16, 1, "ImageNet"),
    Row("supervised", "timm:vit_small_patch16_224.augreg_in21k_ft_in1k", 384, 16, 1, "0.5", upsamplers=("featup:vit",)),
    Row("supervised", "timm:vit_base_patch16_224.augreg_in21k_ft_in1k", 768, 16, 1, "0.5"),
    Row("supervised", "timm:deit3_small_patch16_224.fb_in1k", 384, 16, 1, "ImageNet"),
    _map("supervised", "timm:resnet50.tv_in1k@32", 2048, upsamplers=("featup:resnet50",), remark=_CNN_REMARK),
    _map("supervised", "efficientnet_lite0@8", 40, "0.5", remark=_PACKAGED),
    _map("supervised", "efficientnet_lite0@16", 112, "0.5", remark=_PACKAGED),
    _map("supervised", "efficientnet_lite0@32", 320, "0.5", remark=_PACKAGED),
    Row("C-RADIO", "timm:vit_base_patch16_radio_v3.c_radio", 768, 16, 8, "CLIP", "standardised"),
    Row("C-RADIO", "timm:vit_large_patch16_radio_v3.c_radio", 1024, 16, 8, "CLIP", "standardised"),
    Row("C-RADIO", "timm:vit_so400m_patch16_radio_v4.c_radio", 1152, 16, 10, "CLIP", "standardised"),
    Row("C-RADIO NaFlex", "timm:naflexvit_base_patch16_radio_v3.c_radio", 768, 16, 8, "CLIP", "standardised"),
    Row("PE-Core", "timm:vit_pe_core_tiny_patch16_384.fb", 192, 16, 1, "0.5"),
    Row("PE-Core", "timm:vit_pe_core_small_patch16_384.fb", 384, 16, 1, "0.5"),
    Row("PE-Core", "timm:vit_pe_core_base_patch16_224.fb", 768, 16, 1, "0.5"),
    Row("PE-Spatial", "timm:vit_pe_spatial_tiny_patch16_512.fb", 192, 16, 1, "0.5", "standardised"),
    Row("PE-Spatial", "timm:vit_pe_spatial_small_patch16_512.fb", 384, 16, 1, "0.5", "standardised"),
    Row("PE-Spatial", "timm:vit_pe_spatial_base_patch16_512.fb", 768, 16, 1, "0.5", "standardised"),
    Row("PE-Spatial", "timm:vit_pe_spatial_large_patch14_448.fb", 1024, 14, 1, "0.5", "standardised"),
    Row("EVA-02", "timm:eva02_tiny_patch14_224.mim_in22k", 192, 14, 1, "CLIP"),
    Row("EVA-02", "timm:eva02_small_patch14_224.mim_in22k", 384, 14, 1, "CLIP"),
    Row("EVA-02", "timm:eva02_base_patch14_224.mim_in22k", 768, 14, 1, "CLIP"),
    Row("BEiT", "timm:beit_base_patch16_224.in22k_ft_in22k", 768, 16, 1, "0.5"),
    Row("BEiT v2", "timm:beitv2_base_patch16_224.in1k_ft_in22k", 768, 16, 1, "ImageNet"),
    Row("BEiT-3", "timm:beit3_base_patch16_224.pt", 768, 16, 1, "ImageNet"),
    Row("TIPSv2", "timm:vit_base_patch14_reg1_tipsv2.webli", 768, 14, 2, "none"),
    Row("AIMv2", "timm:aimv2_large_patch14_224.apple_pt", 1024, 14, 0, "CLIP"),
    Row("NaFlexViT", "timm:naflexvit_base_patch16_gap.e300_s576_in1k", 768, 16, 4, "0.5", "standardised"),
    _map("SAM 2 Hiera", "timm:sam2_hiera_tiny.fb_r896_2pt1@16", 384),
    _map("SAM 2 Hiera", "timm:sam2_hiera_base_plus.fb_r896_2pt1@16", 448),
    _map("Hiera", "timm:hiera_tiny_224.mae@16", 384),
)  # fmt: skip
"""Every backbone that was tried, by family."""


def backbones_with(channels: int) -> list[Row]:
    """Rows with so many channels, those that a published upsampler was trained for first."""
    found = [row for row in TABLE if row.channels == channels]
    return sorted(found, key=lambda row: not row.upsamplers)


def made_for(upsampler: str) -> Row | None:
    """The backbone that a published upsampler was trained for, by the name of the upsampler."""
    name = upsampler.partition("?")[0]
    return next((row for row in TABLE if name in row.upsamplers), None)


HEADER = (
    "family",
    "--backbone",
    "channels",
    "patch",
    "prefix",
    "input",
    "features",
    "injections",
    "made for it",
    "tried",
)


def cells(row: Row) -> tuple[str, ...]:
    """A row in words, under :data:`HEADER`."""
    return (
        row.family,
        row.name,
        str(row.channels),
        str(row.patch_size),
        str(row.prefix),
        row.colours,
        row.feature_norm,
        "all" if row.early else ", ".join(row.injections),
        f"{', '.join(row.upsamplers) or '–'}{f' ({row.remark})' if row.remark else ''}",
        f"random weights, {row.tried_at} px",
    )


LEGEND = (
    "prefix: tokens before those of the patches, which are dropped. input: mean and deviation of the colours. "
    "features: what brings them to a usual size (the network's final norm, standardising every cell over its channels, "
    "or the final norm followed by CLIP's projection). made for it: published upsamplers that were trained on these "
    "features; those for any backbone (AnyUp, NAF, Upsample Anything, interpolation, JBU) fit all. tried: built and "
    "run here, with which weights. Pretrained weights could be tried here only for efficientnet_lite0."
)


def table_lines() -> list[str]:
    """The table for a terminal."""
    rows = [HEADER, *map(cells, TABLE)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, "", LEGEND]


def markdown_lines() -> list[str]:
    """The table of ``docs/backbones.md``."""
    rows = [HEADER, ("---",) * len(HEADER), *((row[0], f"`{row[1]}`", *row[2:]) for row in map(cells, TABLE))]
    return [f"| {' | '.join(row)} |" for row in rows]
