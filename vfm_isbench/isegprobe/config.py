"""What a checkpoint of iSegProbe says about its model, in this library's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfm_isbench.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from vfm_isbench.isegprobe.sections import Section
from vfm_isbench.protocol import Protocol
from vfm_isbench.protocol.validation import ClickEncoderName, HeadName, Injection

ARCHITECTURE = "backbone_upsampler_head"
BACKBONE = "dinov2_vits14"
WIDTH = 384
INJECTIONS: dict[str, Injection] = {"before_backbone": "early", "after_backbone": "pre_upsampler"}
CLICK_ENCODERS: dict[str, ClickEncoderName] = {"patchEmbed": "patch_embedding", "simple_vit": "simple_vit"}
HEADS: dict[str, HeadName] = {"convhead": "conv", "linear": "linear"}
UPSAMPLERS = {name: name for name in ("identity", "nearest", "bilinear", "bicubic", "lift", "loftup")} | {
    # The first is iSegProbe's; the others are unmistakable, as the only joint bilateral upsampler there is FeatUp's.
    name: "featup"
    for name in ("jbu_featup", "featup_jbu", "featup", "jbu")
}
"""Names of iSegProbe (core/model/upsamplers/__init__.py, core/model/heads/__init__.py, …) and of this library."""

PARAMETERS = frozenset(
    {"backbone_cfg", "head_cfg", "embed_coords_cfg", "neck_cfg", "upsampler_cfg", "save_cfg", "architecture"}
    | {"model_builder", "with_aux_output", "norm_radius", "use_disks", "cpu_dist_maps", "use_rgb_conv"}
    | {"use_leaky_relu", "with_prev_mask", "norm_mean_std"}
)
"""Parameters of ``iSegProbeModel`` and its base class."""

SIMPLE_VIT = {"depth": "depth", "heads": "heads", "head_width": "dim_head", "hidden": "mlp_dim"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceModel:
    """Architecture of a model of iSegProbe. Its clicks come with the previous mask, and as disks, always.

    Attributes:
        backbone: Name, see :func:`backbone_name`.
        backbone_heads: Attention heads of the backbone; None where the file does not say.
        width: Channels of features and click tokens.
        patch_size: Patch side in pixels.
        image_size: Side of the network input in pixels.
        click_encoder: "patch_embedding" or "simple_vit".
        simple_vit: ``depth``, ``heads``, ``head_width`` and ``hidden`` of a SimpleViT; empty for a patch embedding.
        injection: Where click tokens are added.
        head: "conv" or "linear".
        head_layers: 3×3 convolutions of the conv head; 0 of the linear one.
        upsampler: "identity", "nearest", "bilinear", "bicubic", "lift", "featup" or "loftup".
        featup_norm: Whether FeatUp's weights were trained behind its channel norm; where not, they are others.
        disk_radius: Radius of click disks in pixels.
    """

    backbone: str
    backbone_heads: int | None = None
    width: int
    patch_size: int
    image_size: int
    click_encoder: ClickEncoderName
    simple_vit: Mapping[str, int] = field(default_factory=dict)
    injection: Injection
    head: HeadName
    head_layers: int
    upsampler: str
    featup_norm: bool = True
    disk_radius: float

    def protocol(self) -> Protocol:
        """The protocol "reference" with every field that the model determines."""
        changes: dict[str, Any] = {f"simple_vit_{name}": value for name, value in self.simple_vit.items()}
        if self.head == "conv":
            changes["head_layers"] = self.head_layers
        return Protocol.preset("reference").replace(
            backbone=self.backbone,
            image_size=self.image_size,
            click_encoder=self.click_encoder,
            injection=self.injection,
            head=self.head,
            disk_radius=self.disk_radius,
            **changes,
        )


def backbone_name(width: int) -> str:
    """Name of a DINOv2 of that width: iSegProbe knows ViT-S/14 only; small ones for tests are told apart by width."""
    return BACKBONE if width == WIDTH else f"dinov2_width{width}"


def model_of_parameters(parameters: Mapping[str, Any], source: Path) -> ReferenceModel:
    """Read the parameters of ``iSegProbeModel``, as its checkpoints store them.

    Args:
        parameters: Values by parameter name.
        source: The checkpoint, for messages.

    Raises:
        RunError: if one of them is missing, or asks for what this library does not have.
    """
    top = Section(source, parameters, "")
    for name in parameters:
        if name not in PARAMETERS:
            raise top.refusal(name, "a model without it; it is no parameter of the iSegProbe this library knows")
    top.expect("architecture", ARCHITECTURE, default=ARCHITECTURE)
    top.expect("neck_cfg", None, default=None)
    top.expect("use_disks", True, default=False)
    top.expect("with_prev_mask", True, default=False)
    for name in ("with_aux_output", "use_rgb_conv", "use_leaky_relu"):
        top.expect(name, False, default=False)
    top.expect("norm_mean_std", ([*IMAGENET_MEAN], [*IMAGENET_STD]), default=([*IMAGENET_MEAN], [*IMAGENET_STD]))
    backbone = top.section("backbone_cfg")
    backbone.choice("type", {"dinov2": None})
    backbone.section("params").expect("arch", BACKBONE, default=BACKBONE)
    encoder, head = top.section("embed_coords_cfg"), top.section("head_cfg")
    click_encoder, sizes = encoder.choice("type", CLICK_ENCODERS), encoder.section("params")
    sizes.expect("channels", 3, default=3)
    width = sizes.whole("embed_dim")
    # What the absence of the upsampler's configuration means.
    upsampler, featup_norm = "bilinear", True
    if top.value("upsampler_cfg") is not None:
        chosen = top.section("upsampler_cfg")
        upsampler = chosen.choice("type", UPSAMPLERS)
        if upsampler == "featup" and chosen.value("params") is not None:
            featup_norm = chosen.section("params").value("use_norm") is not False
    return ReferenceModel(
        backbone=backbone_name(width),
        width=width,
        patch_size=sizes.side("patch_size"),
        image_size=sizes.side("img_size"),
        click_encoder=click_encoder,
        simple_vit=_simple_vit(click_encoder, sizes),
        injection=backbone.section("params").choice("feats_injection_mode", INJECTIONS),
        head=head.choice("type", HEADS),
        head_layers=_head_layers(head.section("params"), head.choice("type", HEADS), width),
        upsampler=upsampler,
        featup_norm=featup_norm,
        disk_radius=top.positive("norm_radius", default=5),
    )


def model_of_description(description: Mapping[str, Any], source: Path) -> ReferenceModel:
    """Read the description in the header of a safetensors file, as the recorded models have it.

    Args:
        description: The JSON object in the metadata key ``config``.
        source: The file, for messages.

    Raises:
        RunError: if something is missing in it, or asks for what this library does not have.
    """
    top = Section(source, description, "")
    backbone, encoder, clicks = top.section("backbone"), top.section("click_encoder_params"), top.section("clicks")
    backbone.choice("type", {"dinov2": None})
    clicks.expect("previous_mask", True, default=True)
    encoder.expect("channels", 3, default=3)
    width = backbone.whole("embed_dim")
    encoder.expect("embed_dim", width, default=width)
    encoder.expect("dim", width, default=width)
    click_encoder = top.choice("click_encoder", {name: name for name in CLICK_ENCODERS.values()})
    head = top.section("head").choice("type", {name: name for name in HEADS.values()})
    return ReferenceModel(
        backbone=backbone_name(width),
        backbone_heads=backbone.whole("num_heads"),
        width=width,
        patch_size=encoder.side("patch_size"),
        image_size=encoder.side("image_size"),
        click_encoder=click_encoder,
        simple_vit=_simple_vit(click_encoder, encoder),
        injection=top.choice("injection", {"early": "early", "pre_upsampler": "pre_upsampler", "late": "late"}),
        head=head,
        head_layers=_head_layers(top.section("head"), head, width),
        upsampler=top.choice("upsampler", UPSAMPLERS),
        disk_radius=clicks.positive("disk_radius", default=5),
    )


def _simple_vit(click_encoder: ClickEncoderName, sizes: Section) -> dict[str, int]:
    if click_encoder != "simple_vit":
        return {}
    return {name: sizes.whole(theirs) for name, theirs in SIMPLE_VIT.items()}


def _head_layers(sizes: Section, head: HeadName, width: int) -> int:
    sizes.expect("in_channels", width, default=width)
    sizes.expect("num_classes", 1, default=1)
    return sizes.whole("num_layers") if head == "conv" else 0
