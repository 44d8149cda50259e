"""Maps computed and used strip by strip, so that they are never in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = Callable[[int, int], Tensor]
"""Returns rows ``top`` to ``bottom`` of a map, channels last: B×(bottom-top)×W×C."""

ItemRows: TypeAlias = Callable[[int, int, int], Tensor]
"""Returns rows ``top`` to ``bottom`` of one map of a batch, from its index: 1×(bottom-top)×W×C."""

Strips: TypeAlias = Iterator[tuple[int, Tensor]]
"""The strips of a map from top to bottom: the index of the first row, and the values B×rows×W×C."""


class RowsOfStrips:
    """Rows of a map computed strip by strip: each strip once, and dropped when the requested rows have passed it.

    Args:
        strips: All strips of the map, without gaps.
    """

    def __init__(self, strips: Iterable[tuple[int, Tensor]]) -> None:
        self._coming = iter(strips)
        self._kept: list[tuple[int, Tensor]] = []

    def __call__(self, top: int, bottom: int) -> Tensor:
        """Return rows ``top`` to ``bottom``: B×(bottom-top)×W×C, read-only.

        Raises:
            ValueError: if the rows begin above those of the previous call, or end below the map.
        """
        while not self._kept or _end(*self._kept[-1]) < bottom:
            try:
                self._kept.append(next(self._coming))
            except StopIteration:
                raise ValueError(f"rows {top} to {bottom} lie beyond the end of the map") from None
        self._kept = [(first, strip) for first, strip in self._kept if _end(first, strip) > top]
        if self._kept[0][0] > top:
            raise ValueError(f"rows {top} to {bottom} were dropped; rows from {self._kept[0][0]} on are left")
        parts = [strip[:, max(top - first, 0) : bottom - first] for first, strip in self._kept if first < bottom]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def rows_of(maps: Tensor) -> Rows:
    """Rows of a map B×C×H×W in memory, as views."""
    cells = maps.permute(0, 2, 3, 1)
    return lambda top, bottom: cells[:, top:bottom]


def item_rows_of(maps: Tensor) -> ItemRows:
    """The same for each map of the batch."""
    cells = maps.permute(0, 2, 3, 1)
    return lambda item, top, bottom: cells[item : item + 1, top:bottom]


def _end(first: int, strip: Tensor) -> int:
    return first + strip.shape[1]
