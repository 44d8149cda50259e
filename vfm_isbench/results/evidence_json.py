"""The JSON of an object's evidence: its clicks and IoUs, and what else is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfm_isbench.errors import ResultError
from vfm_isbench.storage import json_fields
from vfm_isbench.storage.printable import printable, quote
from vfm_isbench.types import Click, ObjectEvidence, ObjectId, ObjectSize, is_number

MOST_CLICKS = 1_000
"""Clicks of an object; a protocol has no more."""
LARGEST_IMAGE = 1_000_000
"""Rows or columns; no click is farther from the corner."""


def evidence_to_dict(evidence: ObjectEvidence) -> dict[str, Any]:
    """JSON of an object's evidence: :func:`clicks_to_dict`, and boundary IoUs and sizes where they are known."""
    content = clicks_to_dict(evidence)
    if evidence.boundary_ious is not None:
        content["boundary_iou"] = list(evidence.boundary_ious)
    if evidence.size is not None:
        content["size"] = [evidence.size.pixels, evidence.size.height, evidence.size.width]
    return content


def clicks_to_dict(evidence: ObjectEvidence) -> dict[str, Any]:
    """What every version has kept: image, instance, clicks as [row, column, 1 or 0], IoU after each click."""
    return {
        "image": evidence.object_id.image,
        "instance": evidence.object_id.instance,
        "clicks": [[click.row, click.col, int(click.is_positive)] for click in evidence.clicks],
        "iou": list(evidence.ious),
    }


def evidence_from_dict(content: Mapping[str, Any]) -> ObjectEvidence:
    """The inverse of :func:`evidence_to_dict`.

    Raises:
        ResultError: if a field is missing or has the wrong type, if the numbers of clicks and IoUs differ, or if an IoU
            lies outside [0, 1].
    """
    try:
        image, instance, written = content["image"], content["instance"], content["iou"]
        placed = [(row, col, positive) for row, col, positive in content["clicks"]]
        if not _is_object_id(image, instance):
            raise ResultError(
                f"the fields 'image' and 'instance' do not name an object: found {quote(image)} and {quote(instance)}, "
                "expected a text, and a whole number or null"
            )
        object_id = ObjectId(image, instance)
        # Hundreds of thousands of numbers: look closer only if they are not what this library writes.
        are_plain = all(type(value) is float for value in written)
        odd = [] if are_plain else [value for value in written if not is_number(value)]
        if odd:
            raise ResultError(
                f"object {named(object_id)}: the field 'iou' has the wrong type: {quote(odd[0])} is not a number"
            )
        are_plain = all(
            type(row) is int and type(col) is int and type(positive) is int
            and 0 <= row <= LARGEST_IMAGE and 0 <= col <= LARGEST_IMAGE and 0 <= positive <= 1
            for row, col, positive in placed
        )  # fmt: skip
        if not are_plain and not all(_is_click(row, col, positive) for row, col, positive in placed):
            raise ResultError(
                f"object {named(object_id)}: the field 'clicks' must list [row, column, 1 or 0] in numbers, which are "
                f"pixels from 0 to {LARGEST_IMAGE}"
            )
        ious = tuple(float(value) for value in written)
        clicks = tuple(Click(row, col, bool(positive)) for row, col, positive in placed)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"the evidence of an object has the wrong type: {printable(repr(error))}") from error
    if len(ious) != len(clicks) or not 0 < len(ious) <= MOST_CLICKS:
        raise ResultError(f"object {named(object_id)}: {len(clicks)} clicks but {len(ious)} IoUs")
    if not all(0 <= value <= 1 for value in ious):
        raise ResultError(f"object {named(object_id)}: an IoU lies outside [0, 1]")
    return ObjectEvidence(
        object_id, clicks, ious, _boundary_ious(content, object_id, len(ious)), _size(content, object_id)
    )


def _boundary_ious(content: Mapping[str, Any], object_id: ObjectId, count: int) -> tuple[float, ...] | None:
    written = content.get("boundary_iou")
    if written is None:
        return None
    if not isinstance(written, list | tuple) or not all(is_number(value) and 0 <= value <= 1 for value in written):
        raise ResultError(f"object {named(object_id)}: the field 'boundary_iou' must list numbers in [0, 1]")
    if len(written) != count:
        raise ResultError(f"object {named(object_id)}: {count} IoUs but {len(written)} boundary IoUs")
    return tuple(float(value) for value in written)


def _size(content: Mapping[str, Any], object_id: ObjectId) -> ObjectSize | None:
    written = content.get("size")
    if written is None:
        return None
    are_whole = isinstance(written, list | tuple) and len(written) == 3 and all(type(part) is int for part in written)
    if not are_whole or not is_size(*written):
        raise ResultError(
            f"object {named(object_id)}: the field 'size' is {quote(written)}; expected [pixels of the object, rows, "
            "columns of the image], and no more pixels than the image has"
        )
    return ObjectSize(*written)


def is_size(pixels: int, height: int, width: int) -> bool:
    """Whether an image can have so many rows and columns, and an object in it so many pixels."""
    return 0 < height <= LARGEST_IMAGE and 0 < width <= LARGEST_IMAGE and 0 < pixels <= height * width


def _is_object_id(image: object, instance: object) -> bool:
    is_instance = instance is None or (type(instance) is int and 0 <= instance < 2**31)
    return isinstance(image, str) and len(image) <= json_fields.LONGEST_NAME and is_instance


def _is_click(row: object, col: object, positive: object) -> bool:
    is_place = is_number(row) and is_number(col) and 0 <= row <= LARGEST_IMAGE and 0 <= col <= LARGEST_IMAGE
    return is_place and type(positive) is int and positive in (0, 1)


def named(object_id: ObjectId) -> str:
    """An object's id for messages."""
    return printable(str(object_id))
