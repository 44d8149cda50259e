"""The result of a semantic probe: its settings, what ran, and the confusion counts of every image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vfm_isbench.errors import ProtocolError, ResultError
from vfm_isbench.semantic.confusion import IGNORED, class_ious, mean_iou
from vfm_isbench.semantic.settings import SemanticSettings
from vfm_isbench.storage import json_fields
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.strict_json import UnreadableError, read_json
from vfm_isbench.types import Array, is_number

SEMANTIC_SCHEMA = "semantic-1"
"""What the field ``schema`` says, so that no such file is taken for another one."""

_LARGEST_COUNT = 2**40


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """What was found in one test image.

    Attributes:
        image_id: Id of the image.
        counts: Pixels by true class (rows) and predicted class (columns), K×K int64.
        sharpness: See :func:`vfm_isbench.semantic.boundary_sharpness`; None if the image shows no boundary.
        agreement: See :func:`vfm_isbench.semantic.pooled_agreement`.
    """

    image_id: str
    counts: Array
    sharpness: float | None
    agreement: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; counts as (true class, predicted class, pixels) one after the other, without zeros."""
        rows, columns = np.nonzero(self.counts)
        triples = np.stack([rows, columns, self.counts[rows, columns]], axis=1)
        return {
            "image": self.image_id,
            "counts": triples.ravel().tolist(),
            "sharpness": self.sharpness,
            "agreement": self.agreement,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], classes: int) -> ImageCounts:
        """The inverse of :meth:`to_dict`.

        Raises:
            UnreadableError: if a field is missing or has a wrong value.
        """
        image = json_fields.text(content, "image", longest=json_fields.LONGEST_NAME)
        flat = json_fields.sequence(content, "counts", most=3 * classes * classes)
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in flat)
        if not whole or len(flat) % 3 or not all(0 <= value <= _LARGEST_COUNT for value in flat):
            raise UnreadableError(f"the counts of image {image!r} are not triples of whole numbers from 0")
        counts = np.zeros((classes, classes), np.int64)
        for true, predicted, pixels in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            if true >= classes or predicted >= classes or counts[true, predicted]:
                raise UnreadableError(f"the counts of image {image!r} name a class twice, or one beyond {classes - 1}")
            counts[true, predicted] = pixels
        sharpness = json_fields.optional_number(content, "sharpness")
        return cls(image, counts, sharpness, json_fields.number(content, "agreement"))


