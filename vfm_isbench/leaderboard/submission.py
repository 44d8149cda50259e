"""From the results of a run per training seed to an entry that is ready to be committed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.findings import Finding, Report
from vfm_isbench.leaderboard.gzip_json import UnreadableError, to_bytes, unpack
from vfm_isbench.leaderboard.removals import Removal
from vfm_isbench.leaderboard.validation import check_against, check_content, check_file, entry_files
from vfm_isbench.results import Result
from vfm_isbench.upsamplers import is_own


def make_entry(
    results: Sequence[Result],
    *,
    name: str,
    code: str,
    date: str,
    paper: str | None = None,
    submitter: str | None = None,
    spec: str | None = None,
) -> Entry:
    """Put results of training seeds together.

    Args:
        results: One or several, of one upsampler under one protocol.
        name: What the leaderboard is to call it.
        code: Address of its code.
        date: Of the submission, ISO 8601.
        paper: Address of its paper.
        submitter: Who submits it.
        spec: How to name it for ``vfm-isbench run``; by default its own name, if that is one of this library.

    Raises:
        LeaderboardError: if there is no result.
    """
    if not results:
        raise LeaderboardError("no result was given; expected at least one, and better three seeds")
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
    """Everything that validation would find in the entry's file, before there is one."""
    report = Report(entry.file_name)
    path = folder / entry.file_name
    if path.exists() or path.is_symlink():
        report.add("name", f"{path} exists already; choose another name, or delete it to replace it, with more seeds")
    try:
        content = unpack(to_bytes(entry.to_dict()))  # as it will be read, limits of size and all
    except UnreadableError as error:
        report.add("", str(error))
        return report.findings
    if check_content(content, report) is not None:
        checked = (check_file(other) for other in entry_files(folder) if other != path)
        check_against(entry, [one.entry for one in checked if one.entry is not None], removals, report)
    return report.findings


def steps(path: Path, entry: Entry) -> list[str]:
    """What to do with the entry's file: three steps."""
    return [
        f"1. git switch -c {entry.id} && git add {shlex.quote(str(path))}",
        f"2. git commit -m {shlex.quote(f'Leaderboard entry: {entry.name}')}",
        "3. push the branch to your fork and open a pull request",
    ]
