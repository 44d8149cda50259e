"""Evaluations that stop once every threshold is reached, against those that place all clicks; a part of ratios.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cases import SPEEDS, evaluated, evaluation_datasets, table
from timing import ratio, spread, turned

from vfm_isbench import Protocol
from vfm_isbench.metrics import number_of_clicks
from vfm_isbench.reference import assemble_reference, read_reference
from vfm_isbench.types import Array, ObjectEvidence

TARGET = 1.5
THRESHOLDS = (80, 85, 90)
_WAYS = {"all clicks": SPEEDS["fast"], "early stop": replace(SPEEDS["fast"], early_stop=THRESHOLDS)}


def measure_early_stop(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Rows of the table, one per recorded model: seconds for all objects of all data sets."""
    protocol = Protocol.preset("reference").replace(object_limit=options.objects, max_clicks=options.clicks)
    datasets = evaluation_datasets(options, protocol)
    rows = []
    for path in sorted((options.parity / "end_to_end").glob("*.safetensors")):
        probe = assemble_reference(read_reference(path)).to(device)
        row: dict[str, Any] = {"model": path.stem, "target": TARGET, "equal": True, "clicks": {}}
        row |= {name: [] for name in _WAYS}
        for turn in range(options.rounds):
            evidence: dict[str, list[list[ObjectEvidence]]] = {}
            for name in turned(list(_WAYS), turn):
                found = [evaluated(probe, dataset, protocol, _WAYS[name]) for dataset in datasets]
                row[name].append(sum(one.seconds for one in found))
                row["clicks"][name] = sum(one.times.clicks for one in found)
                evidence[name] = [one.evidence for one in found]
            pairs = zip(*evidence.values(), strict=True)
            row["equal"] &= all(_scores(one, options.clicks) == _scores(other, options.clicks) for one, other in pairs)
        row["objects"] = sum(map(len, evidence["all clicks"]))
        rows.append(row)
        print(early_stop_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def _scores(evidence: Sequence[ObjectEvidence], clicks: int) -> list[list[float]]:
    """Clicks to every threshold, and IoU after the first click, object by object."""
    ious: Array = np.full((len(evidence), clicks), np.nan)
    for row, found in zip(ious, evidence, strict=True):
        row[: len(found.ious)] = found.ious
    return [*(number_of_clicks(ious, percent / 100).tolist() for percent in THRESHOLDS), ious[:, 0].tolist()]


def early_stop_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    head = ["recorded model", "objects", "clicks, all", "clicks, early stop", "all clicks, s", "early stop, s", "ratio"]
    return table([*head, "target", "NoC80/85/90 and IoU@1 equal"], [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[object]:
    return [
        row["model"],
        row["objects"],
        row["clicks"]["all clicks"],
        row["clicks"]["early stop"],
        spread(row["all clicks"]),
        spread(row["early stop"]),
        f"{ratio(row['all clicks'], row['early stop']):.2f}",
        f"≥ {row['target']}",
        "yes" if row["equal"] else "NO",
    ]
