"""What an upsampler is to this library, what it may declare, and the registry of the built-in ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from vfm_isbench.kernels.row_strips import Strips
from vfm_isbench.registry.registry import Registry

Upsampler: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Any callable ``(features B×C×h×w, image B×3×H×W) -> features B×C×H'×W'``.

The image is RGB with ImageNet mean and standard deviation, the batch is the same in both, and H'×W' is at least h×w;
the probe resizes what is not H×W. There is no base class: a function will do, and an ``nn.Module`` is a callable with
parameters.

An upsampler *may* declare, as attributes:

* ``keeps_patch_resolution: bool``: it leaves features at the patch grid on purpose, so that the head runs there and
  only its logits are resized (the "no upsampling" baseline).
* ``interpolation: tuple[str, bool | None]``: it is ``torch.nn.functional.interpolate`` to the image's size, with this
  ``mode`` and ``align_corners``; training and evaluation use that its work is linear, and then do not call it.
* ``upsampler_name: str``: what tables call it; without it, ``module:qualname``.
* ``upsampler_source: Mapping[str, JSON value]``: where code and weights came from (repository, commit, SHA-256 of the
  weights file, attention backend, …); kept with every result.

and it may offer the two steps of :class:`TwoStepUpsampler`, and the strips of :class:`StripwiseUpsampler`.
"""


@runtime_checkable
class TwoStepUpsampler(Protocol):
    """An upsampler that can prepare the guidance image once and then upsample many feature maps with it.

    Calling it equals the composition of the two steps, up to rounding::

        upsampler(features, image) == upsampler.upsample(features, upsampler.encode_guidance(image))

    Training and evaluation use the two steps where features change with every click but the image does not. What the
    first step returns is the upsampler's own affair; it must keep the order of the batch, and not depend on features.
    """

    def __call__(self, features: Tensor, image: Tensor, /) -> Tensor:
        """Upsample ``features`` B×C×h×w, guided by ``image`` B×3×H×W."""
        ...

    def encode_guidance(self, image: Tensor, /) -> Any:
        """Do whatever depends on ``image`` B×3×H×W (ImageNet-normalised) alone."""
        ...

    def upsample(self, features: Tensor, guidance: Any, /) -> Tensor:
        """Upsample ``features`` B×C×h×w with what :meth:`encode_guidance` returned for the same images."""
        ...


@runtime_checkable
class StripwiseUpsampler(TwoStepUpsampler, Protocol):
    """An upsampler in two steps, the second of which can be taken strip by strip.

    Evaluation uses it on CPUs where features change with every click: a map of features at the size of the image need
    then never be in memory as a whole.
    """

    def upsample_strips(self, features: Tensor, guidance: Any, /) -> Strips:
        """Give what ``upsample`` returns strip by strip, from the top: first row, and B×rows×W×C.

        Together they must be of the image's size.
        """
        ...


def interpolation_of(upsampler: Upsampler) -> tuple[str, bool | None] | None:
    """``mode`` and ``align_corners`` of an upsampler that declares itself to be an interpolation, otherwise None."""
    declared: tuple[str, bool | None] | None = getattr(upsampler, "interpolation", None)
    return declared


def keeps_patch_resolution(upsampler: Upsampler) -> bool:
    """Whether the upsampler declares that it leaves features at the patch grid on purpose."""
    return bool(getattr(upsampler, "keeps_patch_resolution", False))


UPSAMPLERS: Registry[Callable[[], Upsampler]] = Registry(
    "upsampler", "For your own give package.module:attribute, or path/to/file.py:attribute."
)
"""Built-in upsamplers by name; an entry called without arguments returns the upsampler with its default settings."""
