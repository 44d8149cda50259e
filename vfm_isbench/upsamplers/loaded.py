"""An upsampler as the rest of the library sees it: its call, its name, where it came from, what it can do."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, cast

from torch import Tensor, nn

from vfm_isbench.kernels.row_strips import Strips
from vfm_isbench.upsamplers.base import NormalisingUpsampler, StripwiseUpsampler, TwoStepUpsampler, Upsampler


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an upsampler can do beyond being called; see :mod:`vfm_isbench.upsamplers.base` for what each one promises.

    Attributes:
        keeps_patch_resolution: It deliberately leaves features at the patch grid.
        interpolation: ``mode`` and ``align_corners``, if it is a plain interpolation to the image's size.
        encode_guidance: First of two steps; None if the upsampler has no steps.
        upsample: Second of two steps.
        upsample_strips: Second step, strip by strip; None if it has no strips.
        channel_norm: Whether its channel norm is in use; None if it has none that a protocol could leave out.
    """

    keeps_patch_resolution: bool = False
    interpolation: tuple[str, bool | None] | None = None
    encode_guidance: Callable[[Tensor], Any] | None = None
    upsample: Callable[[Tensor, Any], Tensor] | None = None
    upsample_strips: Callable[[Tensor, Any], Strips] | None = None
    channel_norm: bool | None = None

    @classmethod
    def declared_by(cls, upsampler: Any) -> Capabilities:
        """Read what an upsampler declares and offers."""
        has_steps = isinstance(upsampler, TwoStepUpsampler)
        return cls(
            keeps_patch_resolution=bool(getattr(upsampler, "keeps_patch_resolution", False)),
            interpolation=getattr(upsampler, "interpolation", None),
            encode_guidance=upsampler.encode_guidance if has_steps else None,
            upsample=upsampler.upsample if has_steps else None,
            upsample_strips=upsampler.upsample_strips if isinstance(upsampler, StripwiseUpsampler) else None,
            channel_norm=upsampler.channel_norm if isinstance(upsampler, NormalisingUpsampler) else None,
        )


@dataclass(frozen=True, eq=False)
class LoadedUpsampler:
    """An upsampler, resolved once; nobody downstream looks at its class or its attributes again.

    Attributes:
        call: ``(features B×C×h×w, image B×3×H×W) -> features B×C×H'×W'``.
        name: Its name in tables.
        source: Where code and weights came from, JSON-ready; None if it does not say.
        capabilities: What it can do beyond being called.
        hidden_modules: Modules that run in a call although nothing shows that the upsampler holds them.
        plugin_origin: Package it came with, see :func:`vfm_isbench.registry.plugins.plugin_origins`.
    """

    call: Upsampler
    name: str
    source: Mapping[str, Any] | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    hidden_modules: tuple[nn.Module, ...] = ()
    plugin_origin: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, upsampler: Upsampler | LoadedUpsampler) -> LoadedUpsampler:
        """Read the declarations of a callable ``(features, image)``; a loaded upsampler is returned as it is."""
        if isinstance(upsampler, LoadedUpsampler):
            return upsampler
        source = getattr(upsampler, "upsampler_source", None)
        return cls(
            upsampler,
            name_of(upsampler),
            dict(source) if isinstance(source, Mapping) else None,
            Capabilities.declared_by(upsampler),
        )

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w, guided by ``image`` B×3×H×W (ImageNet-normalised)."""
        return self.call(features, image)

    def encode_guidance(self, image: Tensor) -> Any:
        """First step: prepare ``image`` B×3×H×W; the image itself if the upsampler has no steps."""
        encode = self.capabilities.encode_guidance
        return image if encode is None else encode(image)

    def upsample(self, features: Tensor, guidance: Any) -> Tensor:
        """Second step: upsample ``features`` B×C×h×w with what :meth:`encode_guidance` returned."""
        upsample = self.capabilities.upsample
        return self.call(features, guidance) if upsample is None else upsample(features, guidance)

    def without_channel_norm(self) -> LoadedUpsampler:
        """A copy that leaves the channel norm out; the upsampler itself stays as it is."""
        changed = copy.deepcopy(cast(NormalisingUpsampler, self.call)).without_channel_norm()
        return dataclasses.replace(self, call=changed, capabilities=Capabilities.declared_by(changed))


def name_of(upsampler: Any) -> str:
    """Name of an upsampler in tables: the one it declares, else ``module:qualname``."""
    if isinstance(upsampler, LoadedUpsampler):
        return upsampler.name
    declared = getattr(upsampler, "upsampler_name", None)
    if isinstance(declared, str) and declared:
        return declared
    if isinstance(upsampler, functools.partial):
        return name_of(upsampler.func)
    if isinstance(upsampler, MethodType) and not isinstance(upsampler.__self__, type):
        return f"{name_of(upsampler.__self__)}.{upsampler.__name__}"
    named = upsampler if hasattr(upsampler, "__qualname__") else type(upsampler)
    return f"{named.__module__}:{named.__qualname__}"
