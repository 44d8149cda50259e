"""Validates submissions: reports everything that is wrong, with file and field, and executes nothing of them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vfm_isbench.errors import ResultError
from vfm_isbench.leaderboard.entry import ENDING, Entry, Reproduction
from vfm_isbench.leaderboard.entry_schema import ENTRY
from vfm_isbench.leaderboard.findings import Finding, Report
from vfm_isbench.leaderboard.gzip_json import read_file
from vfm_isbench.leaderboard.manifests import manifest_of
from vfm_isbench.leaderboard.removals import Removal
from vfm_isbench.leaderboard.reproduction import is_within
from vfm_isbench.leaderboard.run_checks import check_runs
from vfm_isbench.leaderboard.scores import METRICS, score
from vfm_isbench.storage.printable import quote
from vfm_isbench.storage.strict_json import UnreadableError
from vfm_isbench.upsamplers import identity_of, is_own, load_upsampler

BASELINE = "bilinear"


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked file.

    Attributes:
        path: The file.
        entry: The entry; None if it cannot be read or contradicts itself.
        findings: Everything that is wrong.
    """

    path: Path
    entry: Entry | None
    findings: tuple[Finding, ...]


def entry_files(folder: Path) -> list[Path]:
    """Files in a folder that are, or should be, entries, sorted by name."""
    return sorted(path for path in folder.glob(f"*{ENDING}")) if folder.is_dir() else []


def validate(
    files: Sequence[Path],
    folder: Path,
    removals: Sequence[Removal] = (),
    *,
    are_submissions: bool = False,
    on_checked: Callable[[], None] | None = None,
) -> list[Checked]:
    """Check files, each alone and against the entries in a folder.

    Args:
        files: Files to check; they may lie in the folder.
        folder: The existing entries.
        removals: Removed entries.
        are_submissions: Whether the files come from outside: a submission must not claim that it was reproduced.
        on_checked: Called after each of the files, to show progress.
    """
    alone: dict[Path, Checked] = {}
    for path in files:
        alone[path] = check_file(path, are_submissions=are_submissions)
        if on_checked is not None:
            on_checked()
    here = {path.resolve() for path in files}
    others = [check_file(path) for path in entry_files(folder) if path.resolve() not in here]
    known = {checked.path: checked.entry for checked in (*alone.values(), *others) if checked.entry is not None}
    result = []
    for path, checked in alone.items():
        report = Report(str(path))
        if checked.entry is not None:
            existing = [entry for other, entry in known.items() if other != path]
            check_against(checked.entry, existing, removals, report)
        result.append(Checked(path, checked.entry, (*checked.findings, *report.findings)))
    return result


def check_file(path: Path, *, are_submissions: bool = False) -> Checked:
    """Check a single file."""
    report = Report(str(path))
    try:
        content = read_file(path)
    except UnreadableError as error:
        report.add("", str(error))
        return Checked(path, None, tuple(report.findings))
    entry = check_content(content, report)
    if entry is not None:
        if path.name != entry.file_name:
            report.add("", f"the entry's name and protocol determine the file name; expected {entry.file_name}")
        if are_submissions and entry.reproduced is not None:
            report.add("reproduced", "must be null: only a maintainer who reran the entry may mark it as reproduced")
    return Checked(path, entry, tuple(report.findings))


def check_content(content: Any, report: Report) -> Entry | None:
    """Check the content of a file; returns the entry if the content is valid."""
    ENTRY(content, "", report)
    if isinstance(content, dict):
        if isinstance(content.get("date"), str):
            _check_date(content["date"], report)
        check_runs(content.get("runs"), content.get("fingerprint"), report)
    if report:
        return None
    try:
        entry = Entry.from_dict(content)
    except ResultError as error:
        report.add("runs", str(error))
        return None
    _check_baseline_name(entry, report)
    if entry.code is None and not is_own(str(entry.upsampler["name"])):
        report.add("code", "is missing: say where the code of the upsampler is (leaderboard submit --code URL)")
    if entry.reproduced is not None:
        _check_mark(entry, entry.reproduced, report)
    return entry


def _check_date(text: str, report: Report) -> None:
    try:
        datetime.date.fromisoformat(text)
    except ValueError as error:
        report.add("date", f"{quote(text)}: {error}")


def _check_baseline_name(entry: Entry, report: Report) -> None:
    if entry.upsampler["name"] == BASELINE and not is_baseline(entry):
        report.add("runs[0].upsampler.sha256", f"is not that of {BASELINE!r}, whose name it uses")


