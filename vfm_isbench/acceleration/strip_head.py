"""The conv head for inference on CPUs, strip by strip: no full-size map with all channels is ever in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from vfm_isbench.heads.conv import ConvBlock, ConvHead
from vfm_isbench.kernels.row_strips import ItemRows, Rows, RowsOfStrips
from vfm_isbench.kernels.winograd import Winograd, pays

_ROWS = 16
"""Rows per strip if no further convolution determines them."""


class StripHead:
    """A conv head with at least one convolution.

    Args:
        head: The head; its weights must not change while this is in use.
    """

    def __init__(self, head: ConvHead) -> None:
        self._head = head
        convs = [cast(ConvBlock, block).conv for block in head.convs]
        self._convs = [Winograd(conv.weight, conv.bias) for conv in convs]

    @staticmethod
    def pays(head: ConvHead, least_channels: int) -> bool:
        """Whether a head is currently faster this way, which records no gradients."""
        convs = (cast(ConvBlock, block).conv for block in head.convs)
        return not torch.is_grad_enabled() and all(pays(conv, least_channels) for conv in convs)

    def logits(self, rows: Rows, shape: Sequence[int]) -> Tensor:
        """Segment features.

        Args:
            rows: Returns their rows; called from the top down.
            shape: B, H, W, C of the features.

        Returns:
            Logits B×1×H×W.
        """
        return self.after_first(RowsOfStrips(self._convs[0].strips(rows, shape)), shape)

    def after_first(self, rows: Rows, shape: Sequence[int], item_rows: ItemRows | None = None) -> Tensor:
        """Continue after the first convolution, before its ReLU.

        Args:
            rows: Returns the rows of its result; called from the top down.
            shape: B, H, W, C of its result.
            item_rows: The same for one item of the batch, but for several threads at once and in any order; None if
                that is impossible. With it, each thread computes whole strips, which a busy core delays much less.

        Returns:
            Logits B×1×H×W.
        """
        logits = self._head.classifier.weight.new_empty(*shape[:3])
        weight, bias = self._head.classifier.weight.view(-1), cast(Tensor, self._head.classifier.bias)

        def classify(item: int, top: int, strip: Tensor) -> None:
            logits[item, top : top + len(strip)] = strip.relu_() @ weight

        for conv in self._convs[1:-1]:
            rows, item_rows = RowsOfStrips(conv.strips(rows, shape, rectify=True)), None
        if not self._convs[1:]:
            for top in range(0, shape[1], _ROWS):
                strip = rows(top, min(top + _ROWS, shape[1]))
                logits[:, top : top + strip.shape[1]] = strip.relu() @ weight
        elif item_rows is None or not self._convs[-1].share_strips(item_rows, shape, classify, rectify=True):
            for top, strip in self._convs[-1].strips(rows, shape, rectify=True):
                logits[:, top : top + strip.shape[1]] = strip.relu_() @ weight
        return logits.add_(bias)[:, None]
