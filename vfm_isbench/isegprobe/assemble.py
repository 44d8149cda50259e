"""Build a probe from a checkpoint of iSegProbe."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vfm_isbench.backbones import Backbone, list_backbones, load_backbone
from vfm_isbench.backbones.dinov2 import build_dinov2
from vfm_isbench.errors import RunError, VfmIsbenchWarning, WeightsError
from vfm_isbench.isegprobe.checkpoint import PREFIXES, ReferenceCheckpoint, protocol_of, read_backbone
from vfm_isbench.probe import Probe, build_probe
from vfm_isbench.upsamplers import UPSAMPLERS, LoadedUpsampler, Upsampler
from vfm_isbench.upsamplers.published.checkpoint_keys import load_exactly
from vfm_isbench.upsamplers.published.featup import featup_from_state_dict
from vfm_isbench.upsamplers.published.lift import lift_from_state_dict
from vfm_isbench.upsamplers.published.loftup import loftup_from_state_dict

_PRETRAINED: dict[str, Callable[[Mapping[str, Tensor], str], Upsampler]] = {
    "lift": lift_from_state_dict,
    # iSegProbe takes only the JBU stack from FeatUp's model, without the channel norm in front of it.
    "featup": functools.partial(featup_from_state_dict, channel_norm=False),
    "loftup": loftup_from_state_dict,
}
_SPEC_EXAMPLES = {
    "lift": "lift:FILE",
    "featup": "featup:dinov2?norm=false or featup:FILE?norm=false",
    "loftup": "loftup:dinov2s or loftup:FILE",
}
_WITHOUT_NORM_EXAMPLE = "featup:FILE with the file in no_norm/ of FeatUp's weights, because use_norm was False"


def assemble_reference(
    checkpoint: ReferenceCheckpoint, *, backbone_weights: Path | None = None, upsampler: LoadedUpsampler | None = None
) -> Probe:
    """Build the probe of a checkpoint: its click encoder and head around the frozen backbone and upsampler.

    Args:
        checkpoint: See :func:`vfm_isbench.isegprobe.read_reference`.
        backbone_weights: Where to get the backbone if the checkpoint lacks it: a DINOv2 weights file in the official
            layout or timm's, a folder with such a file, or a whole model in iSegProbe's layout; None uses the hub.
        upsampler: Replaces the checkpoint's own upsampler.

    Returns:
        The probe, in eval mode.

    Raises:
        RunError: if the checkpoint's upsampler needs weights, but they are neither in the file nor given.
        WeightsError: if weights are missing or do not fit exactly.
    """
    backbone = _backbone(checkpoint, backbone_weights)
    probe = build_probe(protocol_of(checkpoint), backbone, _upsampler(checkpoint) if upsampler is None else upsampler)
    for part, module in probe.trainable().items():
        load_exactly(
            module, checkpoint.tensors[part], f"{checkpoint.source}, {part}", f"{PREFIXES[part]}* of iSegProbe"
        )
    return probe.eval()


def _backbone(checkpoint: ReferenceCheckpoint, weights: Path | None) -> Backbone:
    model, source = checkpoint.model, checkpoint.source
    size = (model.image_size, model.image_size)
    own = checkpoint.tensors["backbone"]
    backbone: Backbone
    if own:
        if weights is not None:
            warnings.warn(
                f"{source} contains its backbone; the given backbone weights, {weights}, are not used",
                VfmIsbenchWarning,
                stacklevel=3,
            )
        backbone = build_dinov2(model.backbone, own, size, num_heads=model.backbone_heads)
    elif weights is not None and weights.is_file():
        state, heads = read_backbone(weights)
        backbone = build_dinov2(model.backbone, state, size, num_heads=heads)
    elif model.backbone in list_backbones():
        backbone = load_backbone(model.backbone, model.image_size, weights=weights)
    else:
        raise RunError(
            f"{source} contains no backbone, and no published one has its {model.channels} channels"
            + (f"; {weights} is not a file" if weights is not None else "")
            + ". Give a weights file: backbone_weights=… (command line: --backbone-weights)"
        )
    if (backbone.channels, backbone.patch_size) != (model.channels, model.patch_size):
        raise WeightsError(
            f"the backbone in {source if own else weights} has {backbone.channels} channels and patch size "
            f"{backbone.patch_size}; {source} was trained with {model.channels} channels and patch size "
            f"{model.patch_size}"
        )
    return backbone


def _upsampler(checkpoint: ReferenceCheckpoint) -> Upsampler:
    name, tensors = checkpoint.model.upsampler, checkpoint.tensors["upsampler"]
    if name not in _PRETRAINED:
        return UPSAMPLERS.get(name)()
    if not tensors:
        example = _SPEC_EXAMPLES[name]
        if name == "featup" and not checkpoint.model.featup_norm:
            example = _WITHOUT_NORM_EXAMPLE
        raise RunError(
            f"{checkpoint.source} was trained with the upsampler {name!r} but lacks its weights; give the upsampler as "
            f"upsampler=… (command line: --upsampler SPEC, for example {example})"
        )
    upsampler: Any = _PRETRAINED[name](tensors, str(checkpoint.source))
    upsampler.upsampler_source = {"kind": name, "weights": checkpoint.source.name}
    loaded: Upsampler = upsampler
    return loaded
