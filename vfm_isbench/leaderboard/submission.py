"""Turns the results of several training seeds into an entry that is ready to commit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.board import ENTRIES
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.findings import Finding, Report
from vfm_isbench.leaderboard.gzip_json import to_bytes, unpack
from vfm_isbench.leaderboard.removals import Removal
from vfm_isbench.leaderboard.rerun_commands import moving_reference
from vfm_isbench.leaderboard.table import TABLE
from vfm_isbench.leaderboard.validation import check_against, check_content, check_file, entry_files
from vfm_isbench.results import Result
from vfm_isbench.storage.strict_json import UnreadableError
from vfm_isbench.upsamplers import is_own


def make_entry(
    results: Sequence[Result],
    *,
    name: str,
    date: str,
    code: str | None = None,
    paper: str | None = None,
    submitter: str | None = None,
    spec: str | None = None,
) -> Entry:
    """Combine the results of all training seeds.

    Args:
        results: One or several, of one upsampler under one protocol.
        name: Name on the leaderboard.
        date: Date of submission, ISO 8601.
        code: URL of the upsampler's code; None if it is part of this library.
        paper: URL of its paper.
        submitter: Who submits it.
        spec: Upsampler argument for ``vfm-isbench run``; by default the name of the upsampler, if it is built in.

    Raises:
        LeaderboardError: if there is no result.
    """
    if not results:
        raise LeaderboardError("no result was given; expected at least one, better three seeds")
    own = str(results[0].upsampler["name"])
    return Entry(
        name=name,
        code=code,
        date=date,
        runs=tuple(sorted(results, key=lambda result: result.protocol.seed)),
        paper=paper,
        submitter=submitter,
        spec=spec or (own if is_own(own) else None),
    )


def check_entry(entry: Entry, folder: Path, removals: Sequence[Removal] = ()) -> list[Finding]:
    """Everything that validation would find in the entry's file, before the file is written."""
    report = Report(entry.file_name)
    path = folder / entry.file_name
    if path.exists() or path.is_symlink():
        report.add("name", f"{path} already exists; choose another name, or delete it to replace it (with more seeds)")
    try:
        content = unpack(to_bytes(entry.to_dict()))  # as it will be read, with all size limits
    except UnreadableError as error:
        report.add("", str(error))
        return report.findings
    if check_content(content, report) is not None:
        others = (check_file(other).entry for other in entry_files(folder) if other != path)
        check_against(entry, [other for other in others if other is not None], removals, report)
    return report.findings


def steps(path: Path, entry: Entry) -> list[str]:
    """How to submit the entry's file, in four steps. The table goes with it: CI compares it with the entries."""
    folder = [] if path.parent == ENTRIES else ["--entries", str(path.parent)]
    return [
        f"1. {shlex.join(['vfm-isbench', 'leaderboard', 'csv', *folder])}",
        f"2. git switch -c {entry.id} && git add {shlex.join([str(path), str(TABLE)])}",
        f"3. git commit -m {shlex.quote(f'Leaderboard entry: {entry.name}')}",
        "4. push the branch to your fork and open a pull request",
    ]


def advice(entry: Entry) -> list[str]:
    """Warnings about a valid entry: what keeps it out of the ranking or makes it hard to repeat."""
    warnings = []
    if len(entry.seeds) == 1:
        warnings.append(
            "warning: an entry with one training seed is not ranked. Use three seeds: run again with two other values "
            "of --seed, then submit all results together."
        )
    moving = moving_reference(entry.spec)
    if moving is not None:
        warnings.append(
            f"warning: --spec names {moving}, whose code may change. Name the commit that you measured, as in "
            f"{moving.partition('@')[0]}@COMMIT with its 40 hexadecimal digits."
        )
    return warnings
