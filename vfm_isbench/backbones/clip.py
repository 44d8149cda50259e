"""CLIP's patch tokens behind its visual projection, plain and as MaskCLIP, in timm's transformer.

The published upsamplers ``loftup:clip``, ``featup:clip`` and ``featup:maskclip`` have 512 channels, which are those
behind the projection; CLIP ViT-B/16 itself has 768.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.backbones.from_timm import TimmModel, create_at_size, normalisation, weights_options
from vfm_isbench.errors import ProtocolError

CLIP = {"clip_vitb16": "CLIP ViT-B/16", "maskclip_vitb16": "MaskCLIP ViT-B/16"}
"""Names of these backbones."""

TIMM_NAME = "vit_base_patch16_clip_quickgelu_224.openai"
"""OpenAI's weights belong to QuickGELU; timm's model of the same name without it computes something else."""

CHANNELS = 512
"""Channels of the space that images and texts share."""


class ProjectedCLIP(Backbone):
    """Patch tokens of CLIP in the space that images and texts share: last norm, then visual projection.

    Click tokens cannot be injected early, because patches are embedded in another number of channels.

    Args:
        name: Name under which it was requested.
        model: A timm VisionTransformer whose ``head`` is the projection.
        mean: Normalisation of its input.
        std: Normalisation of its input.
        value_path: Whether the last block is replaced by its values alone: norm, value projection and output
            projection, without attention, residual and MLP. This is MaskCLIP (arXiv 2112.01071, section 3.2).
    """

    def __init__(
        self, name: str, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], *, value_path: bool
    ) -> None:
        details = cast(Any, model)
        super().__init__(
            name,
            channels=int(details.head.out_features),
            patch_size=int(details.patch_embed.patch_size[0]),
            takes_click_tokens=False,
            mean=mean,
            std=std,
            feature_norm="projection",
        )
        self.model = model
        self.value_path = value_path
        self._prefix = int(details.num_prefix_tokens)
        if value_path:
            details.blocks[-1] = ValuesOnly(details.blocks[-1])

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        """See :meth:`Backbone.forward`."""
        if click_tokens is not None:
            raise ProtocolError(
                f"backbone {self.name!r} embeds patches in another number of channels than its features have, so click "
                "tokens cannot be injected early; use injection 'late' or 'pre_upsampler', or "
                f"timm:{TIMM_NAME} without the projection"
            )
        model = cast(Any, self.model)
        patches = model.head(model.forward_features(image)[:, self._prefix :])
        height, width = (side // self.patch_size for side in image.shape[-2:])
        return cast(Tensor, patches.transpose(1, 2).unflatten(2, (height, width)))


class ValuesOnly(nn.Module):
    """The last block of MaskCLIP. Keeps all weights of the block, so that they are the same with and without it.

    Args:
        block: A block of timm's VisionTransformer.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor, *_args: Any, **_options: Any) -> Tensor:
        """B×N×C to B×N×C."""
        block = cast(Any, self.block)
        qkv, start = block.attn.qkv, 2 * tokens.shape[-1]
        bias = None if qkv.bias is None else qkv.bias[start:]
        values = functional.linear(block.norm1(tokens), qkv.weight[start:], bias)
        return cast(Tensor, block.attn.proj(values))


def load_clip(name: str, image_size: int, weights: Path | None, pretrained: bool) -> Backbone:
    """Build ``clip_vitb16`` or ``maskclip_vitb16``; see :func:`~.load.load_backbone`."""
    options, pretrained = weights_options(name, TIMM_NAME, weights, pretrained)
    model = create_at_size(TimmModel(name, TIMM_NAME, options, pretrained), image_size, num_classes=CHANNELS)
    return ProjectedCLIP(name, model, *normalisation(model), value_path=name.startswith("maskclip"))
