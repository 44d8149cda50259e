"""The content of the page as JSON: groups of comparable entries, their scores and ranks, quotes, removals."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any

from vfm_isbench.leaderboard.board import Board, group_id, ranked_datasets
from vfm_isbench.leaderboard.entry import Entry, slug
from vfm_isbench.leaderboard.full_size import NEEDS, commands, has_full_size
from vfm_isbench.leaderboard.repository import REPOSITORY
from vfm_isbench.leaderboard.rerun_commands import reproduce_command, rerun_commands
from vfm_isbench.leaderboard.scores import METRICS, at_the_cap, curve, further_scores, score
from vfm_isbench.leaderboard.table import (
    code_of,
    head_label,
    milliseconds,
    parameters_of,
    peak_memory_of,
    protocol_label,
    recorded_of,
    timed_on,
    versions,
)
from vfm_isbench.leaderboard.trust import evidence_gaps, headline_of, trust_of, why_unranked
from vfm_isbench.protocol import Protocol
from vfm_isbench.results.intervals import Estimate
from vfm_isbench.results.quoted import QuotedTable, quoted_tables
from vfm_isbench.results.rank_ranges import Place

PLACE = ("rank", "rank_low", "rank_high")
DEMO_NOTE = "demo numbers: they compare upsamplers on generated scenes and do not follow the paper's protocol"


def page_data(
    board: Board, *, version: str, generated: str | None = None, repository: str | None = REPOSITORY
) -> dict[str, Any]:
    """JSON-ready content of the page.

    Args:
        board: The leaderboard.
        version: Version of this library.
        generated: Date in ISO 8601; today by default.
        repository: Web address of this library's repository; None if it has none: then no link to it is shown.
    """
    return {
        "generated": generated or datetime.date.today().isoformat(),
        "version": version,
        "repository": repository,
        # What it takes to add a full-size result; None as soon as there is one.
        "wanted": None if has_full_size(board.entries) else {"needs": list(NEEDS), "commands": commands(repository)},
        "groups": [_group(group, members) for group, members in board.groups.items()],
        "entries": [*(_entry(board, entry, repository) for entry in board.entries), *_quoted()],
        "removed": [{"name": gone.name, "date": gone.date, "why": gone.why} for gone in board.removals],
    }


def _group(group: str, members: Sequence[Entry]) -> dict[str, Any]:
    entry = members[0]
    protocol = entry.protocol
    datasets = ranked_datasets(entry)
    return {
        "id": group,
        "protocol": protocol_label(entry),
        "headline": headline_of(protocol),
        "fingerprint": entry.fingerprint,
        "backbone": protocol.backbone,
        "click_encoder": protocol.click_encoder,
        "injection": protocol.injection,
        "head": head_label(entry),
        "image_size": protocol.image_size,
        "max_clicks": protocol.max_clicks,
        "datasets": [
            {
                "name": name,
                "objects": len(entry.datasets[name].objects),
                "content_sha256": entry.datasets[name].content_sha256,
            }
            for name in datasets
        ],
        "signature": re.sub(r"\|seed:[\d,]+", "", protocol.signature()),
    }


def _entry(board: Board, entry: Entry, repository: str | None) -> dict[str, Any]:
    standing = board.standings.get(entry.id)
    reasons = why_unranked(entry)
    return {
        "id": entry.id,
        "group": group_id(entry),
        "protocol": protocol_label(entry),
        "injection": entry.protocol.injection,
        "origin": "measured",
        "name": entry.name,
        "upsampler": entry.upsampler["name"],
        "status": "unranked" if standing is None else "ranked",
        "why_unranked": "; ".join(reasons) or None,
        **_place(None if standing is None else standing.overall),
        "mean_headline": None if standing is None else standing.overall.value,
        "better": [] if standing is None else list(standing.better),
        "seeds": list(entry.seeds),
        "trust": trust_of(entry),
        "parameters": parameters_of(entry),
        "ms_per_image": milliseconds(entry),
        "timed_on": timed_on(entry),
        **_costs(entry),
        "code": code_of(entry, repository),
        "paper": entry.paper,
        "citation": None,
        "date": entry.date,
        "submitter": entry.submitter,
        "version": versions(entry),
        "signature": entry.signature(),
        "rerun": rerun_commands(entry, repository),
        "reproduce": reproduce_command(entry),
        "notes": _notes(entry),
        "scores": {name: _scores(board, entry, name) for name in entry.datasets},
    }


def _costs(entry: Entry) -> dict[str, int | None]:
    return {
        "flops_per_image": recorded_of(entry, "flops_per_image"),
        "upsampler_bytes": recorded_of(entry, "peak_bytes"),
        "training_bytes": peak_memory_of(entry),
    }


def _scores(board: Board, entry: Entry, dataset: str) -> dict[str, Any]:
    standing = board.standings.get(entry.id)
    means = curve(entry, dataset)
    return {
        "objects": len(entry.datasets[dataset].objects),
        **_place(None if standing is None else standing.places.get(dataset)),
        **{metric: _estimate(score(entry, dataset, metric)) for metric in METRICS},
        "not_reached90": at_the_cap(entry, dataset),
        "further": further_scores(entry, dataset),
        "curve": None if all(mean is None for mean in means) else means,
    }


def _place(place: Place | None) -> dict[str, int | None]:
    if place is None:
        return dict.fromkeys(PLACE)
    return dict(zip(PLACE, (place.rank, place.low, place.high), strict=True))


def _estimate(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    ends = (estimate.low, estimate.high)
    low, high = (None if end != end else end for end in ends)
    return {"value": estimate.value, "low": low, "high": high}


def _notes(entry: Entry) -> list[str]:
    notes = [note for run in entry.runs for note in run.notes if not note.startswith("these are demo numbers")]
    if entry.protocol.name == "demo":
        notes.insert(0, DEMO_NOTE)
    notes += [f"evidence: {gap}" for gap in evidence_gaps(entry)]
    if entry.reproduced is not None:
        found = entry.reproduced
        notes.append(f"reproduced by {found.by} on {found.date} with version {found.version} ({found.device})")
    return list(dict.fromkeys(notes))


def _quoted() -> list[dict[str, Any]]:
    """One row per upsampler and table: figures from papers, marked as quoted, without interval and rank."""
    return [_quoted_row(table, name, figures) for table in quoted_tables() for name, figures in table.rows.items()]


def _quoted_row(table: QuotedTable, name: str, figures: Sequence[float]) -> dict[str, Any]:
    protocol = Protocol.preset(table.protocol)
    share = 100 if table.metric.startswith("iou") else 1
    nothing: dict[str, Any] = dict.fromkeys((*METRICS, *PLACE, "not_reached90", "further", "curve"))
    scores = {
        dataset: {
            **nothing,
            "objects": objects,
            table.metric: {"value": round(figure / share, 6), "low": None, "high": None},
        }
        for dataset, objects, figure in zip(table.datasets, table.objects, figures, strict=True)
    }
    return {
        "id": f"quoted-{slug(name)}-{table.protocol}-{table.metric.replace('_', '-')}",
        "group": None,
        "protocol": protocol.label,
        "injection": table.injection,
        "origin": table.origin,
        "name": name,
        "upsampler": name,
        "status": "quoted",
        "why_unranked": "quoted from a paper, not measured here",
        **dict.fromkeys((*PLACE, "mean_headline", "trust", "parameters", "ms_per_image", "timed_on", "code", "paper")),
        **dict.fromkeys(("flops_per_image", "upsampler_bytes", "training_bytes")),
        "better": [],
        "seeds": [],
        "citation": f"{table.citation} ({table.provenance})",
        "date": None,
        **dict.fromkeys(("submitter", "version", "signature", "rerun", "reproduce")),
        "notes": [f"{table.setting} (protocol {protocol.label}: {protocol.click_encoder}, {protocol.injection})"],
        "scores": scores,
    }
