"""The interface of backbones: what each one declares, and its forward pass."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Any, Literal

from torch import Tensor, nn

from vfm_isbench.errors import ProtocolError, VfmIsbenchWarning

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

FeatureNorm = Literal["final norm", "standardised", "projection"]
"""What brings features to a usual size: the network's own last norm; standardising over the channels of each cell, for
networks that end without a norm; or the network's last norm followed by its projection, as CLIP's."""


class Backbone(nn.Module, ABC):
    """A vision foundation model that turns an image into a grid of features.

    Attributes:
        name: Name under which it was requested.
        channels: Number of feature channels C. Its name before version 0.4, ``width``, still works; passing it as an
            argument warns.
        patch_size: Side of a feature cell in image pixels: the patch size of a ViT, the output stride of a CNN.
        takes_click_tokens: Whether click tokens can be added right after its patch embedding (early injection).
        mean: Mean of each colour channel, for normalising input in [0, 1].
        std: Standard deviation of each colour channel.
        feature_norm: What brings its features to a usual size; None if it does not say. Results record it.
        commit: The commit of the hub's repository that it was built from; None if there is none, or it is not known.
        has_random_weights: Whether its weights are random instead of pretrained. Set by
            :func:`vfm_isbench.backbones.load_backbone`; results record it, and nothing ranks them.
        start_sha256: Hash of the weights that its training started from; None while it is frozen.
    """

    start_sha256: str | None = None

    def __init__(
        self,
        name: str,
        *,
        channels: int | None = None,
        patch_size: int,
        takes_click_tokens: bool,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        feature_norm: FeatureNorm | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__()
        if width is not None:
            warnings.warn(
                f"backbone {name!r} passes `width` to Backbone; the argument is now called `channels`",
                VfmIsbenchWarning,
                stacklevel=3,
            )
        if (channels is None) == (width is None):
            raise TypeError("Backbone needs the number of feature channels, once: as `channels` (formerly `width`)")
        self.name = name
        self.channels: int = channels if width is None else width  # type: ignore[assignment]  # one is given
        self.patch_size = patch_size
        self.takes_click_tokens = takes_click_tokens
        self.mean = mean
        self.std = std
        self.feature_norm = feature_norm
        self.commit: str | None = None
        self.has_random_weights = False

    def __getattr__(self, name: str) -> Any:
        # Not a property: a subclass may have a `width` of its own.
        return self.channels if name == "width" else super().__getattr__(name)

    @abstractmethod
    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        """Compute features.

        Args:
            image: B×3×H×W, normalised with ``mean`` and ``std``.
            click_tokens: B×C×h×w, added right after the patch embedding; only if ``takes_click_tokens``.

        Returns:
            B×C×h×w with h = H / patch_size, w = W / patch_size.
        """

    def grid(self, image_size: int) -> int:
        """Feature cells per side of a square image.

        Raises:
            ProtocolError: if ``image_size`` is not a multiple of the patch size.
        """
        check_multiple(image_size, self.patch_size, f"backbone {self.name!r}")
        return image_size // self.patch_size


def check_multiple(image_size: int, patch_size: int, whose: str) -> None:
    """Check that an image consists of whole patches.

    Raises:
        ProtocolError: if not; it gives the nearest sizes that do.
    """
    if image_size % patch_size:
        lower = image_size // patch_size * patch_size
        sizes = " or ".join(str(size) for size in (lower, lower + patch_size) if size)
        raise ProtocolError(
            f"image_size {image_size} is not a multiple of {patch_size}, the patch size (or stride) of {whose}; use "
            f"{sizes}"
        )
