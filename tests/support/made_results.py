"""Results put together from given IoUs, for tests of what is derived from results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.types import Array, Click, ObjectEvidence, ObjectId

PROTOCOL = Protocol.preset("paper").replace(max_clicks=6, test_datasets=("davis",), epochs=1, milestones=())


def made_dataset(
    ious: Sequence[Sequence[float]] | Array,
    *,
    name: str = "davis",
    per_image: int = 2,
    content: str | None = "c0ffee" * 8,
    stop_at_iou: tuple[int, ...] | None = None,
) -> DatasetResult:
    """N objects with the IoUs of their rows, ``per_image`` to an image; NaN: a click that was not placed."""
    objects = []
    for number, row in enumerate(np.asarray(ious, dtype=float)):
        placed = tuple(float(iou) for iou in row if not np.isnan(iou))
        object_id = ObjectId(f"image{number // per_image:04d}", number % per_image + 1)
        objects.append(ObjectEvidence(object_id, tuple(Click(0, k, True) for k in range(len(placed))), placed))
    cap = len(ious[0]) if stop_at_iou else None
    return DatasetResult(name, tuple(objects), 0.1, content, stop_at_iou, cap)


def made_result(
    *datasets: DatasetResult,
    name: str = "bilinear",
    sha256: str | None = "ab" * 32,
    seed: int = 0,
    protocol: Protocol = PROTOCOL,
    backbone_sha256: str | None = "cd" * 32,
    epochs: int = 1,
) -> Result:
    """A result of these data sets."""
    record = {"loss": 0.5, "iou": 0.3, "validation_iou": None, "seconds": 1.5}
    return Result(
        protocol=protocol.replace(seed=seed, test_datasets=tuple(one.name for one in datasets)),
        upsampler={"name": name, "kind": "function", "sha256": sha256},
        backbone={"name": "dinov2_vits14", "width": 384, "patch_size": 14, "sha256": backbone_sha256},
        datasets={one.name: one for one in datasets},
        training=tuple({"epoch": epoch, **record} for epoch in range(epochs)),
        environment={"vfm_isbench": "0.1.0"},
        created="2025-01-01T00:00:00+00:00",
    )


def random_ious(seed: int, objects: int = 40, clicks: int = 6, shift: float = 0.0) -> Array:
    """N×K IoUs that rise over the clicks; ``shift`` makes all of them better."""
    rng = np.random.default_rng(seed)
    rising = np.sort(rng.uniform(0.3, 0.97, (objects, clicks)), axis=1)
    return np.clip(rising + shift, 0.0, 1.0)


def seeds_of(
    name: str, seeds: Sequence[int], *, shift: float = 0.0, noise: float = 0.01, **more: object
) -> list[Result]:
    """Results of one upsampler: the same objects, with a little noise from seed to seed."""
    base = random_ious(7)
    sha256 = f"{sum(map(ord, name)):064x}"
    results = []
    for seed in seeds:
        rng = np.random.default_rng([seed, sum(map(ord, name))])
        ious = np.clip(base + shift + rng.normal(scale=noise, size=base.shape), 0.0, 1.0)
        results.append(made_result(made_dataset(ious), name=name, sha256=sha256, seed=seed, **more))  # type: ignore[arg-type]
    return results


def stopping_early(run: Result) -> Result:
    """The same run on davis, had it left objects that reach 90 %."""
    ious = run.datasets["davis"].ious.copy()
    for row in ious:
        reached = np.flatnonzero(row >= 0.9)
        row[reached[0] + 1 if len(reached) else len(row) :] = np.nan
    return dataclasses.replace(run, datasets={"davis": made_dataset(ious, stop_at_iou=(80, 85, 90))})
