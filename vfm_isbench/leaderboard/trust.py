"""Derives from an entry's evidence how far to trust it and whether to rank it, whatever the entry claims."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from vfm_isbench.datasets.own_names import is_own
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.manifests import manifest_of
from vfm_isbench.protocol import PRESETS, Protocol

Trust: TypeAlias = Literal["self-reported", "recomputed", "reproduced"]


def trust_of(entry: Entry) -> Trust:
    """The trust tier of a valid entry."""
    if entry.reproduced is not None:
        return "reproduced"
    return "self-reported" if evidence_gaps(entry) else "recomputed"


def evidence_gaps(entry: Entry) -> list[str]:
    """What is missing from the evidence to recompute the scores completely."""
    gaps = []
    if entry.protocol.object_limit is not None:
        gaps.append(f"only the first {entry.protocol.object_limit} objects of each test set were evaluated")
    for name, found in entry.datasets.items():
        if manifest_of(name) is None:
            gaps.append(f"this library does not know the objects of {name}")
        if found.content_sha256 is None:
            gaps.append(f"the content of {name} is not identified")
    if missing := _stopped_early(entry):
        gaps.append(f"clicks were skipped on {', '.join(missing)} (early stop)")
    if entry.upsampler["sha256"] is None:
        gaps.append("the upsampler's code and weights are not identified")
    if entry.runs[0].backbone["sha256"] is None:
        gaps.append("the backbone's weights are not identified")
    return gaps


def why_unranked(entry: Entry) -> list[str]:
    """Every reason why an entry is not ranked; empty if it is."""
    protocol = entry.protocol
    preset = preset_of(protocol)
    reasons = []
    if protocol.object_limit is not None:
        reasons.append(f"only the first {protocol.object_limit} objects of each test set were evaluated (--limit)")
    precisions = sorted({str(run.speed["precision"]) for run in entry.runs if "precision" in run.speed})
    if precisions:
        reasons.append(f"computed in {', '.join(precisions)}, not in float32 (--precision)")
    changed = [field for field in protocol.changed_fields() if field != "object_limit"]
    if changed:
        reasons.append(f"its protocol differs from the {protocol.label} protocol in {', '.join(changed)}")
    elif preset is None and protocol.object_limit is None:
        reasons.append(f"its protocol, {protocol.label!r}, is not one of {', '.join(PRESETS)}")
    if preset is not None:
        absent = [name for name in preset.test_datasets if name not in entry.datasets]
        if absent:
            reasons.append(f"it lacks the test sets {', '.join(absent)}")
    own = [name for name in entry.datasets if is_own(name)]
    if own:
        reasons.append(f"it has test sets of its own, {', '.join(own)}; submit results on the published sets alone")
    if missing := _stopped_early(entry):
        reasons.append(f"scores are missing, because clicks were skipped on {', '.join(missing)} (early stop)")
    for run in entry.runs:
        if len(run.training) != protocol.epochs:
            epochs = f"trained for {len(run.training)} of {protocol.epochs} epochs"
            reasons.append(f"seed {run.protocol.seed} was {epochs if run.training else 'not trained by this library'}")
    if any(run.upsampler.get("uses_features") is False for run in entry.runs):
        reasons.append(
            "its upsampler ignores the features of the protocol's backbone, so its scores are those of what it "
            "computes from the image by itself"
        )
    if any(found.content_sha256 is None for found in entry.datasets.values()):
        reasons.append("its test data are not identified")
    if len(entry.seeds) == 1:
        reasons.append("a single training seed: the spread between seeds is unknown; at least 2 are needed")
    return reasons


def preset_of(protocol: Protocol) -> Protocol | None:
    """The preset with the same fingerprint, whatever the protocol's label; None if there is none."""
    return next((preset for preset in PRESETS.values() if preset.fingerprint() == protocol.fingerprint()), None)


def headline_of(protocol: Protocol) -> str:
    """The metric that ranks entries with this protocol's fingerprint, whatever the protocol's label."""
    return (preset_of(protocol) or protocol).headline


def _stopped_early(entry: Entry) -> list[str]:
    return [name for name in entry.datasets if any(np.isnan(run.datasets[name].ious).any() for run in entry.runs)]
