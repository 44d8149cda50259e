"""Makes a click encoder from its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeAlias

from torch import nn

from vfm_isbench.click_encoders.distances import DistanceEncoder
from vfm_isbench.click_encoders.patch_embedding import PatchEmbedding
from vfm_isbench.click_encoders.simple_vit import SimpleViT
from vfm_isbench.protocol import Protocol
from vfm_isbench.registry.plugins import Plugins
from vfm_isbench.registry.registry import Registry

Builder: TypeAlias = Callable[[int, int, Protocol], nn.Module]
"""Called with the number of token channels, the patch size in pixels, and the protocol."""

CLICK_ENCODERS: Registry[Builder] = Registry("click encoder")

CLICK_ENCODER_PLUGINS = Plugins(
    "click encoder",
    "vfm_isbench.click_encoders",
    "a function (channels, patch_size, protocol) that makes a torch.nn.Module: click map B×3×H×W → tokens "
    "B×channels×(H/patch_size)×(W/patch_size)",
    lambda: list(CLICK_ENCODERS),
)


@CLICK_ENCODERS.register("patch_embedding")
def _patch_embedding(channels: int, patch_size: int, _protocol: Protocol) -> nn.Module:
    """One convolution over the patches of the click map; used with early injection in the paper."""
    return PatchEmbedding(channels, patch_size)


@CLICK_ENCODERS.register("simple_vit")
def _simple_vit(channels: int, patch_size: int, protocol: Protocol) -> nn.Module:
    """A small transformer over the patches of the click map; used with late injection in the paper."""
    return SimpleViT(
        channels,
        patch_size,
        depth=protocol.simple_vit_depth,
        heads=protocol.simple_vit_heads,
        head_width=protocol.simple_vit_head_width,
        hidden=protocol.simple_vit_hidden,
    )


@CLICK_ENCODERS.register("distances")
def _distances(channels: int, patch_size: int, _protocol: Protocol) -> nn.Module:
    """Distances to the clicks through two small layers; used with late injection in the demo."""
    return DistanceEncoder(channels, patch_size)


def list_click_encoders() -> dict[str, str]:
    """Names of the built-in click encoders, each with a one-line description."""
    return {name: inspect.getdoc(CLICK_ENCODERS.get(name)) or "" for name in CLICK_ENCODERS}


def check_click_encoder(name: str) -> None:
    """Raise an error if a click encoder does not exist, without making it.

    Raises:
        UnknownNameError, PluginError: see :func:`make_click_encoder`.
    """
    if name not in CLICK_ENCODERS:
        CLICK_ENCODER_PLUGINS.find(name)


def make_click_encoder(channels: int, patch_size: int, protocol: Protocol) -> nn.Module:
    """Make the protocol's click encoder; its initial weights are drawn from the default generator.

    Args:
        channels: Number of token channels C, the same as the backbone's.
        patch_size: Side of a patch in pixels, the same as the backbone's.
        protocol: Names the click encoder, and has the sizes of SimpleViT.

    Raises:
        UnknownNameError: if no click encoder has this name.
        PluginError: if it comes from a plugin that is broken: not a module, or tokens of the wrong shape.
    """
    name = protocol.click_encoder
    if name in CLICK_ENCODERS:
        CLICK_ENCODER_PLUGINS.warn_if_refused(name)
        return CLICK_ENCODERS.get(name)(channels, patch_size, protocol)
    plugin = CLICK_ENCODER_PLUGINS.find(name)
    encoder = plugin.make(nn.Module, channels, patch_size, protocol)
    cells = protocol.image_size // patch_size
    plugin.try_out(encoder, protocol.image_size, (1, channels, cells, cells))
    return encoder
