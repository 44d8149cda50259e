"""Measure the evaluation of whole objects by both ways; a part of ratios.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from cases import (
    SPEEDS,
    WAYS,
    Case,
    Evaluated,
    SomeObjects,
    evaluated,
    evaluation_datasets,
    probe_of,
    protocol_of,
    table,
)
from stopwatch import Stopwatch
from timing import ratio, seconds, spread, turned
from torch import Tensor, nn

from vfm_isbench.acceleration.cached_probe import CachedProbe, UncachedProbe
from vfm_isbench.datasets import ObjectDataset
from vfm_isbench.isegprobe import assemble_reference, read_reference
from vfm_isbench.isegprobe import protocol_of as reference_protocol
from vfm_isbench.kernels.winograd import Winograd
from vfm_isbench.probe import Probe
from vfm_isbench.protocol import Protocol

TARGETS = {
    Case("bilinear", "late"): 1.9,
    Case("bilinear", "early"): 1.9,
    Case("loftup", "late"): 5.0,
    Case("loftup", "early"): 2.5,
    Case("featup", "late"): 4.0,
}
"""How many times faster the fast way should be."""


def measure_evaluation(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Measure the rows of the table, one per case, with the values of every round."""
    rows = []
    for case in options.cases:
        protocol = protocol_of(case, options, max_clicks=options.clicks)
        few = protocol.replace(max_clicks=min(options.slow_clicks, options.clicks))
        probe = probe_of(case, protocol, device)
        row = _measure(
            probe, {"slow": few, "fast": protocol}, evaluation_datasets(options, protocol)[0], options, device
        )
        rows.append({"case": str(case), "target": TARGETS.get(case), **row})
        print(evaluation_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def measure_recorded(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """The same for recorded models, which are small but trained, so crops change and every click can be compared."""
    rows = []
    for path in sorted((options.parity / "end_to_end").glob("*.safetensors")):
        model = read_reference(path)
        protocol = reference_protocol(model).replace(max_clicks=options.clicks)
        probe, dataset = assemble_reference(model).to(device), evaluation_datasets(options, protocol)[0]
        row = _measure(probe, dict.fromkeys(WAYS, protocol), dataset, options, device)
        rows.append({"case": path.stem, "target": None, **row})
        print(evaluation_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def _measure(
    probe: Probe,
    protocols: dict[str, Protocol],
    dataset: ObjectDataset,
    options: argparse.Namespace,
    device: torch.device,
) -> dict[str, Any]:
    """Measure every round by both ways, each with its own protocol."""
    protocol = protocols["fast"]
    conv = UnavoidableConv(probe, protocol.image_size, device)
    conv.direct(), conv.winograd()
    for way in WAYS:
        evaluated(probe, SomeObjects(dataset, 0, 1), protocol.replace(max_clicks=1), SPEEDS[way])
    row: dict[str, Any] = {
        "data": dataset.name,
        "clicks": {way: protocols[way].max_clicks for way in WAYS},
        **{
            key: [] for key in (*WAYS, "crops", "crop", "outside_network", "clicker", "direct", "winograd", "agreement")
        },
    }
    for turn in range(options.rounds):
        objects = SomeObjects(dataset, turn * options.objects_per_round, options.objects_per_round)
        found: dict[str, Evaluated] = {}
        for way in turned(WAYS, turn):
            watch = _network_watch(device, 2 if protocol.flip_test else 1)
            with watch:
                found[way] = evaluated(probe, objects, protocols[way], SPEEDS[way])
            row[way].append(found[way].per_click)
            if way == "fast":
                row["crops"].append(watch.counts["encode"] / len(objects.objects))
                row["crop"].append(watch.seconds["encode"] / watch.counts["encode"])
                row["outside_network"].append(1 - watch.seconds.total() / found[way].seconds)
                row["clicker"].append(found[way].times.clicking / found[way].seconds)
        row["direct"].append(seconds(conv.direct, device))
        row["winograd"].append(seconds(conv.winograd, device))
        row["agreement"] += _agreement(found["slow"], found["fast"])
    return row


def _network_watch(device: torch.device, views: int) -> Stopwatch:
    """Time inside the network, and the number of encoded crops; the slow way encodes nothing ahead."""
    watch = Stopwatch(device)
    for kind in (CachedProbe, UncachedProbe):
        watch.watch(kind, "encode", "encode", lambda _probe, image, *_: len(image) // views)
        watch.watch(kind, "logits", "logits")
    return watch


class UnavoidableConv:
    """The 3×3 convolution at image size that every click needs, on an image and its mirror image.

    Args:
        probe: The probe, whose head's last convolution is used.
        size: Side of the maps.
        device: Where to run it.
    """

    def __init__(self, probe: Probe, size: int, device: torch.device) -> None:
        self._conv: nn.Conv2d = probe.head.convs[-1].conv
        self._quick = Winograd(self._conv.weight, self._conv.bias)
        maps = torch.rand(2, self._conv.in_channels, size, size, device=device)
        self._maps: Tensor = maps.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def direct(self) -> None:
        """Run it with PyTorch."""
        self._conv(self._maps)

    @torch.inference_mode()
    def winograd(self) -> None:
        """Run it with Winograd's minimal filtering."""
        self._quick(self._maps)


def _agreement(slow: Evaluated, fast: Evaluated) -> list[dict[str, Any]]:
    """For each object: whether both ways placed the same clicks, and how much IoUs differ until they part."""
    found = []
    for a, b in zip(slow.evidence, fast.evidence, strict=True):
        pairs = list(zip(a.clicks, b.clicks, a.ious, b.ious, strict=False))
        same = next((number for number, (first, second, _, _) in enumerate(pairs) if first != second), len(pairs))
        differences = [abs(first - second) for _, _, first, second in pairs[:same]]
        found.append(
            {"object": str(a.object_id), "same_clicks": same == len(pairs), "iou_difference": max(differences)}
        )
    return found


def evaluation_table(rows: Sequence[dict[str, Any]]) -> str:
    """The speed-ups, as a Markdown table."""
    head = ["upsampler, injection", "slow, s/click", "fast, s/click", "ratio", "target", "crops per object", "s/crop"]
    return table([*head, "outside the network, % (≤ 5)", "clicker and IoU, %"], [_cells(row) for row in rows])


def bound_table(rows: Sequence[dict[str, Any]]) -> str:
    """The distance to the bound and the agreement of both ways, as a Markdown table."""
    head = ["upsampler, injection", "conv, direct, s", "conv, Winograd, s", "direct / fast", "Winograd / fast"]
    return table([*head, "objects with the same clicks", "largest IoU difference"], [_bound(row) for row in rows])


def agreement_table(rows: Sequence[dict[str, Any]]) -> str:
    """The agreement of both ways, as a Markdown table."""
    head = ["model", "objects with the same clicks", "largest IoU difference"]
    return table(head, [[row["case"], *_agreed(row)] for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["case"],
        spread(row["slow"]),
        spread(row["fast"]),
        f"{ratio(row['slow'], row['fast']):.2f}",
        "–" if row["target"] is None else f"≥ {row['target']}",
        spread(row["crops"]),
        spread(row["crop"]),
        spread(row["outside_network"], 100),
        spread(row["clicker"], 100),
    ]


def _bound(row: dict[str, Any]) -> list[str]:
    return [
        row["case"],
        spread(row["direct"]),
        spread(row["winograd"]),
        f"{ratio(row['direct'], row['fast']):.2f}",
        f"{ratio(row['winograd'], row['fast']):.2f}",
        *_agreed(row),
    ]


def _agreed(row: dict[str, Any]) -> list[str]:
    found = row["agreement"]
    same = sum(object_["same_clicks"] for object_ in found)
    return [f"{same} of {len(found)}", f"{max(object_['iou_difference'] for object_ in found):.0e}"]
