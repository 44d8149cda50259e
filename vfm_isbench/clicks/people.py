"""Where people clicked: the clicks of RClicks (Antonov et al. 2024, arXiv 2410.11722), read from their CSV file."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from vfm_isbench.errors import DataError
from vfm_isbench.storage.printable import printable
from vfm_isbench.types import Array, ObjectId

COLUMNS = ("dataset", "image_stem", "object_stem", "click_type", "x", "y", "w", "h")
"""Columns that are needed: data set, image without suffix, label of the object ("" for the only one), "first", "fn" or
"fp", column and row of the click, width and height of the image that was clicked. Others are ignored."""

KINDS = ("first", "fn", "fp")
"""First clicks, and later clicks on missed and on wrongly marked pixels."""

NAMES = {"grabcut": "GrabCut", "berkeley": "Berkeley", "davis": "DAVIS", "coco_mval": "COCO", "tetris": "TETRIS"}
"""How the file calls the data sets of this library; others go by their own names."""

_DIGITS = 12
_SIGMA, _DIAGONAL = 5.0, math.hypot(1920, 1080)
"""RClicks smooths clicks with 5 px in images of 1920×1080, and in proportion to the diagonal elsewhere."""

_MOST_CLICKS = 5_000_000


def smoothing(weights: Array, shape: tuple[int, ...]) -> Array:
    """Smooth a map with RClicks' Gaussian for an image of this shape (H, W)."""
    sigma = _SIGMA * math.hypot(*shape) / _DIAGONAL
    smooth: Array = ndimage.gaussian_filter(np.asarray(weights, np.float64), sigma, mode="constant")
    return smooth


@dataclass(frozen=True, slots=True, eq=False)
class PeopleClicks:
    """People's clicks on one object.

    Attributes:
        places: For each of :data:`KINDS` K×2 rows and columns, as shares of the image's height and width.
    """

    places: Mapping[str, Array]

    def map(self, shape: tuple[int, ...], *, is_first: bool, is_positive: bool) -> Array:
        """Clicks of a kind in an image (H, W), smoothed: H×W weights, all zero if there are none."""
        kind = "first" if is_first else "fn" if is_positive else "fp"
        counts = np.zeros(shape)
        for row, col in self.places.get(kind, ()):
            counts[min(int(row * shape[0]), shape[0] - 1), min(int(col * shape[1]), shape[1] - 1)] += 1
        return smoothing(counts, shape)


class PeopleFile:
    """A CSV file of people's clicks, as RClicks publishes it: a click per line, below a line of column names.

    Args:
        path: The file.

    Attributes:
        name: How results call it: its name without folder and suffix, and the start of its SHA-256.

    Raises:
        DataError: if the file cannot be read, lacks a column, or has a line that makes no sense.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path).expanduser()
        try:
            content = path.read_bytes()
            lines = content.decode().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}: cannot be read as a CSV file of clicks ({error}). Give RClicks' clicks.csv, or a file with "
                f"the columns {', '.join(COLUMNS)}."
            ) from error
        stem = re.sub(r"[^\w.-]+", "-", path.stem, flags=re.ASCII).strip("-") or "unnamed"
        self.name = f"{stem}@{hashlib.sha256(content).hexdigest()[:_DIGITS]}"
        self._path = path
        found: dict[tuple[str, str, str], dict[str, list[tuple[float, float]]]] = {}
        for key, kind, place in self._clicks(lines):
            found.setdefault(key, {}).setdefault(kind, []).append(place)
        self._clicks_of = {
            key: PeopleClicks({kind: np.array(places) for kind, places in kinds.items()})
            for key, kinds in found.items()
        }
        self._labels: dict[tuple[str, str], list[str]] = {}
        for name, stem, label in found:
            self._labels.setdefault((name, stem), []).append(label)

    def of(self, dataset: str, object_id: ObjectId) -> PeopleClicks | None:
        """The clicks on an object; None if there are none.

        The image is found by its file name without suffix. An object without a label is the only one of its image.
        """
        stem = Path(object_id.image).stem
        image = NAMES.get(dataset, dataset), stem
        labels = self._labels.get(image, [])
        if object_id.instance is not None:
            label = str(object_id.instance)
        elif len(labels) == 1:
            (label,) = labels
        else:
            label = ""
        return self._clicks_of.get((*image, label))

    def check(self, dataset: str, objects: Sequence[ObjectId]) -> str:
        """How many of a data set's objects people clicked on, as a remark for its result.

        Raises:
            DataError: if it is none.
        """
        known = sum(self.of(dataset, object_id) is not None for object_id in objects)
        if not known:
            sets = sorted({name for name, _, _ in self._clicks_of})
            raise DataError(
                f"{self._path}: has no click on any object of data set {dataset!r}; its data sets are "
                f"{printable(', '.join(sets))}. Use the pattern realistic without a file for this data set."
            )
        return (
            f"{known} of {len(objects)} objects have clicks of people ({self.name}); on the others, and where nobody "
            "clicked into the error, the model of the pattern realistic clicks"
        )

    def _clicks(self, lines: list[str]) -> Iterator[tuple[tuple[str, str, str], str, tuple[float, float]]]:
        reader = csv.DictReader(lines)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{self._path}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}. Expected RClicks' "
                f"clicks.csv, with the columns {', '.join(COLUMNS)}."
            )
        for number, row in enumerate(reader, start=2):
            if number > _MOST_CLICKS:
                raise DataError(f"{self._path}: has more than {_MOST_CLICKS} clicks. Leave out other data sets.")
            try:
                if row["click_type"] not in KINDS:
                    raise ValueError(f"click_type is not one of {', '.join(KINDS)}")
                x, y, width, height = (float(row[column]) for column in ("x", "y", "w", "h"))
                if not (0 < width < 1e6 and 0 < height < 1e6 and abs(x) < 1e7 and abs(y) < 1e7):
                    raise ValueError("position or size is out of range")
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{self._path}, line {number}: {printable(str(error))}. Correct or remove the line."
                ) from error
            # Clicks beside the image count as on its edge, as in RClicks.
            place = (min(max(y, 0), height - 1) + 0.5) / height, (min(max(x, 0), width - 1) + 0.5) / width
            yield (row["dataset"], row["image_stem"], row["object_stem"]), row["click_type"], place
