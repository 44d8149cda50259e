"""Builds results that were never measured: from given IoUs, from random ones, or realistic ones for the leaderboard."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.manifests import manifest_of
from vfm_isbench.leaderboard.submission import make_entry
from vfm_isbench.metrics import stopping_click
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.types import Array, Click, ObjectEvidence, ObjectId
from vfm_isbench.upsamplers import identity_of, list_upsamplers, load_upsampler

PROTOCOL = Protocol.preset("paper").replace(max_clicks=6, test_datasets=("davis",), epochs=1, milestones=())
DEMO = Protocol.preset("demo@1")
"""The first version of the demo: its entries have 38 objects, so they are made and checked in no time."""

NAN = float("nan")
HEIGHT, WIDTH = 240, 320
CODE = "https://example.org/code"


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
        clicks = tuple(Click(2 * k + 3, k + 3, k % 2 == 0) for k in range(len(placed)))
        objects.append(
            ObjectEvidence(ObjectId(f"image{number // per_image:04d}", number % per_image + 1), clicks, placed)
        )
    cap = len(ious[0]) if stop_at_iou or np.isnan(ious).any() else None
    return DatasetResult(name, tuple(objects), 0.1, content, stop_at_iou, cap)


def made_result(
    *datasets: DatasetResult,
    name: str = "bilinear",
    sha256: str | None = "ab" * 32,
    seed: int = 0,
    protocol: Protocol = PROTOCOL,
    backbone_sha256: str | None = "cd" * 32,
    epochs: int | None = None,
) -> Result:
    """A result on these data sets, with every field filled."""
    record = {"loss": 0.2, "iou": 0.6, "validation_iou": None, "seconds": 1.0}
    return Result(
        protocol=protocol.replace(seed=seed, test_datasets=tuple(found.name for found in datasets)),
        upsampler={
            "name": name, "kind": "object", "sha256": sha256, "source": None, "output_size": (128, 128),
            "deterministic": True, "batch_independent": True, "repeat_deviation": 0.0, "batch_deviation": 1e-7,
            "n_parameters": None, "ms_per_image": 1.5 + seed, "warnings": (),
        },
        backbone={"name": protocol.backbone, "width": 320, "patch_size": 16, "sha256": backbone_sha256},
        datasets={found.name: found for found in datasets},
        training=tuple({"epoch": epoch, **record} for epoch in range(protocol.epochs if epochs is None else epochs)),
        environment={"vfm_isbench": "0.2.0", "device": "cpu", "cpu": "made-up processor", "threads": 1, "cuda": None},
        timings={"training": 10.0},
        created="2026-11-25T12:00:00+00:00",
        notes=("made up",),
    )  # fmt: skip


def result_of(
    upsampler: str,
    ious: Mapping[str, Sequence[Sequence[float]]],
    *,
    content: str | None = "content",
    sha256: str | None = "ab",
    **fields: Any,
) -> Result:
    """A result from IoUs by data set, object and click, under the demo protocol with these fields."""
    clicks = len(next(iter(ious.values()))[0])
    protocol = Protocol.preset("demo").replace(max_clicks=clicks, **fields)
    datasets = [made_dataset(rows, name=dataset, content=content) for dataset, rows in ious.items()]
    return made_result(*datasets, name=upsampler, sha256=sha256, protocol=protocol, seed=protocol.seed)


def random_ious(seed: int, objects: int = 40, clicks: int = 6, shift: float = 0.0) -> Array:
    """N×K IoUs that rise with the clicks; ``shift`` improves all of them."""
    rng = np.random.default_rng(seed)
    rising = np.sort(rng.uniform(0.3, 0.97, (objects, clicks)), axis=1)
    return np.clip(rising + shift, 0.0, 1.0)


def seeds_of(name: str, seeds: Sequence[int], *, shift: float = 0.0, noise: float = 0.01, **more: Any) -> list[Result]:
    """Results of one upsampler on the same objects, with a little noise from seed to seed."""
    base = random_ious(7)
    sha256 = f"{sum(map(ord, name)):064x}"
    results = []
    for seed in seeds:
        rng = np.random.default_rng([seed, sum(map(ord, name))])
        ious = np.clip(base + shift + rng.normal(scale=noise, size=base.shape), 0.0, 1.0)
        results.append(made_result(made_dataset(ious), name=name, sha256=sha256, seed=seed, **more))
    return results


def stopping_early(run: Result) -> Result:
    """The same run on davis, if it had stopped at objects that reach 90 %."""
    ious = run.datasets["davis"].ious.copy()
    for row in ious:
        reached = np.flatnonzero(row >= 0.9)
        row[reached[0] + 1 if len(reached) else len(row) :] = np.nan
    return dataclasses.replace(run, datasets={"davis": made_dataset(ious, stop_at_iou=(80, 85, 90))})


@lru_cache(maxsize=32)
def object_ids(dataset: str) -> tuple[ObjectId, ...]:
    """Objects of a test set: the real ones of the scenes; for the others invented ids in the published numbers."""
    manifest = manifest_of(dataset)
    if manifest is None:
        return tuple(ObjectId(f"{dataset}-{number}") for number in range(6))
    if manifest.objects is not None:
        return manifest.objects
    if not manifest.has_instances:
        return tuple(ObjectId(f"{dataset}-{number:04d}.jpg") for number in range(manifest.n_objects))
    return tuple(
        ObjectId(f"{dataset}-{number % manifest.n_images:04d}", number // manifest.n_images + 1)
        for number in sorted(range(manifest.n_objects), key=lambda number: (number % manifest.n_images, number))
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthetic:
    """How good a synthetic result is.

    Attributes:
        skill: 0 is like bilinear; 1 reaches an IoU in e times fewer clicks.
        noise: How much objects differ from what their difficulty says.
        stop_at_iou: IoUs in percent at which objects were left.
    """

    skill: float = 0.0
    noise: float = 0.1
    stop_at_iou: tuple[int, ...] | None = None


def synthetic_result(
    upsampler: str = "bilinear", *, seed: int = 0, protocol: Protocol | str = DEMO, **quality: Any
) -> Result:
    """A result that the leaderboard accepts.

    IoUs rise with the clicks. How fast depends on the object (equally for all upsamplers, so that differences pair), on
    ``skill``, and on noise of the upsampler and seed.

    Args:
        upsampler: A built-in name, which gets its real hash, or any other.
        seed: Training seed.
        protocol: Name of a preset, or a protocol.
        quality: See :class:`Synthetic`.
    """
    protocol = (Protocol.preset(protocol) if isinstance(protocol, str) else protocol).replace(seed=seed)
    sha256 = identity_of(load_upsampler(upsampler)).sha256 if upsampler in list_upsamplers() else _sha256(upsampler)
    datasets = [_dataset(name, protocol, upsampler, Synthetic(**quality)) for name in protocol.test_datasets]
    return made_result(
        *datasets, name=upsampler, sha256=sha256, seed=seed, protocol=protocol,
        backbone_sha256=_sha256(protocol.backbone),
    )  # fmt: skip


def synthetic_entry(
    upsampler: str = "bilinear",
    *,
    name: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    date: str = "2026-11-25",
    **more: Any,
) -> Entry:
    """An entry of :func:`synthetic_result`, by default with three seeds."""
    results = [synthetic_result(upsampler, seed=seed, **more) for seed in seeds]
    return make_entry(results, name=name or upsampler, code=CODE, date=date)


def _dataset(name: str, protocol: Protocol, upsampler: str, quality: Synthetic) -> DatasetResult:
    objects = object_ids(name)[: protocol.object_limit]
    cap = protocol.max_clicks
    rng = np.random.default_rng(_number(name, upsampler, protocol.seed))
    manifest = manifest_of(name)
    size = manifest.image_size if manifest is not None else None
    places = rng.integers(0, size or (HEIGHT, WIDTH), size=(len(objects), cap, 2)).tolist()
    evidence = []
    for object_id, ious, where in zip(objects, _ious(objects, protocol, upsampler, quality), places, strict=True):
        count = cap if quality.stop_at_iou is None else stopping_click(ious, quality.stop_at_iou, cap)
        clicks = tuple(Click(row, col, number % 3 == 0) for number, (row, col) in enumerate(where[:count]))
        evidence.append(ObjectEvidence(object_id, clicks, tuple(ious[:count])))
    known = None if manifest is None else manifest.content_sha256(len(objects))
    content = known or _sha256(f"{name} {len(objects)}")
    return DatasetResult(
        name, tuple(evidence), 0.05, content, quality.stop_at_iou, None if quality.stop_at_iou is None else cap
    )


def _ious(objects: Sequence[ObjectId], protocol: Protocol, upsampler: str, quality: Synthetic) -> list[list[float]]:
    own = np.array([_number(object_id) / 2**32 for object_id in objects])[:, None]
    rng = np.random.default_rng(_number(upsampler, protocol.seed))
    speed = (0.08 + 0.5 * own) * np.exp(quality.skill + quality.noise * rng.normal(size=own.shape))
    clicks = np.arange(protocol.max_clicks)
    ious = 0.98 - (0.9 - 0.5 * own) * np.exp(-speed * clicks) + 0.01 * rng.normal(size=(1, len(clicks)))
    found: list[list[float]] = np.clip(ious, 0, 1).tolist()
    return found


def _number(*parts: object) -> int:
    return zlib.crc32("|".join(map(str, parts)).encode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
