"""Results that were never measured, but look like measured ones to whatever reads them: real ids, every field filled.

IoUs rise with the clicks; how fast depends on the object (the same for every upsampler, so that differences pair), on
``skill``, and on noise of the upsampler and seed.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.manifests import manifest_of
from vfm_isbench.leaderboard.submission import make_entry
from vfm_isbench.metrics import stopping_click
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import DatasetResult, Result
from vfm_isbench.types import Array, Click, ObjectEvidence, ObjectId
from vfm_isbench.upsamplers import identity_of, list_upsamplers, load_upsampler

HEIGHT, WIDTH = 240, 320
CODE = "https://example.org/code"


@lru_cache(maxsize=32)
def object_ids(dataset: str) -> tuple[ObjectId, ...]:
    """Objects of a test set: the real ones of the scenes, made-up ones in the published numbers of the others."""
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


def _number(*parts: object) -> int:
    return zlib.crc32("|".join(map(str, parts)).encode())


def ious_of(
    objects: Sequence[ObjectId], max_clicks: int, upsampler: str, seed: int, skill: float, noise: float
) -> Array:
    """N×K made-up IoUs in [0, 1]."""
    own = np.array([_number(one) / 2**32 for one in objects])[:, None]
    rng = np.random.default_rng(_number(upsampler, seed))
    speed = (0.08 + 0.5 * own) * np.exp(skill + noise * rng.normal(size=own.shape))
    ious = 0.98 - (0.9 - 0.5 * own) * np.exp(-speed * np.arange(max_clicks)) + 0.01 * rng.normal(size=(1, max_clicks))
    return np.clip(ious, 0, 1)


def synthetic_result(
    upsampler: str = "bilinear",
    *,
    seed: int = 0,
    skill: float = 0.0,
    noise: float = 0.1,
    protocol: Protocol | str = "demo",
    stop_at_iou: tuple[int, ...] | None = None,
) -> Result:
    """One made-up result.

    Args:
        upsampler: A built-in name, whose real identity it then bears, or any other.
        seed: Training seed.
        skill: 0 is like bilinear; 1 reaches an IoU in e times fewer clicks.
        noise: How much objects differ from what their difficulty says.
        protocol: Name of a preset, or a protocol.
        stop_at_iou: IoUs in percent after which objects were left.
    """
    protocol = (Protocol.preset(protocol) if isinstance(protocol, str) else protocol).replace(seed=seed)
    datasets = {
        name: _dataset(name, protocol, upsampler, seed, skill, noise, stop_at_iou) for name in protocol.test_datasets
    }
    if upsampler in list_upsamplers():
        sha256 = identity_of(load_upsampler(upsampler)).sha256
    else:
        sha256 = hashlib.sha256(upsampler.encode()).hexdigest()
    record = {"loss": 0.2, "iou": 0.6, "validation_iou": None, "seconds": 1.0}
    return Result(
        protocol=protocol,
        upsampler={
            "name": upsampler, "kind": "object", "sha256": sha256, "source": None, "output_size": (128, 128),
            "deterministic": True, "batch_independent": True, "repeat_deviation": 0.0, "batch_deviation": 1e-7,
            "n_parameters": None, "ms_per_image": 1.5 + seed, "warnings": (),
        },
        backbone={
            "name": protocol.backbone, "width": 320, "patch_size": 16,
            "sha256": hashlib.sha256(protocol.backbone.encode()).hexdigest(),
        },
        datasets=datasets,
        training=tuple({"epoch": epoch, **record} for epoch in range(protocol.epochs)),
        environment={"vfm_isbench": "0.2.0", "device": "cpu", "cpu": "made-up processor", "threads": 1, "cuda": None},
        timings={"training": 10.0},
        created="2026-11-25T12:00:00+00:00",
        notes=("made up",),
    )  # fmt: skip


def _dataset(
    name: str,
    protocol: Protocol,
    upsampler: str,
    seed: int,
    skill: float,
    noise: float,
    stop_at_iou: tuple[int, ...] | None,
) -> DatasetResult:
    objects = object_ids(name)[: protocol.object_limit]
    cap = protocol.max_clicks
    rng = np.random.default_rng(_number(name, upsampler, seed))
    places = rng.integers(0, (HEIGHT, WIDTH), size=(len(objects), cap, 2)).tolist()
    evidence = []
    for object_id, ious, where in zip(
        objects, ious_of(objects, cap, upsampler, seed, skill, noise).tolist(), places, strict=True
    ):
        count = cap if stop_at_iou is None else stopping_click(ious, stop_at_iou, cap)
        clicks = tuple(Click(row, col, number % 3 == 0) for number, (row, col) in enumerate(where[:count]))
        evidence.append(ObjectEvidence(object_id, clicks, tuple(ious[:count])))
    manifest = manifest_of(name)
    known = None if manifest is None else manifest.content_sha256(len(objects))
    content = known or hashlib.sha256(f"{name} {len(objects)}".encode()).hexdigest()
    return DatasetResult(name, tuple(evidence), 0.05, content, stop_at_iou, None if stop_at_iou is None else cap)


def synthetic_entry(
    upsampler: str = "bilinear",
    *,
    name: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    skill: float = 0.0,
    noise: float = 0.1,
    protocol: Protocol | str = "demo",
    stop_at_iou: tuple[int, ...] | None = None,
    date: str = "2026-11-25",
) -> Entry:
    """One made-up entry, by default of three seeds."""
    results = [
        synthetic_result(upsampler, seed=seed, skill=skill, noise=noise, protocol=protocol, stop_at_iou=stop_at_iou)
        for seed in seeds
    ]
    return make_entry(results, name=name or upsampler, code=CODE, date=date)
