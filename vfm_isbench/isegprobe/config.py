"""The architecture described in a checkpoint of iSegProbe, translated to this library's terms."""

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
CHANNELS = 384
INJECTIONS: dict[str, Injection] = {"before_backbone": "early", "after_backbone": "pre_upsampler"}
CLICK_ENCODERS: dict[str, ClickEncoderName] = {"patchEmbed": "patch_embedding", "simple_vit": "simple_vit"}
HEADS: dict[str, HeadName] = {"convhead": "conv", "linear": "linear"}
UPSAMPLERS = {name: name for name in ("identity", "nearest", "bilinear", "bicubic", "lift", "loftup")} | {
    # iSegProbe uses the first; the others can only mean FeatUp's, its one joint bilateral upsampler.
    name: "featup"
    for name in ("jbu_featup", "featup_jbu", "featup", "jbu")
}
"""Names in iSegProbe (core/model/upsamplers/__init__.py, core/model/heads/__init__.py, …) and in this library."""

PARAMETERS = frozenset(
    {"backbone_cfg", "head_cfg", "embed_coords_cfg", "neck_cfg", "upsampler_cfg", "save_cfg", "architecture"}
    | {"model_builder", "with_aux_output", "norm_radius", "use_disks", "cpu_dist_maps", "use_rgb_conv"}
    | {"use_leaky_relu", "with_prev_mask", "norm_mean_std"}
)
"""Parameters of ``iSegProbeModel`` and its base class."""

SIMPLE_VIT = {"depth": "depth", "heads": "heads", "head_width": "dim_head", "hidden": "mlp_dim"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceModel:
    """Architecture of a model of iSegProbe; its clicks are always disks, together with the previous mask.

    Attributes:
        backbone: Name, see :func:`backbone_name`.
        backbone_heads: Attention heads of the backbone; None if the file does not say.
        channels: Channels of features and click tokens.
        patch_size: Side of a patch in pixels.
        image_size: Side of the network input in pixels.
        click_encoder: "patch_embedding" or "simple_vit".
        simple_vit: ``depth``, ``heads``, ``head_width`` and ``hidden`` of a SimpleViT; empty for a patch embedding.
        injection: Where click tokens are added.
        head: "conv" or "linear".
        head_layers: Number of 3×3 convolutions in the conv head; 0 for the linear head.
        upsampler: "identity", "nearest", "bilinear", "bicubic", "lift", "featup" or "loftup".
        featup_norm: Whether the weights of FeatUp were trained with its channel norm in front.
        disk_radius: Radius of click disks in pixels.
    """

    backbone: str
    backbone_heads: int | None = None
    channels: int
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


def backbone_name(channels: int) -> str:
    """Name of a DINOv2 with so many channels: iSegProbe has only ViT-S/14, and our tests use smaller ones."""
    return BACKBONE if channels == CHANNELS else f"dinov2_width{channels}"


def model_of_parameters(parameters: Mapping[str, Any], source: Path) -> ReferenceModel:
    """Read the parameters of ``iSegProbeModel``, as its checkpoints store them.

    Args:
        parameters: Values by parameter name.
        source: The checkpoint, for messages.

    Raises:
        RunError: if a parameter is missing, or asks for something this library lacks.
    """
    top = Section(source, parameters, "")
    _check_fixed(top, parameters)
    backbone = top.section("backbone_cfg")
    backbone.choice("type", {"dinov2": None})
    backbone.section("params").expect("arch", BACKBONE, default=BACKBONE)
    encoder, head = top.section("embed_coords_cfg"), top.section("head_cfg")
    click_encoder, sizes = encoder.choice("type", CLICK_ENCODERS), encoder.section("params")
    sizes.expect("channels", 3, default=3)
    channels = sizes.whole("embed_dim")
    upsampler, featup_norm = _upsampler(top)
    return ReferenceModel(
        backbone=backbone_name(channels),
        channels=channels,
        patch_size=sizes.side("patch_size"),
        image_size=sizes.side("img_size"),
        click_encoder=click_encoder,
        simple_vit=_simple_vit(click_encoder, sizes),
        injection=backbone.section("params").choice("feats_injection_mode", INJECTIONS),
        head=head.choice("type", HEADS),
        head_layers=_head_layers(head.section("params"), head.choice("type", HEADS), channels),
        upsampler=upsampler,
        featup_norm=featup_norm,
        disk_radius=top.positive("norm_radius", default=5),
    )


def _check_fixed(top: Section, parameters: Mapping[str, Any]) -> None:
    """Refuse unknown parameters, and other values than the only one supported."""
    for name in parameters:
        if name not in PARAMETERS:
            raise top.refusal(name, "a model without it; the iSegProbe this library knows has no such parameter")
    top.expect("architecture", ARCHITECTURE, default=ARCHITECTURE)
    top.expect("neck_cfg", None, default=None)
    top.expect("use_disks", True, default=False)
    top.expect("with_prev_mask", True, default=False)
    for name in ("with_aux_output", "use_rgb_conv", "use_leaky_relu"):
        top.expect(name, False, default=False)
    top.expect("norm_mean_std", ([*IMAGENET_MEAN], [*IMAGENET_STD]), default=([*IMAGENET_MEAN], [*IMAGENET_STD]))


def _upsampler(top: Section) -> tuple[str, bool]:
    """The upsampler's name, and whether FeatUp has its channel norm."""
    if top.value("upsampler_cfg") is None:  # iSegProbe then uses bilinear
        return "bilinear", True
    chosen = top.section("upsampler_cfg")
    name = chosen.choice("type", UPSAMPLERS)
    has_params = name == "featup" and chosen.value("params") is not None
    return name, not has_params or chosen.section("params").value("use_norm") is not False


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
    channels = backbone.whole("embed_dim")
    encoder.expect("embed_dim", channels, default=channels)
    encoder.expect("dim", channels, default=channels)
    click_encoder = top.choice("click_encoder", {name: name for name in CLICK_ENCODERS.values()})
    head = top.section("head").choice("type", {name: name for name in HEADS.values()})
    return ReferenceModel(
        backbone=backbone_name(channels),
        backbone_heads=backbone.whole("num_heads"),
        channels=channels,
        patch_size=encoder.side("patch_size"),
        image_size=encoder.side("image_size"),
        click_encoder=click_encoder,
        simple_vit=_simple_vit(click_encoder, encoder),
        injection=top.choice("injection", {"early": "early", "pre_upsampler": "pre_upsampler", "late": "late"}),
        head=head,
        head_layers=_head_layers(top.section("head"), head, channels),
        upsampler=top.choice("upsampler", UPSAMPLERS),
        disk_radius=clicks.positive("disk_radius", default=5),
    )


def _simple_vit(click_encoder: ClickEncoderName, sizes: Section) -> dict[str, int]:
    if click_encoder != "simple_vit":
        return {}
    return {name: sizes.whole(theirs) for name, theirs in SIMPLE_VIT.items()}


def _head_layers(sizes: Section, head: HeadName, channels: int) -> int:
    sizes.expect("in_channels", channels, default=channels)
    sizes.expect("num_classes", 1, default=1)
    return sizes.whole("num_layers") if head == "conv" else 0
