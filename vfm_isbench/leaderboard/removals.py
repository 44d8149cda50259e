"""The removal log beside the entries: one JSON line per removed entry, with the reason."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.entry_schema import DATE, SHA256, Name
from vfm_isbench.leaderboard.findings import Report
from vfm_isbench.leaderboard.gzip_json import parse
from vfm_isbench.leaderboard.schema import ListOf, Record, Text
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.locks import waiting_for
from vfm_isbench.storage.strict_json import UnreadableError, read_regular_file

FILE_NAME = "removed.jsonl"
_LARGEST = 4 * 2**20

REMOVAL = Record(
    {
        "id": Text(100),
        "name": Name(),
        "fingerprint": SHA256,
        "submitted": DATE,
        "date": DATE,
        "why": Text(500),
        "evidence_sha256": ListOf(SHA256, 1, 100),
    }
)


@dataclass(frozen=True, slots=True)
class Removal:
    """An entry that was removed; its file stays in the history of the repository.

    Attributes:
        id: Id of the entry.
        name: Name of the entry.
        fingerprint: Fingerprint of its protocol.
        submitted: Date of submission, ISO 8601.
        date: Date of removal, ISO 8601.
        why: The reason.
        evidence_sha256: Hash of the evidence of each run, which recognizes the entry under any name.
    """

    id: str
    name: str
    fingerprint: str
    submitted: str
    date: str
    why: str
    evidence_sha256: tuple[str, ...]


def read_removals(folder: Path) -> tuple[Removal, ...]:
    """The removal log of a folder of entries, oldest first; empty if there is none.

    Raises:
        LeaderboardError: if the log is broken; the message names the line.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return ()
    try:
        lines = read_regular_file(path, _LARGEST).splitlines()
    except UnreadableError as error:
        raise LeaderboardError(f"{path} {error}") from error
    except OSError as error:
        raise LeaderboardError(f"{path} cannot be read: {error}") from error
    report = Report(str(path))
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            content = parse(line)
        except UnreadableError as error:
            report.add(f"line {number}", str(error))
            continue
        if REMOVAL(content, f"line {number}", report):
            found.append(Removal(**{**content, "evidence_sha256": tuple(content["evidence_sha256"])}))
    if report:
        raise LeaderboardError("\n".join(map(str, report.findings)))
    return tuple(found)


def remove_entry(entry: Entry, folder: Path, why: str, date: str) -> Removal:
    """Remove an entry: append it to the removal log, then delete its file.

    Raises:
        LeaderboardError: if the reason is empty or not valid in the log, or a file cannot be written.
    """
    removal = Removal(
        id=entry.id,
        name=entry.name,
        fingerprint=entry.fingerprint,
        submitted=entry.date,
        date=date,
        why=why,
        evidence_sha256=entry.run_hashes,
    )
    report = Report(FILE_NAME)
    line = json.dumps(asdict(removal), ensure_ascii=False)
    if not why.strip() or not REMOVAL(json.loads(line), "", report):
        raise LeaderboardError("\n".join(map(str, report.findings)) or "the reason is empty; say why")
    try:
        log = folder / FILE_NAME
        with waiting_for(log.with_name(f"{FILE_NAME}.lock"), "removing another entry"):
            write_text(log, (log.read_text(encoding="utf-8") if log.exists() else "") + line + "\n")
        (folder / entry.file_name).unlink()
    except OSError as error:
        raise LeaderboardError(f"{folder / entry.file_name} cannot be removed: {error}") from error
    return removal
