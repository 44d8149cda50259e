"""What a study keeps in the repository: results as entries of no leaderboard, and other figures as JSON.

Entries are those of ``vfm-isbench leaderboard submit``, with the evidence of every seed, in ``benchmarks/studies/``.
No ranking reads that folder.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vfm_isbench import Protocol, Result, VfmIsbenchError
from vfm_isbench.leaderboard.board import ENTRIES
from vfm_isbench.leaderboard.gzip_json import read_file
from vfm_isbench.leaderboard.submission import make_entry
from vfm_isbench.leaderboard.validation import check_file, entry_files
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.strict_json import UnreadableError, read_json

REPOSITORY = Path(__file__).parents[3]
STUDIES = REPOSITORY / "benchmarks" / "studies"
"""Folder of all studies' entries and figures."""


def keep(name: str, results: Mapping[str, Sequence[Result]], root: Path = STUDIES) -> None:
    """Write one entry per case, and remove those of earlier cases.

    Args:
        name: The study.
        results: Results of all seeds by label.
        root: Folder of the studies.
    """
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    before = {file.name: file for file in entry_files(folder)}
    today = datetime.date.today().isoformat()
    for label, runs in results.items():
        spec = str(runs[0].upsampler.get("spec") or "") or None
        entry = make_entry(runs, name=label, date=today, submitter="the vfm_isbench authors", spec=spec)
        old = before.pop(entry.file_name, None)
        if old is None or _evidence(old) != entry.run_hashes:
            entry.save(folder)
    for file in before.values():
        file.unlink()


def kept(name: str, root: Path = STUDIES) -> dict[str, list[Result]]:
    """The kept results of a study, by label.

    Raises:
        VfmIsbenchError: if an entry cannot be read.
    """
    return dict(_read(file) for file in entry_files(root / name))


def ranked(protocol: Protocol, root: Path = REPOSITORY / ENTRIES) -> dict[str, list[Result]]:
    """The results of the leaderboard's own entries under a protocol, by name: a study need not repeat those runs."""
    files = [file for file in entry_files(root) if protocol.fingerprint()[:12] in file.name]
    found = dict(_read(file) for file in files)
    return {label: runs for label, runs in found.items() if runs[0].fingerprint == protocol.fingerprint()}


def keep_figures(name: str, figures: Mapping[str, Any], root: Path = STUDIES) -> None:
    """Write figures that are no results; what is there under other keys stays."""
    merged = {**kept_figures(name, root), **figures}
    file = root / name / "figures.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(merged, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def kept_figures(name: str, root: Path = STUDIES) -> dict[str, Any]:
    """The kept figures of a study; empty if there are none."""
    file = root / name / "figures.json"
    return dict(read_json(file)) if file.is_file() else {}


def _read(file: Path) -> tuple[str, list[Result]]:
    """Name and runs of an entry.

    Scores and fingerprints are checked as in every result, but not as on submission, which takes seconds per file.

    Raises:
        VfmIsbenchError: if the file cannot be read.
    """
    try:
        content = read_file(file)
    except UnreadableError as error:
        raise VfmIsbenchError(f"{file} {error}") from error
    return content["name"], [Result.from_dict(run) for run in content["runs"]]


def _evidence(file: Path) -> tuple[str, ...] | None:
    entry = check_file(file).entry
    return None if entry is None else entry.run_hashes