@dataclass(frozen=True, eq=False)
class SemanticResult:
    """What :func:`vfm_isbench.semantic.probe_semantic` returns: prints as a table, saves as JSON.

    Attributes:
        settings: What was measured.
        upsampler: Name, kind, sha256, source, and what the user called it.
        backbone: Name, channels, patch size, hash of the weights; "weights" is "random" after a dry run.
        classes: Names of the classes.
        images: Counts and measures of every test image.
        losses: Mean training loss of each epoch.
        environment: Versions and hardware.
        seconds: Seconds of training and testing.
        created: Time, ISO 8601 with offset.
        notes: Remarks for readers of the numbers.
    """

    settings: SemanticSettings
    upsampler: Mapping[str, Any]
    backbone: Mapping[str, Any]
    classes: tuple[str, ...]
    images: tuple[ImageCounts, ...]
    losses: tuple[float, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    created: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def counts(self) -> Array:
        """Confusion counts of all images, K×K."""
        total: Array = np.sum([image.counts for image in self.images], axis=0)
        return total

    @property
    def mean_iou(self) -> float:
        """MIoU over the classes that are there or predicted, in [0, 1]."""
        return float(mean_iou(self.counts))

    @property
    def accuracy(self) -> float:
        """Share of the pixels whose class is right."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))

    @property
    def sharpness(self) -> float | None:
        """Mean boundary sharpness of the features, over the images that have it."""
        found = [image.sharpness for image in self.images if image.sharpness is not None]
        return float(np.mean(found)) if found else None

    @property
    def agreement(self) -> float:
        """Mean agreement of the features after downsampling."""
        return float(np.mean([image.agreement for image in self.images]))

    def __str__(self) -> str:
        settings = self.settings
        dry = ", random weights: a dry run" if self.backbone.get("weights") == "random" else ""
        sharpness = "–" if self.sharpness is None else f"{self.sharpness:.2f}"
        ious = class_ious(self.counts)
        return "\n".join(
            [
                f"{self.upsampler['name']} · semantic segmentation by a linear probe · {settings.backbone}{dry}",
                "",
                f"test images  {len(self.images)} of {settings.test}",
                f"mIoU         {100 * self.mean_iou:.2f}",
                f"pixels right {100 * self.accuracy:.2f}",
                f"sharpness    {sharpness}",
                f"agreement    {self.agreement:.3f}",
                "",
                "IoU by class: "
                + ", ".join(
                    f"{name} {'–' if np.isnan(iou) else f'{100 * iou:.1f}'}"
                    for name, iou in zip(self.classes, ious, strict=True)
                ),
                f"bb:{settings.backbone}|px:{settings.image_size}|train:{settings.train}|epochs:{settings.epochs}|"
                f"seed:{settings.seed}",
                *(f"note: {note}" for note in self.notes),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content of the result file."""
        return {
            "schema": SEMANTIC_SCHEMA,
            "settings": self.settings.to_dict(),
            "upsampler": dict(self.upsampler),
            "backbone": dict(self.backbone),
            "classes": list(self.classes),
            "losses": list(self.losses),
            "environment": dict(self.environment),
            "seconds": self.seconds,
            "created": self.created,
            "notes": list(self.notes),
            "mean_iou": self.mean_iou,
            "images": [image.to_dict() for image in self.images],
        }

    def save(self, path: str | Path) -> Path:
        """Write the result as JSON. Returns the path.

        Raises:
            ResultError: if the file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False))
        except OSError as error:
            raise ResultError(f"{path} cannot be written: {error.strerror or error}") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> SemanticResult:
        """Read a result, and compute its mIoU again from the counts.

        Raises:
            ResultError: if the file is missing, broken, no semantic result, or contradicts itself.
        """
        try:
            return cls.from_dict(read_json(Path(path)))
        except OSError as error:
            raise ResultError(f"{path} could not be read: {error.strerror or error}") from error
        except (UnreadableError, ProtocolError) as error:
            raise ResultError(f"{path} is not a result of probe-semantic: {error}") from error

    @classmethod
    def from_dict(cls, content: Any) -> SemanticResult:
        """The inverse of :meth:`to_dict`.

        Raises:
            UnreadableError, ProtocolError: if a field is missing, has a wrong value, or contradicts another one.
        """
        if json_fields.text(content, "schema") != SEMANTIC_SCHEMA:
            raise UnreadableError(f"its schema is not {SEMANTIC_SCHEMA!r}")
        classes = json_fields.texts(content, "classes", most=IGNORED)
        upsampler, backbone = json_fields.mapping(content, "upsampler"), json_fields.mapping(content, "backbone")
        json_fields.text(upsampler, "name", "upsampler.")
        losses = json_fields.sequence(content, "losses")
        if not all(map(is_number, losses)):
            raise UnreadableError("the field 'losses' holds something that is no number")
        images = tuple(ImageCounts.from_dict(image, len(classes)) for image in json_fields.mappings(content, "images"))
        if not images or len({image.image_id for image in images}) != len(images):
            raise UnreadableError("it has no images, or one of them twice")
        found = cls(
            settings=SemanticSettings.from_dict(json_fields.mapping(content, "settings")),
            upsampler=upsampler,
            backbone=backbone,
            classes=classes,
            images=images,
            losses=tuple(losses),
            environment=json_fields.mapping(content, "environment"),
            seconds=json_fields.number(content, "seconds"),
            created=json_fields.text(content, "created"),
            notes=json_fields.texts(content, "notes"),
        )
        if abs(json_fields.number(content, "mean_iou") - found.mean_iou) > 1e-9:
            raise UnreadableError("its mean_iou is not that of its counts")
        return found
