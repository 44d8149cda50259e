"""From a protocol's names to modules."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from vfm_isbench.backbones import Backbone
from vfm_isbench.click_encoders import make_click_encoder
from vfm_isbench.errors import ProtocolError, VfmIsbenchWarning
from vfm_isbench.heads import ConvHead, LinearHead, PyramidHead, UpsampledPyramidHead
from vfm_isbench.probe.adapters import check_adapters, make_adapters
from vfm_isbench.probe.backbone_access import with_backbone
from vfm_isbench.probe.end_to_end import own_backbone, own_upsampler
from vfm_isbench.probe.probe import Probe
from vfm_isbench.probe.torch_state import own_random_numbers
from vfm_isbench.protocol import Protocol
from vfm_isbench.upsamplers import LoadedUpsampler, Upsampler


def build_click_encoder(protocol: Protocol, backbone: Backbone) -> nn.Module:
    """Build the click encoder for a backbone's channels and patch size."""
    return make_click_encoder(backbone.channels, backbone.patch_size, protocol)


def build_head(protocol: Protocol, channels: int) -> nn.Module:
    """Build the segmentation head for features with ``channels`` channels."""
    match protocol.head:
        case "linear":
            return LinearHead(channels)
        case "conv":
            return ConvHead(channels, protocol.head_layers)
        case "pyramid":
            return PyramidHead(channels, protocol.pyramid_width)
    return UpsampledPyramidHead(
        channels, protocol.pyramid_width, keeps_channels=protocol.head == "upsampled_pyramid_full"
    )


def widest(protocol: Protocol) -> int:
    """Channels of a pyramid's fused levels; 0 for other heads, which have as many as the features."""
    return 2 * protocol.pyramid_width if "pyramid" in protocol.head else 0


def check_head(protocol: Protocol, upsampler: LoadedUpsampler) -> None:
    """Refuse a pyramid whose levels cannot come from what the upsampler returns.

    Raises:
        ProtocolError: naming the head or upsampler to take instead.
    """
    stays_on_grid = upsampler.capabilities.keeps_patch_resolution
    if protocol.head == "pyramid" and not stays_on_grid:
        raise ProtocolError(
            f"head 'pyramid' makes its levels from the backbone's own map, so the upsampler {upsampler.name!r} would "
            "play no part; take the upsampler 'identity', or head 'upsampled_pyramid' (command line: --head "
            "upsampled_pyramid)"
        )
    if protocol.head in ("upsampled_pyramid", "upsampled_pyramid_full") and stays_on_grid:
        raise ProtocolError(
            f"head {protocol.head!r} makes its levels from features at the size of the image, but the upsampler "
            f"{upsampler.name!r} leaves them on the patch grid; take head 'pyramid' (command line: --head pyramid), or "
            "another upsampler"
        )


def check_combination(protocol: Protocol, backbone: Backbone) -> tuple[str, ...]:
    """Refuse combinations that cannot work, and warn about those that the paper found to work badly.

    Returns:
        Notes for the result; each was also given as a warning.

    Raises:
        ProtocolError: for early injection on a backbone without a patch embedding, an image size it cannot take, or
            adapters without a place in it.
    """
    backbone.grid(protocol.image_size)
    check_adapters(protocol, backbone)
    if protocol.injection == "early" and not backbone.takes_click_tokens:
        raise ProtocolError(
            f"injection 'early' adds click tokens after a patch embedding, which backbone {protocol.backbone!r} does "
            "not have; use injection 'late' (or 'pre_upsampler'), or a vision transformer"
        )
    paired = {"patch_embedding": ("early",), "simple_vit": ("late", "pre_upsampler")}
    if protocol.injection in paired.get(protocol.click_encoder, (protocol.injection,)):
        return ()
    note = (
        f"click encoder {protocol.click_encoder!r} with injection {protocol.injection!r} is a mismatched pair: the "
        "paper found such pairs to lose 15 points of IoU@1 and more (patch embedding: 51.67 late, 69.61 early)"
    )
    warnings.warn(note, VfmIsbenchWarning, stacklevel=3)
    return (note,)


def check_upsampler_of_adapted(protocol: Protocol, upsampler: LoadedUpsampler) -> None:
    """Refuse an upsampler that computes features itself where the others get those of an adapted backbone.

    Raises:
        ProtocolError: if it does.
    """
    if protocol.granularity == "lora" and upsampler.capabilities.bind_backbone is not None:
        raise ProtocolError(
            f"the upsampler {upsampler.name!r} calls the backbone itself (needs_backbone), and would get features "
            "without the adapters of granularity 'lora'; use granularity 'input' or 'gated_lora'"
        )


def build_probe(protocol: Protocol, backbone: Backbone, upsampler: Upsampler | LoadedUpsampler) -> Probe:
    """Assemble a probe with new click encoder, head and adapters, initialised from the protocol's seed.

    Whatever of backbone and upsampler the protocol trains is copied, so that the given ones stay as they are.

    Raises:
        ProtocolError: if parts do not go together.
        ContractError: if the upsampler is to be trained and cannot be copied.
    """
    upsampler = LoadedUpsampler.of(upsampler)
    check_head(protocol, upsampler)
    if protocol.train_backbone:
        backbone = own_backbone(backbone)
    if protocol.train_upsampler:
        upsampler = own_upsampler(upsampler)
    upsampler = with_backbone(upsampler, backbone)
    check_upsampler_of_adapted(protocol, upsampler)
    # Layers draw their initial weights from the global generator.
    with own_random_numbers():
        torch.manual_seed(protocol.seed)
        click_encoder = build_click_encoder(protocol, backbone)
        # The memory layout in which 3×3 convolutions run fastest, on CPUs up to twice as fast.
        head = build_head(protocol, backbone.channels).to(memory_format=torch.channels_last)
        adapters = make_adapters(protocol, backbone)  # last, so that the others start as without it
    return Probe(
        backbone,
        upsampler,
        click_encoder,
        head,
        injection=protocol.injection,
        align_corners=protocol.align_corners,
        trained_parts=protocol.trained_parts,
        adapters=adapters,
    )
