"""Made-up page data in the leaderboard's format: these upsamplers do not exist, and nothing was measured."""

from __future__ import annotations

from typing import Any

DATASETS = {"grabcut": 50, "berkeley": 100, "davis": 345, "sbd": 6671}
OFFSETS = {"grabcut": 0.0, "berkeley": 4.3, "davis": 8.6, "sbd": 6.4}
PAPER, DEMO = "c0ffee123456-4sets", "5eed00abcdef-scenes"


def group(identity: str, **changes: Any) -> dict[str, Any]:
    values = {
        "id": identity,
        "protocol": "paper",
        "fingerprint": "c0ffee123456" + "7" * 52,
        "backbone": "dinov2_vits14",
        "click_encoder": "simple_vit",
        "injection": "late",
        "head": "conv",
        "image_size": 224,
        "max_clicks": 20,
        "datasets": [
            {"name": name, "objects": objects, "content_sha256": f"{objects:064d}"}
            for name, objects in DATASETS.items()
        ],
        "signature": "grabcut:50,berkeley:100,davis:345,sbd:6671|bb:dinov2_vits14|enc:simple_vit|inj:late|head:conv2|"
        "px:224|clicks:ritm20|flip:yes|proto:paper@1|v:0.3.0|hash:c0ffee123456",
    }
    return values | changes


def interval(value: float, half: float) -> dict[str, float]:
    return {"value": round(value, 4), "low": round(value - half, 4), "high": round(value + 1.1 * half, 4)}


def place(rank: int | None, low: int | None = None, high: int | None = None) -> dict[str, int | None]:
    return {"rank": rank, "rank_low": low or rank, "rank_high": high or rank}


def scores(noc90: float, objects: int, rank: int | None, cap: int = 20) -> dict[str, Any]:
    """Scores that fit together roughly like measured ones."""
    noc90 = min(noc90, cap - 0.2)
    half = 4.5 / objects**0.5
    start = 0.86 - noc90 / 40
    limit = 0.975 - noc90 / 160
    return {
        "objects": objects,
        **place(rank),
        "noc80": interval(0.45 * noc90, 0.7 * half),
        "noc85": interval(0.66 * noc90, 0.85 * half),
        "noc90": interval(noc90, half),
        "iou_at_1": interval(start, half / 30),
        "not_reached90": round(objects * (noc90 / cap) ** 2 * 0.8, 1),
        "curve": [round(limit - (limit - start) * 0.74**click, 4) for click in range(cap)],
    }


def entry(identity: str, name: str, noc90: float, rank: int | None, **changes: Any) -> dict[str, Any]:
    values = {
        "id": identity,
        "group": PAPER,
        "protocol": "paper",
        "injection": "late",
        "origin": "measured",
        "name": name,
        "upsampler": name,
        "status": "ranked",
        "why_unranked": None,
        **place(rank),
        "mean_headline": None if rank is None else round(noc90 + sum(OFFSETS.values()) / len(OFFSETS), 3),
        "better": [],
        "seeds": [0, 1, 2],
        "trust": "recomputed",
        "parameters": None,
        "ms_per_image": None,
        "timed_on": "NVIDIA H100, bfloat16",
        "code": f"https://example.org/{identity}",
        "paper": None,
        "citation": None,
        "date": "2026-11-20",
        "submitter": "A. Sample",
        "version": "0.3.0",
        "signature": f"{group(PAPER)['signature']}|up:{identity}",
        "rerun": [
            "python -m pip install . torch==2.14.1",
            *(f"vfm-isbench run {identity} --protocol paper --data-root DATA --seed {seed}" for seed in range(3)),
        ],
        "reproduce": f"vfm-isbench leaderboard reproduce {identity} --data-root DATA",
        "notes": [],
        "scores": {name: scores(noc90 + OFFSETS[name], objects, rank) for name, objects in DATASETS.items()},
    }
    return values | changes


def quoted(identity: str, name: str, noc90: dict[str, float], **changes: Any) -> dict[str, Any]:
    """A row quoted from a paper: one score, no interval."""
    only = {"low": None, "high": None}
    bare = {"objects": None, **place(None), "noc80": None, "noc85": None, "iou_at_1": None, "not_reached90": None}
    return (
        entry(
            identity,
            name,
            0.0,
            None,
            group=None,
            status="quoted",
            date=None,
            notes=["simple_vit, late injection; 224×224"],
            seeds=[],
            trust=None,
            timed_on=None,
            code=None,
            citation="Sample, Example and Nobody: Upsampling that was never done. Proceedings of Nowhere, 2026",
            paper="https://example.org/paper",
            submitter=None,
            version=None,
            signature=None,
            origin="quoted, second-hand",
            rerun=None,
            reproduce=None,
            scores={
                dataset: {**bare, "noc90": {"value": value, **only}, "curve": None} for dataset, value in noc90.items()
            },
        )
        | changes
    )