def _check_mark(entry: Entry, reproduced: Reproduction, report: Report) -> None:
    """Check that a mark belongs to this evidence, and that its scores still agree with it."""
    if reproduced.evidence_sha256 != entry.evidence_sha256:
        report.add("reproduced.evidence_sha256", "belongs to other evidence; the entry must be reproduced again")
    for name in entry.datasets:
        for metric in METRICS:
            path = f"reproduced.scores.{name}.{metric}"
            value = reproduced.scores.get(name, {}).get(metric)
            estimate = score(entry, name, metric)
            if value is None and estimate is not None:
                report.add(path, "is missing")
            elif value is not None and (estimate is None or not is_within(value, estimate)):
                interval = "none" if estimate is None else f"[{estimate.low:.4f}, {estimate.high:.4f}]"
                report.add(path, f"{value!r} lies outside the entry's confidence interval, {interval}")


@lru_cache(maxsize=1)
def _baseline_sha256() -> str | None:
    return identity_of(load_upsampler(BASELINE)).sha256


def is_baseline(entry: Entry) -> bool:
    """Whether an entry is of the built-in bilinear upsampler, whatever its name."""
    sha256 = entry.upsampler["sha256"]
    return sha256 is not None and bool(sha256 == _baseline_sha256())


def check_against(entry: Entry, others: Sequence[Entry], removals: Sequence[Removal], report: Report) -> None:
    """Check an entry against existing and removed ones: duplicates, the same test data, the baseline."""
    _check_duplicates(entry, others, report)
    for removal in removals:
        if set(removal.evidence_sha256) & set(entry.run_hashes):
            report.add("runs", f"contain evidence that was removed on {removal.date}: {quote(removal.why)}")
    _check_same_data(entry, others, report)
    if not any(is_baseline(candidate) and _covers(candidate, entry) for candidate in (entry, *others)):
        report.add(
            "fingerprint",
            f"there is no entry of the {BASELINE} baseline with protocol {entry.fingerprint[:12]} and the same "
            f"backbone and test sets; submit one first: vfm-isbench run {BASELINE} with the same options",
        )


def _covers(baseline: Entry, entry: Entry) -> bool:
    return (
        baseline.fingerprint == entry.fingerprint
        and baseline.runs[0].backbone["sha256"] == entry.runs[0].backbone["sha256"]
        and all(
            name in baseline.datasets and baseline.datasets[name].content_sha256 == found.content_sha256
            for name, found in entry.datasets.items()
        )
    )


def _check_duplicates(entry: Entry, others: Iterable[Entry], report: Report) -> None:
    hashes = {sha256: index for index, sha256 in enumerate(entry.run_hashes)}
    for other in others:
        if other.id == entry.id:
            report.add("name", f"{quote(entry.name)} is taken under this protocol: {other.file_name}")
        for seed, sha256 in zip(other.seeds, other.run_hashes, strict=True):
            index = hashes.get(sha256)
            if index is not None:
                report.add(f"runs[{index}]", f"contains the same evidence as seed {seed} of {other.id}")
        own = entry.upsampler["sha256"]
        if own is not None and own == other.upsampler["sha256"] and _covers(other, entry):
            text = f"{other.id} already is the same upsampler under the same protocol; add seeds to that entry"
            report.add("runs[0].upsampler.sha256", text)


def _check_same_data(entry: Entry, others: Sequence[Entry], report: Report) -> None:
    """Check that all entries have the same objects and hash on test sets whose content the library does not know.

    The oldest entry is the reference. Runs with a limit have fewer objects, so they are compared with each other.
    """
    for name, found in entry.datasets.items():
        manifest = manifest_of(name)
        if manifest is not None and manifest.objects is not None:
            continue  # checked against the manifest
        older = min(_older_with_dataset(entry, others, name), key=_age, default=None)
        if older is None:
            continue
        theirs = older.datasets[name]
        path = f"runs[0].datasets.{name}"
        if found.object_ids != theirs.object_ids:
            report.add(f"{path}.objects", f"are not those of {older.id}, or in another order")
        if None not in (found.content_sha256, theirs.content_sha256) and found.content_sha256 != theirs.content_sha256:
            report.add(f"{path}.content_sha256", f"is not that of {older.id}: images or masks of {name} differ")


def _older_with_dataset(entry: Entry, others: Sequence[Entry], name: str) -> Iterator[Entry]:
    for other in others:
        same = name in other.datasets and other.protocol.object_limit == entry.protocol.object_limit
        if same and _age(other) < _age(entry):
            yield other


def _age(entry: Entry) -> tuple[str, str]:
    return entry.date, entry.id
