"""An upsampler as the rest of the library sees it: its call, its name, where it came from, what it can do."""

from __future__ import annotations

import copy
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn

from vfm_isbench.errors import ContractError
from vfm_isbench.kernels.row_strips import Strips
from vfm_isbench.upsamplers.backbone_access import BackboneAccess
from vfm_isbench.upsamplers.base import NormalisingUpsampler, StripwiseUpsampler, TwoStepUpsampler, Upsampler

_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
"""Modes of ``torch.nn.functional.interpolate`` for maps."""


FILE_MARK = "@"
"""What the module name of a file holds, and that of no importable module."""

_BINDING = threading.RLock()
"""Two runs may share one upsampler object, which holds one backbone at a time."""

DECLARED_IDENTITY = "__vfm_isbench_identity__"
"""Attribute by which an upsampler says which one it is: a text, or a function without arguments that returns one."""


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
        needs_gradients: It optimises per image: it is called with gradients enabled and one image at a time.
        bind_backbone: Takes the run's backbone; None if the upsampler needs none.
    """

    keeps_patch_resolution: bool = False
    interpolation: tuple[str, bool | None] | None = None
    encode_guidance: Callable[[Tensor], Any] | None = None
    upsample: Callable[[Tensor, Any], Tensor] | None = None
    upsample_strips: Callable[[Tensor, Any], Strips] | None = None
    channel_norm: bool | None = None
    needs_gradients: bool = False
    bind_backbone: Callable[[BackboneAccess], object] | None = None

    @classmethod
    def declared_by(cls, upsampler: Any) -> Capabilities:
        """Read what an upsampler declares and offers."""
        # Other people's modules may use these names for something else, which must not be taken for a declaration.
        needs_gradients = getattr(upsampler, "needs_gradients", False) is True
        has_steps = not needs_gradients and _offers(upsampler, TwoStepUpsampler, "encode_guidance", "upsample")
        has_strips = has_steps and _offers(upsampler, StripwiseUpsampler, "upsample_strips")
        return cls(
            keeps_patch_resolution=getattr(upsampler, "keeps_patch_resolution", False) is True,
            interpolation=None if needs_gradients else _declared_interpolation(upsampler),
            encode_guidance=upsampler.encode_guidance if has_steps else None,
            upsample=upsampler.upsample if has_steps else None,
            upsample_strips=upsampler.upsample_strips if has_strips else None,
            channel_norm=upsampler.channel_norm if isinstance(upsampler, NormalisingUpsampler) else None,
            needs_gradients=needs_gradients,
            bind_backbone=_backbone_binder(upsampler),
        )


def _offers(upsampler: Any, kind: type, *methods: str) -> bool:
    return isinstance(upsampler, kind) and all(callable(getattr(upsampler, method)) for method in methods)


def _backbone_binder(upsampler: Any) -> Callable[[BackboneAccess], object] | None:
    """The method that takes the backbone; None if the upsampler does not declare that it needs one.

    Raises:
        ContractError: if it declares so, and has no such method.
    """
    if getattr(upsampler, "needs_backbone", False) is not True:
        return None
    bind = getattr(upsampler, "bind_backbone", None)
    if not callable(bind):
        raise ContractError(
            "the upsampler declares needs_backbone = True, but has no method bind_backbone(features_of), by which it "
            "gets the backbone; add one that stores features_of"
        )
    return cast("Callable[[BackboneAccess], object]", bind)


def _declared_interpolation(upsampler: Any) -> tuple[str, bool | None] | None:
    """A declared ``(mode, align_corners)``; None for anything else of that name."""
    declared = getattr(upsampler, "interpolation", None)
    if not isinstance(declared, tuple) or len(declared) != 2:
        return None
    mode, align_corners = declared
    return declared if mode in _MODES and (align_corners is None or isinstance(align_corners, bool)) else None


@dataclass(frozen=True, eq=False)
class LoadedUpsampler:
    """An upsampler, resolved once; nobody downstream looks at its class or its attributes again.

    Attributes:
        call: ``(features B×C×h×w, image B×3×H×W) -> features B×C×H'×W'``.
        name: Its name in tables.
        source: Where code and weights came from, JSON-ready; None if it does not say.
        capabilities: What it can do beyond being called.
        hidden_modules: Modules that run in a call although nothing shows that the upsampler holds them.
        declared_identity: What it declares as :data:`DECLARED_IDENTITY`, in place of a fingerprint.
        plugin_origin: Package it came with, see :func:`vfm_isbench.registry.plugins.plugin_origins`.
        backbone: The backbone of the run, if it needs one and got it.
    """

    call: Upsampler
    name: str
    source: Mapping[str, Any] | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    hidden_modules: tuple[nn.Module, ...] = ()
    declared_identity: str | Callable[[], str] | None = None
    plugin_origin: Mapping[str, Any] | None = None
    backbone: BackboneAccess | None = None

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
            declared_identity=getattr(upsampler, DECLARED_IDENTITY, None),
        )

    def __call__(self, features: Tensor, image: Tensor) -> Tensor:
        """Upsample ``features`` B×C×h×w, guided by ``image`` B×3×H×W (ImageNet-normalised)."""
        with self._bound():
            if self.capabilities.needs_gradients:
                return self._one_by_one(features, image)
            return cast(Tensor, as_features(self.call(features, image), features))

    def _one_by_one(self, features: Tensor, image: Tensor) -> Tensor:
        """Call an upsampler that optimises per image, whatever the grad mode outside; the result has no gradient."""
        outputs = []
        for one, guidance in zip(torch.split(features, 1), torch.split(image, 1), strict=True):
            with torch.inference_mode(False), torch.enable_grad():
                output = as_features(self.call(one.detach().clone(), guidance.detach().clone()), one)
            outputs.append(output.detach() if isinstance(output, Tensor) else output)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def encode_guidance(self, image: Tensor) -> Any:
        """First step: prepare ``image`` B×3×H×W; the image itself if the upsampler has no steps."""
        encode = self.capabilities.encode_guidance
        with self._bound():
            return image if encode is None else encode(image)

    def upsample(self, features: Tensor, guidance: Any) -> Tensor:
        """Second step: upsample ``features`` B×C×h×w with what :meth:`encode_guidance` returned."""
        upsample = self.capabilities.upsample
        with self._bound():
            return self(features, guidance) if upsample is None else as_features(upsample(features, guidance), features)

    def upsample_strips(self, features: Tensor, guidance: Any) -> Strips:
        """Second step in strips, from the top; only for an upsampler that has strips."""
        upsample_strips = self.capabilities.upsample_strips
        assert upsample_strips is not None, "asked for strips of an upsampler without"
        self.bind()
        for top, strip in upsample_strips(features, guidance):
            yield top, as_features(strip, features)

    def with_backbone(self, backbone: BackboneAccess) -> LoadedUpsampler:
        """The same upsampler for a run with this backbone; the same object if it needs none."""
        if self.capabilities.bind_backbone is None:
            return self
        bound = dataclasses.replace(self, backbone=backbone, source={**(self.source or {}), "uses_backbone": True})
        bound.bind()
        return bound

    @contextmanager
    def _bound(self) -> Iterator[None]:
        """Keep the backbone of this run in the upsampler during a call, whatever runs in other threads."""
        if self.capabilities.bind_backbone is None:
            yield
            return
        with _BINDING:
            self.bind()
            yield

    def bind(self) -> None:
        """Hand the upsampler its backbone, since another run may have handed it another one meanwhile.

        Raises:
            ContractError: if it needs one, and has not got it.
        """
        take = self.capabilities.bind_backbone
        if take is None:
            return
        if self.backbone is None:
            raise ContractError(
                "the upsampler needs the backbone of a run (needs_backbone = True): call it in a run, or give "
                "check_upsampler a backbone"
            )
        take(self.backbone)

    def without_channel_norm(self) -> LoadedUpsampler:
        """A copy that leaves the channel norm out; the upsampler itself stays as it is."""
        changed = copy.deepcopy(cast(NormalisingUpsampler, self.call)).without_channel_norm()
        return dataclasses.replace(self, call=changed, capabilities=Capabilities.declared_by(changed))


def as_features(output: Any, features: Tensor) -> Any:
    """Turn an upsampler's output into a tensor that can be used as features are, in training and evaluation.

    Another floating dtype becomes that of the features, and a tensor made under ``torch.inference_mode()`` becomes one
    that autograd accepts. Autocast chooses dtypes of its own, which stay. What is not a tensor of floats is returned as
    it is, for the contract check to name.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return output
    if output.is_inference() and not torch.is_inference_mode_enabled():
        output = output.clone()
    kind = features.device.type
    if torch.is_autocast_enabled(kind) and output.dtype in (torch.float32, torch.get_autocast_dtype(kind)):
        return output
    return output.to(features.dtype)


def name_of(upsampler: Any) -> str:
    """Name of an upsampler in tables: the one it declares, else ``module:qualname``, or ``qualname`` if from a file."""
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
    # A file has no name of its own as a module: see module_from_file.
    # Code made by exec may have no module at all.
    module = named.__module__ or FILE_MARK
    is_from_file = FILE_MARK in module or module == "__main__"
    return named.__qualname__ if is_from_file else f"{module}:{named.__qualname__}"
