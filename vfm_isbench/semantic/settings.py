"""Everything that changes a number of the semantic probe."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vfm_isbench.errors import ProtocolError
from vfm_isbench.protocol import Protocol

_SHARED = ("backbone", "position_embedding", "image_size", "align_corners", "featup_channel_norm", "seed")
"""Fields that a protocol has too, with the same meaning."""

_LEAST = {"image_size": 1, "seed": 0, "epochs": 1, "batch_size": 1, "limit": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticSettings:
    """What is measured. The frozen part is that of a protocol; see :meth:`of`.

    Attributes:
        backbone: Name of the frozen backbone.
        position_embedding: How DINOv2's position grid is resized.
        image_size: Side of the input in pixels: the shorter side is resized to it, and the middle is kept.
        align_corners: Convention of every bilinear resize.
        featup_channel_norm: Whether FeatUp's JBU gets normalised features.
        seed: Seed of the initial weights and of the order of the images.
        train: Data set for training, see :func:`vfm_isbench.semantic.open_classes`.
        test: Data set for testing.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: Adam's first learning rate; it falls to zero by half a cosine.
        limit: Use only the first images of each data set; None means all.
    """

    backbone: str
    position_embedding: str
    image_size: int
    align_corners: bool
    featup_channel_norm: bool
    seed: int
    train: str
    test: str
    epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 1e-2
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if name == "limit" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ProtocolError(f"{name} of the semantic probe is {value!r}; expected a whole number from {least}")
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
            raise ProtocolError(f"learning_rate of the semantic probe is {rate!r}; expected a number above 0")

    @classmethod
    def of(cls, protocol: Protocol | str, **changes: Any) -> SemanticSettings:
        """The settings for the frozen features of a protocol; by default with the images of its training and test set.

        Args:
            protocol: A protocol, or the name of a preset.
            changes: Fields with another value.
        """
        source = Protocol.of(protocol)
        fields: dict[str, Any] = {name: getattr(source, name) for name in _SHARED}
        fields |= {"train": source.train_dataset, "test": source.test_datasets[0]}
        unknown = sorted(changes.keys() - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ProtocolError(f"the semantic probe has no setting {', '.join(unknown)}")
        return cls(**(fields | changes))

    def protocol(self) -> Protocol:
        """A protocol with the same frozen part and a linear head, for the checks before training."""
        shared = {name: getattr(self, name) for name in _SHARED}
        return Protocol.preset("paper").replace(**shared, batch_size=self.batch_size, head="linear")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SemanticSettings:
        """The inverse of :meth:`to_dict`.

        Raises:
            ProtocolError: if a field is missing, unknown or out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if content.keys() != names:
            odd = sorted(content.keys() ^ names)
            raise ProtocolError(f"settings of the semantic probe: {', '.join(odd)} missing or unknown")
        for field in ("backbone", "position_embedding", "train", "test"):
            if not isinstance(content[field], str):
                raise ProtocolError(f"{field} of the semantic probe is {content[field]!r}; expected a text")
        for field in ("align_corners", "featup_channel_norm"):
            if not isinstance(content[field], bool):
                raise ProtocolError(f"{field} of the semantic probe is {content[field]!r}; expected true or false")
        return cls(**content)
