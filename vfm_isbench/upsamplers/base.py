"""What an upsampler is to this library, what it may declare, and the registry of the built-in ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from vfm_isbench.kernels.row_strips import Strips
from vfm_isbench.registry.registry import Registry
from vfm_isbench.upsamplers.backbone_access import BackboneAccess

Upsampler: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Any callable ``(features B×C×h×w, image B×3×H×W) -> features B×C×H'×W'``.

The image is RGB with ImageNet mean and standard deviation. Features and image are of the same batch, and H'×W' is at
least h×w; the probe resizes any output that is not H×W. There is no base class: a function works, and so does an
``nn.Module``.

An upsampler *may* declare, as attributes:

* ``keeps_patch_resolution: bool``: it deliberately leaves features at the patch grid, so the head runs there and only
  its logits are resized (the "no upsampling" baseline).
* ``interpolation: tuple[str, bool | None]``: it equals ``torch.nn.functional.interpolate`` to the image's size with
  this ``mode`` and ``align_corners``. Training and evaluation exploit that this is linear, and then never call it.
  Anything but such a tuple is taken for a setting of the upsampler's own.
* ``needs_gradients: bool``: it optimises something for each image, so it needs gradients inside the call. It is then
  called with one image at a time, with gradients enabled, and its steps and strips are not used. Only late injection
  can run it, because no gradient passes through it.
* ``needs_backbone: bool``: it computes features itself, with the frozen backbone of the run. It then has the method of
  :class:`BackboneUser`, and gets the backbone before its first call.
* ``upsampler_name: str``: its name in tables; the default is ``module:qualname``.
* ``upsampler_source: Mapping[str, JSON value]``: where code and weights came from (repository, commit, SHA-256 of the
  weights file, attention backend, …); kept with every result.

and it may offer the two steps of :class:`TwoStepUpsampler`, the strips of :class:`StripwiseUpsampler` and the channel
norm of :class:`NormalisingUpsampler`. All of it is read once, into :class:`vfm_isbench.upsamplers.LoadedUpsampler`.
"""


@runtime_checkable
class TwoStepUpsampler(Protocol):
    """An upsampler that can prepare the guidance image once and then upsample many feature maps with it.

    Calling it equals the composition of the two steps, up to rounding::

        upsampler(features, image) == upsampler.upsample(features, upsampler.encode_guidance(image))

    Training and evaluation use the two steps when features change with every click but the image does not. The first
    step may return anything that keeps the order of the batch and does not depend on features.
    """

    def __call__(self, features: Tensor, image: Tensor, /) -> Tensor:
        """Upsample ``features`` B×C×h×w, guided by ``image`` B×3×H×W."""
        ...

    def encode_guidance(self, image: Tensor, /) -> Any:
        """Compute everything that depends on ``image`` B×3×H×W (ImageNet-normalised) alone."""
        ...

    def upsample(self, features: Tensor, guidance: Any, /) -> Tensor:
        """Upsample ``features`` B×C×h×w with what :meth:`encode_guidance` returned for the same images."""
        ...


@runtime_checkable
class StripwiseUpsampler(TwoStepUpsampler, Protocol):
    """A two-step upsampler that can also return the result of its second step strip by strip.

    Evaluation uses strips on CPUs when features change with every click: the full-size features are then never in
    memory as a whole.
    """

    def upsample_strips(self, features: Tensor, guidance: Any, /) -> Strips:
        """Yield what ``upsample`` returns in strips, from the top: the first row, and B×rows×W×C.

        Together the strips must have the image's size.
        """
        ...


@runtime_checkable
class NormalisingUpsampler(Protocol):
    """An upsampler with a normalisation over channels in front, which the protocol may leave out (FeatUp)."""

    @property
    def channel_norm(self) -> bool:
        """Whether features are normalised over channels first."""
        ...

    def without_channel_norm(self) -> Any:
        """Leave the normalisation out from now on, in place; returns the upsampler."""
        ...


@runtime_checkable
class BackboneUser(Protocol):
    """An upsampler that declares ``needs_backbone = True``."""

    def bind_backbone(self, features_of: BackboneAccess, /) -> None:
        """Store ``features_of``, and do nothing else: it is called before the run, and again before later calls.

        ``features_of(image B×3×H×W) -> B×C×h×w`` is the frozen backbone of the run; see
        :class:`vfm_isbench.upsamplers.backbone_access.BackboneAccess`.
        """
        ...


UPSAMPLERS: Registry[Callable[[], Upsampler]] = Registry(
    "upsampler", "For your own give package.module:attribute, or path/to/file.py:attribute."
)
"""Built-in upsamplers by name; an entry called without arguments returns the upsampler with its default settings."""