def sample() -> dict[str, Any]:
    """Two groups with four data sets and one, twelve entries, missing values, quoted and removed entries."""
    ranked = [
        entry("summit", "Summit-L", 5.1, 1, parameters=18_400_000, ms_per_image=14.2, trust="reproduced"),
        entry("ridge", "Ridge", 5.5, 2, parameters=4_300_000, ms_per_image=6.61),
        entry("glacier", "Glacier-JBU", 6.9, 3, parameters=112_000, ms_per_image=21.7),
        entry("moraine", "Moraine", 7.1, 4, parameters=1_250_000, ms_per_image=3.94),
        entry("scree", "Scree (guided filter)", 7.3, 5, parameters=0, ms_per_image=9.1, timed_on="2 x86 cores"),
        entry("bilinear", "bilinear", 8.8, 6, parameters=0, ms_per_image=0.08, trust="reproduced"),
        entry("nearest", "nearest", 9.6, 7, parameters=0, ms_per_image=0.05, seeds=[0, 1], trust="self-reported"),
        entry("tarn", "Tarn-Tiny-with-a-rather-long-name", 10.4, 8, parameters=96_000, ms_per_image=None),
    ]
    open_ranks = [(1, 2), (1, 4), (2, 5), (2, 5), (3, 6), (5, 6), (7, 7), (8, 8)]
    names = [row["id"] for row in ranked]
    for row, (low, high) in zip(ranked, open_ranks, strict=True):
        row |= place(row["rank"], low, high) | {"better": names[: low - 1]}
    for row, places in zip(ranked, ([1, 1, 2, 2], [2, 2, 1, 1]), strict=False):
        for found, rank in zip(row["scores"].values(), places, strict=True):
            found |= place(rank, 1, 2)
    ranked[7]["rerun"] = None
    ranked[7]["reproduce"] = "vfm-isbench leaderboard reproduce tarn --upsampler UPSAMPLER"
    # Stopped early: scores that need missing values are missing, and so is the end of the curve.
    stopped = ranked[7]["scores"]["sbd"]
    stopped["noc85"] = None
    stopped["curve"] = [*stopped["curve"][:6], *[None] * 14]
    unranked = entry(
        "crag",
        "Crag",
        4.2,
        None,
        status="unranked",
        why_unranked="trained on images of DAVIS",
        parameters=31_000_000,
        ms_per_image=40.3,
        notes=["Its training data overlap with a test set."],
    )
    apart = entry("partial", "Cornice", 6.0, None, group=None, status="unranked", why_unranked="object_limit is 20")
    del ranked[5]["scores"]["sbd"]["iou_at_1"]
    demo = [
        entry(identity, identity, 0.0, rank, group=DEMO, parameters=0, ms_per_image=ms, timed_on="2 x86 cores")
        | {
            "protocol": "demo",
            "mean_headline": noc90,
            "scores": {"scenes": scores(noc90, 38, rank)},
            "rerun": [f"vfm-isbench run {identity}"],
        }
        for identity, rank, noc90, ms in [("demo-jbu", 1, 14.0, 24.0), ("demo-bilinear", 2, 18.8, 0.5)]
    ]
    papers = [
        quoted("q-fjord", "Fjord", {"grabcut": 4.66, "berkeley": 8.69, "davis": 14.25, "sbd": 11.87}),
        quoted("q-bilinear", "bilinear", {"grabcut": 8.68, "berkeley": 13.72}),
        quoted(
            "q-early",
            "bilinear",
            {"grabcut": 10.58, "davis": 17.73},
            protocol="paper-early",
            injection="early",
            origin="quoted",
            notes=["patch_embedding, early injection; 224×224"],
        ),
    ]
    return {
        "generated": "2026-11-25",
        "version": "0.3.0",
        "repository": None,
        "wanted": None,
        "groups": [
            group(DEMO, protocol="demo", backbone="efficientnet_lite0@16", image_size=128, fingerprint="5eed00" * 10)
            | {"datasets": [{"name": "scenes", "objects": 38, "content_sha256": "1" * 64}]},
            group(PAPER),
        ],
        "entries": [*demo, unranked, *reversed(ranked), apart, *papers],
        "removed": [{"name": "Serac", "date": "2026-10-02", "why": "its weights were trained on the test sets"}],
    }
