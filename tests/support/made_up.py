"""Results made up for tests of what is drawn of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vfm_isbench import Protocol, Result
from vfm_isbench.results import DatasetResult
from vfm_isbench.types import Click, ObjectEvidence, ObjectId

NAN = float("nan")


def evidence(image: str, instance: int | None, ious: Sequence[float]) -> ObjectEvidence:
    """Clicks walk along the diagonal, every second negative."""
    clicks = tuple(Click(2 * number + 3, number + 3, number % 2 == 0) for number in range(len(ious)))
    return ObjectEvidence(ObjectId(image, instance), clicks, tuple(ious))


def made_up(
    upsampler_name: str,
    ious: Mapping[str, Sequence[Sequence[float]]],
    *,
    content: str | None = "content",
    sha256: str | None = "ab",
    **fields: Any,
) -> Result:
    """A result from IoUs by data set, object and click; two objects to an image."""
    clicks = len(next(iter(ious.values()))[0])
    protocol = Protocol.preset("demo").replace(max_clicks=clicks, test_datasets=tuple(ious), **fields)
    datasets = {
        dataset: DatasetResult(
            dataset,
            tuple(evidence(f"image{number // 2}", number % 2 + 1, row) for number, row in enumerate(rows)),
            content_sha256=content,
        )
        for dataset, rows in ious.items()
    }
    upsampler = {"name": upsampler_name, "sha256": sha256}
    backbone = {"name": protocol.backbone, "sha256": "cd"}
    return Result(protocol=protocol, upsampler=upsampler, backbone=backbone, datasets=datasets)
