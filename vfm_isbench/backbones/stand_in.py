"""A backbone in name only, for checks that depend on nothing but its sizes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from vfm_isbench.backbones.base import Backbone


class StandIn(Backbone):
    """Averages the image over each patch and repeats the colours over the channels; has no weights.

    Args:
        channels: Number of feature channels C.
        patch_size: Side of a patch in pixels.
        takes_click_tokens: Whether click tokens can be added to its features, as after a patch embedding.
    """

    def __init__(self, channels: int, patch_size: int, *, takes_click_tokens: bool = True) -> None:
        super().__init__("stand-in", channels=channels, patch_size=patch_size, takes_click_tokens=takes_click_tokens)
        self.pool = nn.AvgPool2d(patch_size)

    def forward(self, image: Tensor, click_tokens: Tensor | None = None) -> Tensor:
        """See :meth:`Backbone.forward`."""
        colours: Tensor = self.pool(image)
        repeated = colours.repeat(1, -(-self.channels // 3), 1, 1)[:, : self.channels]
        features = functional.layer_norm(repeated.permute(0, 2, 3, 1), (self.channels,)).permute(0, 3, 1, 2)
        return features if click_tokens is None else features + click_tokens
