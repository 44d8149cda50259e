"""``vfm-isbench leaderboard``: submit, validate, csv, build, reproduce, remove.

Exit codes: 0 done; 1 something is not as it should be (findings, a table out of date, not reproduced); 2 wrong use.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vfm_isbench.benchmark import Benchmark
from vfm_isbench.cli.leaderboard_build import add_build
from vfm_isbench.cli.options import (
    UPSAMPLER_HELP,
    Subparsers,
    add_device_option,
    add_entries_option,
    add_loading_options,
    load_options,
    say,
)
from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.board import load_board
from vfm_isbench.leaderboard.entry import ENDING, Entry
from vfm_isbench.leaderboard.findings import printable
from vfm_isbench.leaderboard.removals import read_removals, remove_entry
from vfm_isbench.leaderboard.reproduction import mark, reproduce, spec_of
from vfm_isbench.leaderboard.submission import check_entry, make_entry, steps
from vfm_isbench.leaderboard.table import to_csv
from vfm_isbench.leaderboard.trust import trust_of, why_unranked
from vfm_isbench.leaderboard.validation import Checked, check_file, entry_files, validate
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result, load_result

NOT_AS_IT_SHOULD_BE = 1
TABLE = Path("leaderboard.csv")


def add_leaderboard(commands: Subparsers) -> None:
    """Add the subcommand with its actions."""
    parser = commands.add_parser("leaderboard", help="submit results, validate entries, build the table")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for add_action in ACTIONS:
        add_action(actions)


def _add_submit(actions: Subparsers) -> None:
    parser = actions.add_parser("submit", help="make an entry of results: one per training seed of one upsampler")
    parser.set_defaults(function=submit_command)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="result.json, or a run folder")
    parser.add_argument("--name", required=True, help="what the leaderboard is to call it")
    parser.add_argument("--code", required=True, metavar="URL", help="address of its code")
    parser.add_argument("--paper", metavar="URL", help="address of its paper")
    parser.add_argument("--submitter", metavar="NAME", help="who submits it")
    parser.add_argument("--spec", metavar="UPSAMPLER", help="how others name it for: vfm-isbench run")
    add_entries_option(parser)
    parser.add_argument("--dry-run", action="store_true", help="check only, write nothing")


def submit_command(arguments: argparse.Namespace) -> int:
    """``vfm-isbench leaderboard submit``: exit code 1 if something is wrong with the entry."""
    folder: Path = arguments.entries
    entry = make_entry(
        [load_result(path) for path in arguments.results],
        name=arguments.name,
        code=arguments.code,
        date=_today(),
        paper=arguments.paper,
        submitter=arguments.submitter,
        spec=arguments.spec,
    )
    findings = check_entry(entry, folder, read_removals(folder))
    if findings:
        say(*map(str, findings), f"nothing was written: {_count(len(findings), 'finding')}")
        return NOT_AS_IT_SHOULD_BE
    say(_describe(entry))
    path = folder / entry.file_name
    if arguments.dry_run:
        say(f"nothing was written: without --dry-run the entry goes to {path}")
        return 0
    say(f"saved: {entry.save(folder)}", *steps(path, entry))
    return 0


def _add_validate(actions: Subparsers) -> None:
    parser = actions.add_parser(
        "validate", help="check entries as data, aggregates recomputed; exit code 1 if anything is wrong"
    )
    parser.set_defaults(function=validate_command)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="entries (default: all of the folder)")
    parser.add_argument("--submission", action="store_true", help="of someone else: it may not call itself reproduced")
    add_entries_option(parser)


def validate_command(arguments: argparse.Namespace) -> int:
    """``vfm-isbench leaderboard validate``: exit code 1 with findings, 2 for a file that is not there."""
    folder: Path = arguments.entries
    missing = [str(path) for path in arguments.files if not path.exists() and not path.is_symlink()]
    if missing:
        raise LeaderboardError(f"no such file: {', '.join(map(printable, missing))}")
    files = arguments.files or entry_files(folder)
    if not files:
        raise LeaderboardError(f"{_no_entry(folder)}, or name files")
    checked = validate(files, folder, read_removals(folder), are_submissions=arguments.submission)
    findings = 0
    for one in checked:
        findings += len(one.findings)
        say(*(map(str, one.findings) if one.findings else [_passed(one)]))
    say(f"{_count(len(checked), 'file')}, {_count(findings, 'finding')}")
    return NOT_AS_IT_SHOULD_BE if findings else 0


def _passed(checked: Checked) -> str:
    assert checked.entry is not None
    return f"{printable(str(checked.path), 400)}: {_describe(checked.entry)}"


def _describe(entry: Entry) -> str:
    reasons = why_unranked(entry)
    ranked = f"not ranked: {printable('; '.join(reasons), 400)}" if reasons else "ranked"
    seeds = ", ".join(map(str, entry.seeds))
    return f"{printable(entry.name)}, {entry.protocol.name} protocol, seeds {seeds}: {trust_of(entry)}, {ranked}"


def _add_csv(actions: Subparsers) -> None:
    parser = actions.add_parser("csv", help="build the table from the entries")
    parser.set_defaults(function=csv_command)
    add_entries_option(parser)
    parser.add_argument("--output", type=Path, default=TABLE, metavar="FILE", help=f"default: {TABLE}")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the file is out of date")


def csv_command(arguments: argparse.Namespace) -> int:
    """``vfm-isbench leaderboard csv``: exit code 1 if the table is out of date and ``--check`` was given."""
    board = load_board(arguments.entries)
    if not board.entries:
        raise LeaderboardError(_no_entry(arguments.entries))
    text = to_csv(board)
    output: Path = arguments.output
    try:
        if not arguments.check:
            output.write_text(text, encoding="utf-8", newline="\n")
            say(f"saved: {output}")
        elif not output.is_file() or output.read_bytes() != text.encode():
            say(f"{output} is out of date; build it anew: vfm-isbench leaderboard csv")
            return NOT_AS_IT_SHOULD_BE
        else:
            say(f"{output} is up to date")
    except OSError as error:
        raise LeaderboardError(f"{output} cannot be written or read: {error}") from error
    return 0


def _add_reproduce(actions: Subparsers) -> None:
    parser = actions.add_parser("reproduce", help="run an entry again and compare; exit code 1 if it is not reproduced")
    parser.set_defaults(function=reproduce_command)
    _add_entry(parser)
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="folder with SBD/, GrabCut/, Berkeley/, DAVIS/")
    parser.add_argument(
        "--backbone-weights", type=Path, metavar="PATH", help="file or folder with the backbone's weights"
    )
    parser.add_argument("--upsampler", metavar="UPSAMPLER", help=f"how to load it: {UPSAMPLER_HELP}")
    add_loading_options(parser)
    add_device_option(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the runs here, so that they can be resumed")
    parser.add_argument("--mark", metavar="NAME", help="if it is reproduced, note in the entry that NAME did it")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def reproduce_command(arguments: argparse.Namespace) -> int:
    """``vfm-isbench leaderboard reproduce``: exit code 1 if it is not reproduced."""
    entry = _find_entry(arguments)

    def rerun(protocol: Protocol, spec: str) -> Result:
        output: Path | None = arguments.output
        benchmark = Benchmark(
            protocol,
            device=arguments.device,
            data_root=arguments.data_root,
            output_dir=None if output is None else output / f"{entry.id}-seed{protocol.seed}",
            backbone_weights=arguments.backbone_weights,
            progress=not arguments.quiet,
            load_options=load_options(arguments),
        )
        return benchmark.run(spec)

    verdict = reproduce(entry, spec_of(entry, arguments.upsampler), rerun)
    say(str(verdict))
    if not verdict.is_reproduced:
        return NOT_AS_IT_SHOULD_BE
    if arguments.mark:
        marked = entry.marked(mark(verdict, arguments.mark, _today()))
        say(f"saved: {marked.save(arguments.entries)}")
    return 0


def _add_remove(actions: Subparsers) -> None:
    parser = actions.add_parser("remove", help="take an entry down, and log why")
    parser.set_defaults(function=remove_command)
    _add_entry(parser)
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason, which stays public")


def remove_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench leaderboard remove``."""
    entry = _find_entry(arguments)
    removal = remove_entry(entry, arguments.entries, arguments.why, _today())
    say(f"taken down: {removal.id}", "build the table anew: vfm-isbench leaderboard csv")


def _add_entry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("entry", metavar="ENTRY", help=f"its id, the name of its file without {ENDING}")
    add_entries_option(parser)


def _find_entry(arguments: argparse.Namespace) -> Entry:
    """The entry of that id, if there is nothing wrong with its file."""
    files = {path.name.removesuffix(ENDING): path for path in entry_files(arguments.entries)}
    wanted = Path(arguments.entry).name.removesuffix(ENDING)
    if wanted not in files:
        there = ", ".join(map(printable, files)) or "none"
        raise LeaderboardError(f"{arguments.entries} has no entry {printable(wanted)!r}; there are: {there}")
    checked = check_file(files[wanted])
    if checked.entry is None or checked.findings:
        raise LeaderboardError("\n".join(map(str, checked.findings)))
    return checked.entry


def _no_entry(folder: Path) -> str:
    return f"{printable(str(folder), 400)} holds no entry (*{ENDING}); name another folder with --entries"


def _today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


ACTIONS: tuple[Callable[[Any], None], ...] = (
    _add_submit,
    _add_validate,
    _add_csv,
    add_build,
    _add_reproduce,
    _add_remove,
)
"""What adds each action to the parser; one that stands in a module of its own is put here, too."""
