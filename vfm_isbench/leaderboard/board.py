"""The whole leaderboard: all entries, validated, in comparable groups, ranked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.board_tables import EXPLANATION, group_table
from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.ranking import Standing, rank_entries
from vfm_isbench.leaderboard.removals import Removal, read_removals
from vfm_isbench.leaderboard.trust import headline_of, preset_of, why_unranked
from vfm_isbench.leaderboard.validation import entry_files, validate
from vfm_isbench.results.display import html_block, html_table
from vfm_isbench.storage.printable import printable

ENTRIES = Path("benchmarks/entries")
"""Folder of the entries in the repository."""


@dataclass(frozen=True)
class Board:
    """Valid entries, and the log of removed ones.

    Attributes:
        entries: By id.
        removals: Oldest first.
    """

    entries: tuple[Entry, ...]
    removals: tuple[Removal, ...] = ()

    @cached_property
    def groups(self) -> Mapping[str, tuple[Entry, ...]]:
        """Entries with comparable scores, by the id of their group."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(group_id(entry), []).append(entry)
        return {group: tuple(found[group]) for group in sorted(found)}

    @cached_property
    def standings(self) -> Mapping[str, Standing]:
        """Standing of each ranked entry, by id."""
        standings: dict[str, Standing] = {}
        for members in self.groups.values():
            ranked = [entry for entry in members if not why_unranked(entry)]
            if ranked:
                standings |= rank_entries(ranked, ranked_datasets(ranked[0]), headline_of(ranked[0].protocol))
        return standings

    def _repr_html_(self) -> str:
        tables = [
            html_table(*group_table(members, ranked_datasets(members[0]), self.standings), text_columns=2)
            for members in self.groups.values()
        ]
        if not tables:
            return html_block([], "The board has no entries.")
        return html_block(tables, EXPLANATION)

    def __repr__(self) -> str:
        counts = ((len(self.entries), "entry", "entries"), (len(self.groups), "group", "groups"))
        entries, groups = (f"{count} {one if count == 1 else more}" for count, one, more in counts)
        return f"<Board: {entries} in {groups}, {len(self.removals)} removed>"


def load_board(folder: str | Path = ENTRIES, *, on_checked: Callable[[], None] | None = None) -> Board:
    """Read and validate all entries of a folder.

    Args:
        folder: Folder of the entries.
        on_checked: Called after each file, to show progress.

    Raises:
        LeaderboardError: if there is no such folder, or an entry is invalid; the message has a line per finding.
    """
    folder = Path(folder)
    if not folder.is_dir():
        # Treating it as an empty folder would overwrite the table with nothing.
        raise LeaderboardError(f"there is no folder of entries {printable(str(folder), 400)}; give one with --entries")
    removals = read_removals(folder)
    checked = validate(entry_files(folder), folder, removals, on_checked=on_checked)
    findings = [str(finding) for file in checked for finding in file.findings]
    if findings:
        raise LeaderboardError("\n".join(["the entries are not valid:", *findings]))
    entries = sorted((file.entry for file in checked if file.entry is not None), key=lambda entry: entry.id)
    return Board(tuple(entries), removals)


def ranked_datasets(entry: Entry) -> tuple[str, ...]:
    """The test sets that an entry is ranked by: those of its preset, or its own if it has no preset."""
    preset = preset_of(entry.protocol)
    names = entry.protocol.test_datasets if preset is None else preset.test_datasets
    return tuple(name for name in names if name in entry.datasets)


def group_id(entry: Entry) -> str:
    """Id of the entry's group; members have the same protocol, backbone weights, and content of the test sets."""
    return f"{entry.fingerprint[:12]}-{_identity(entry, ranked_datasets(entry))}"


def _identity(entry: Entry, datasets: Sequence[str]) -> str:
    parts = [f"{name}:{len(entry.datasets[name].objects)}:{entry.datasets[name].content_sha256}" for name in datasets]
    text = "\n".join([str(entry.runs[0].backbone["sha256"]), *sorted(parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]
