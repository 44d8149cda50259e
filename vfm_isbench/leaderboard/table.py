"""``leaderboard.csv``: one row per entry, built from the entries, never edited by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from vfm_isbench.datasets import list_datasets
from vfm_isbench.leaderboard.board import Board
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.repository import REPOSITORY
from vfm_isbench.leaderboard.scores import METRICS, score
from vfm_isbench.leaderboard.trust import preset_of, trust_of, why_unranked
from vfm_isbench.protocol.labels import head_label as label_of_head
from vfm_isbench.types import is_number
from vfm_isbench.upsamplers import list_upsamplers

TABLE = Path("leaderboard.csv")
"""The table in the repository."""

BEFORE = (
    "name", "upsampler", "backbone", "click_encoder", "injection", "head", "protocol", "fingerprint", "seeds",
)  # fmt: skip
AFTER = (
    "status", "why_unranked", "mean_rank", "rank", "tied_with", "parameters", "ms_per_image", "timed_on", "code",
    "paper", "date", "submitter", "trust", "version", "rank_low", "rank_high", "ranked_by",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(board: Board) -> str:
    """The table: a header, and one row per entry, ordered by protocol and rank.

    Each data set has ``NAME_objects`` and ``NAME_noc80``, ``NAME_noc80_low``, ``NAME_noc80_high`` and so on for
    NoC80/85/90 (mean clicks) and IoU@1 (in [0, 1]) with their 95 % intervals. ``rank_low`` and ``rank_high`` are the
    best and the worst rank that the evidence leaves open, and ``ranked_by`` is the score that all ranks are by: the
    headline metric of the protocol. A missing value is an empty cell. The table omits figures
    quoted from papers, so that nobody confuses them with measured ones.
    """
    datasets = datasets_of(board.entries)
    scored = [part for name in datasets for part in _score_columns(name)]
    file = io.StringIO()
    writer = csv.DictWriter(file, [*BEFORE, *scored, *AFTER], lineterminator="\n", restval="")
    writer.writeheader()
    for entry in sorted(board.entries, key=lambda entry: _order(board, entry)):
        row = {**_head(entry), **_scores(entry), **_tail(board, entry)}
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return file.getvalue()


def datasets_of(entries: Iterable[Entry]) -> list[str]:
    """The entries' data sets, in the order of the catalogue, unknown ones last."""
    found = {name for entry in entries for name in entry.datasets}
    known = ["grabcut", "berkeley", "davis", "sbd", *list_datasets()]
    return sorted(found, key=lambda name: (known.index(name) if name in known else len(known), name))


def protocol_label(entry: Entry) -> str:
    """Name and version of the protocol, marked if it differs from the preset of that name."""
    preset = preset_of(entry.protocol)
    if preset is not None:
        return preset.label
    return f"{entry.protocol.label}+changed" if entry.protocol.changed_fields() else entry.protocol.label


def head_label(entry: Entry) -> str:
    """Head with its size, as in signatures."""
    return label_of_head(entry.protocol)


def milliseconds(entry: Entry) -> float:
    """Time of the upsampler alone, in ms per image: median over the runs."""
    return float(median(run.upsampler["ms_per_image"] for run in entry.runs))


def recorded_of(entry: Entry, figure: str) -> int | None:
    """A figure of the upsampler that versions up to 0.4.0 did not record: the largest of the runs; None if unknown."""
    found = [run.upsampler.get(figure) for run in entry.runs]
    return max((int(value) for value in found if is_number(value)), default=None)


def peak_memory_of(entry: Entry) -> int | None:
    """Most memory in bytes that a training of the entry needed; None if unknown."""
    found = [run.peak_memory.get("training") for run in entry.runs]
    return max((int(value) for value in found if is_number(value)), default=None)


def parameters_of(entry: Entry) -> int | None:
    """Number of parameters; None if unknown. Versions up to 0.4.0 recorded none for upsamplers without a module."""
    recorded = entry.upsampler["n_parameters"]
    if recorded is None and entry.upsampler["name"] in list_upsamplers() and entry.upsampler["kind"] != "module":
        return 0
    return None if recorded is None else int(recorded)


def code_of(entry: Entry, repository: str | None = REPOSITORY) -> str | None:
    """Address of the entry's code; for upsamplers of this library, that of its repository, if it has one."""
    return entry.code or repository


def timed_on(entry: Entry) -> str:
    """Devices of the timing; for a CPU, its name and the number of threads."""
    devices = []
    for run in entry.runs:
        found = run.environment
        device = str(found.get("device"))
        if device == "cpu":
            device = f"{found.get('cpu') or 'cpu'}, threads: {found.get('threads')}"
        devices.append(device)
    return "; ".join(dict.fromkeys(devices))


def versions(entry: Entry) -> str:
    """Versions of this library in the entry's runs."""
    return ", ".join(dict.fromkeys(str(run.environment.get("vfm_isbench")) for run in entry.runs))


def _score_columns(dataset: str) -> list[str]:
    parts = [f"{dataset}_{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    return [f"{dataset}_objects", *parts]


def _head(entry: Entry) -> dict[str, Any]:
    protocol = entry.protocol
    values: Sequence[Any] = (
        entry.name, entry.upsampler["name"], protocol.backbone, protocol.click_encoder, protocol.injection,
        head_label(entry), protocol_label(entry), entry.fingerprint, " ".join(map(str, entry.seeds)),
    )  # fmt: skip
    return dict(zip(BEFORE, values, strict=True))


def _scores(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, found in entry.datasets.items():
        row[f"{name}_objects"] = len(found.objects)
        for metric in METRICS:
            estimate = score(entry, name, metric)
            if estimate is not None:
                row[f"{name}_{metric}"] = estimate.value
                row[f"{name}_{metric}_low"], row[f"{name}_{metric}_high"] = estimate.low, estimate.high
    return row


def _tail(board: Board, entry: Entry) -> dict[str, Any]:
    standing = board.standings.get(entry.id)
    values: Sequence[Any] = (
        "unranked" if standing is None else "ranked",
        "; ".join(why_unranked(entry)),
        None if standing is None else standing.mean_rank,
        None if standing is None else standing.overall.rank,
        "" if standing is None else " ".join(standing.tied_with),
        parameters_of(entry), milliseconds(entry), timed_on(entry), code_of(entry), entry.paper, entry.date,
        entry.submitter, trust_of(entry), versions(entry),
        None if standing is None else standing.overall.low, None if standing is None else standing.overall.high,
        None if standing is None else standing.metric,
    )  # fmt: skip
    return dict(zip(AFTER, values, strict=True))


def _order(board: Board, entry: Entry) -> tuple[Any, ...]:
    standing = board.standings.get(entry.id)
    place = (1, 0.0) if standing is None else (0, standing.overall.rank)
    return protocol_label(entry), entry.fingerprint, place, entry.id


def _cell(value: Any) -> str:
    """A cell as text. An apostrophe precedes text that a spreadsheet would read as a formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return str(value)
