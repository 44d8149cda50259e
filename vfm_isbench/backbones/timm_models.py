"""Backbones from timm: the patch tokens of vision transformers, one feature map of other networks."""

from __future__ import annotations

import threading
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.backbones.base import Backbone
from vfm_isbench.errors import ProtocolError

_REGISTERING = threading.Lock()
"""PyTorch could give the hooks of two threads the same number; one would then replace the other."""


def standardise(cells: Tensor) -> Tensor:
    """Subtract the mean over the last dimension, and divide by the deviation."""
    return functional.layer_norm(cells, cells.shape[-1:])


class ViTBackbone(Backbone):
    """Normalised patch tokens of a timm vision transformer; class and register tokens are dropped.

    Tokens of models that end without a norm, such as RADIO, are standardised over their channels.

    Args:
        name: Name under which it was requested.
        model: A timm model with ``forward_features``, and with ``patch_embed`` (VisionTransformer, Eva, …) or
            ``embeds`` (NaFlexVit).
        mean: Normalisation of its input.
        std: Normalisation of its input.
    """

    def __init__(self, name: str, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        details = cast(Any, model)
        super().__init__(
            name,
            channels=int(details.embed_dim),
            patch_size=_patch_size(getattr(details, "patch_embed", None) or details.embeds),
            takes_click_tokens=True,
            mean=mean,
            std=std,
            feature_norm="standardised" if ends_without_norm(model) else "final norm",
        )
        self.model = model
        self._prefix = int(details.num_prefix_tokens)

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        """See :meth:`Backbone.forward`."""
        model = cast(Any, self.model)
        if click_tokens is None:
            tokens = model.forward_features(image)
        else:
            # A hook, because timm's transformers differ in what follows the patch embedding.
            added, thread = click_tokens, threading.get_ident()

            def add_clicks(_module: nn.Module, _inputs: Any, patches: Tensor) -> Tensor:
                if threading.get_ident() != thread:  # which has a hook of its own
                    return patches
                if patches.dim() == 4:  # B×h×w×C, from models that accept any image size
                    return patches + added.permute(0, 2, 3, 1)
                return patches + added.flatten(2).transpose(1, 2)

            with _REGISTERING:
                handle = _patch_embedding(model).register_forward_hook(add_clicks)
            try:
                tokens = model.forward_features(image)
            finally:
                handle.remove()
        height, width = (side // self.patch_size for side in image.shape[-2:])
        patches: Tensor = tokens[:, self._prefix :]
        if self.feature_norm == "standardised":
            patches = standardise(patches)
        return patches.transpose(1, 2).reshape(len(patches), self.channels, height, width)


def has_patch_tokens(model: nn.Module) -> bool:
    """Whether a timm network can be a :class:`ViTBackbone`."""
    has_embedding = hasattr(model, "patch_embed") or hasattr(model, "embeds")
    return has_embedding and hasattr(model, "num_prefix_tokens") and hasattr(model, "forward_features")


def ends_without_norm(model: nn.Module) -> bool:
    """Whether a timm transformer leaves the residual stream as it is after its last block."""
    return isinstance(getattr(model, "norm", None), nn.Identity | None)


def _patch_embedding(model: nn.Module) -> nn.Module:
    """The module that returns the patches, embedded, before anything is added to them."""
    if hasattr(model, "patch_embed"):
        return cast(nn.Module, model.patch_embed)
    # In NaFlexVit, one module embeds patches and adds positions and class token; in between, it calls its norm.
    return cast(nn.Module, cast(Any, model).embeds.norm)


def _patch_size(patch_embed: Any) -> int:
    """Pixels per token and side: a convolutional stem, if there is one, reduces the image before it is cut."""
    if hasattr(patch_embed, "feat_ratio"):
        return int(patch_embed.feat_ratio())
    size = patch_embed.patch_size
    return int(size if isinstance(size, int) else size[0])


class FeatureMapBackbone(Backbone):
    """One feature map of a convolutional (or hierarchical) timm network built with ``features_only``.

    Features are standardised over the channels of each cell, like a transformer's final LayerNorm without its learned
    scale. Raw feature maps are up to eight times larger and drown the click tokens added to them: on raw
    EfficientNet-Lite0 features, training collapsed to background.

    Args:
        name: Name under which it was requested.
        model: A timm feature extractor that returns exactly one map, channels first.
        mean: Normalisation of its input.
        std: Normalisation of its input.
    """

    def __init__(self, name: str, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        info = cast(Any, model).feature_info
        super().__init__(
            name,
            channels=int(info.channels()[-1]),
            patch_size=int(info.reduction()[-1]),
            takes_click_tokens=False,
            mean=mean,
            std=std,
            feature_norm="standardised",
        )
        self.model = model
        self._channels_last = getattr(model, "output_fmt", "NCHW") in ("NHWC", torch.channels_last)

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        """See :meth:`Backbone.forward`."""
        if click_tokens is not None:
            raise ProtocolError(
                f"backbone {self.name!r} has no patch embedding, so click tokens cannot be injected early; "
                "use injection 'late' or 'pre_upsampler', or a vision transformer as backbone"
            )
        (features,) = self.model(image)
        cells = features if self._channels_last else features.permute(0, 2, 3, 1)
        return standardise(cells).permute(0, 3, 1, 2)
