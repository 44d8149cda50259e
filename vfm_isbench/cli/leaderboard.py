"""``vfm-isbench leaderboard``: submit, validate, csv, build, reproduce, remove.

Exit codes: 0 success; 1 a check failed (findings, an outdated table, an entry not reproduced); 2 wrong use.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vfm_isbench.benchmark import Benchmark
from vfm_isbench.cli.leaderboard_build import add_build, load_with_progress
from vfm_isbench.cli.options import (
    UPSAMPLER_HELP,
    Subparsers,
    add_backbone_weights_option,
    add_data_root_option,
    add_device_option,
    add_entries_option,
    add_loading_options,
    load_options,
)
from vfm_isbench.cli.terminal import say
from vfm_isbench.errors import LeaderboardError
from vfm_isbench.leaderboard.entry import ENDING, Entry
from vfm_isbench.leaderboard.removals import read_removals, remove_entry
from vfm_isbench.leaderboard.reproduction import mark, reproduce, spec_of
from vfm_isbench.leaderboard.submission import advice, check_entry, make_entry, steps
from vfm_isbench.leaderboard.table import TABLE, to_csv
from vfm_isbench.leaderboard.trust import trust_of, why_unranked
from vfm_isbench.leaderboard.validation import Checked, check_file, entry_files, validate
from vfm_isbench.progress import RunProgress
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result, load_result
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.printable import printable

CHECK_FAILED = 1


def add_leaderboard(commands: Subparsers) -> None:
    """Add the subcommand and its actions."""
    parser = commands.add_parser("leaderboard", help="submit results, validate entries, build the table")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for add_action in ACTIONS:
        add_action(actions)


def _add_submit(actions: Subparsers) -> None:
    parser = actions.add_parser("submit", help="make an entry from results of one upsampler, one per training seed")
    parser.set_defaults(function=submit_command)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="result.json, or a run folder")
    parser.add_argument("--name", required=True, help="name of the upsampler on the leaderboard")
    parser.add_argument("--code", metavar="URL", help="where its code is (not needed for upsamplers of this library)")
    parser.add_argument("--paper", metavar="URL", help="where its paper is")
    parser.add_argument("--submitter", metavar="NAME", help="who submits it")
    parser.add_argument("--spec", metavar="UPSAMPLER", help="how others name it in: vfm-isbench run")
    add_entries_option(parser)
    parser.add_argument("--dry-run", action="store_true", help="only check, write nothing")


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
        return CHECK_FAILED
    say(_describe(entry), *advice(entry))
    path = folder / entry.file_name
    if arguments.dry_run:
        say(f"nothing was written (--dry-run); the entry would go to {path}")
        return 0
    say(f"saved: {entry.save(folder)}", *steps(path, entry))
    return 0


def _add_validate(actions: Subparsers) -> None:
    parser = actions.add_parser(
        "validate", help="check entries without running any of their code; exit code 1 if anything is wrong"
    )
    parser.set_defaults(function=validate_command)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="entries (default: all in the folder)")
    parser.add_argument("--submission", action="store_true", help="refuse entries that claim to be reproduced")
    add_entries_option(parser)


def validate_command(arguments: argparse.Namespace) -> int:
    """``vfm-isbench leaderboard validate``: exit code 1 if there are findings, 2 if a file is missing."""
    folder: Path = arguments.entries
    missing = [str(path) for path in arguments.files if not path.exists() and not path.is_symlink()]
    if missing:
        raise LeaderboardError(f"no such file: {', '.join(map(printable, missing))}")
    files = arguments.files or entry_files(folder)
    if not files:
        raise LeaderboardError(f"{_no_entry(folder)}, or list files")
    checked = validate(files, folder, read_removals(folder), are_submissions=arguments.submission)
    findings = 0
    for file in checked:
        findings += len(file.findings)
        say(*(map(str, file.findings) if file.findings else [_passed(file)]))
    say(f"{_count(len(checked), 'file')}, {_count(findings, 'finding')}")
    return CHECK_FAILED if findings else 0


def _passed(checked: Checked) -> str:
    assert checked.entry is not None
    return f"{printable(str(checked.path), 400)}: {_describe(checked.entry)}"


def _describe(entry: Entry) -> str:
    reasons = why_unranked(entry)
    ranked = f"not ranked: {printable('; '.join(reasons), 400)}" if reasons else "ranked"
    seeds = f"seed{'' if len(entry.seeds) == 1 else 's'} {', '.join(map(str, entry.seeds))}"
    return f"{printable(entry.name)}, {entry.protocol.label} protocol, {seeds}: {trust_of(entry)}, {ranked}"


def _add_csv(actions: Subparsers) -> None:
    parser = actions.add_parser("csv", help="build the table from the entries")
    parser.set_defaults(function=csv_command)
    add_entries_option(parser)
    parser.add_argument("--output", type=Path, default=TABLE, metavar="FILE", help=f"default: {TABLE}")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the file is out of date")


def csv_command(arguments: argparse.Namespace) -> int:
    """``vfm-isbench leaderboard csv``: with ``--check``, exit code 1 if the table is out of date."""
    with RunProgress() as progress:
        board = load_with_progress(arguments.entries, progress)
        if not board.entries:
            raise LeaderboardError(_no_entry(arguments.entries))
        with progress.part("computing scores and ranks", 1):
            text = to_csv(board)
    output: Path = arguments.output
    try:
        if not arguments.check:
            write_text(output, text)
            say(f"saved: {output}")
        elif not output.is_file() or output.read_bytes() != text.encode():
            say(f"{output} is out of date; rebuild it: vfm-isbench leaderboard csv")
            return CHECK_FAILED
        else:
            say(f"{output} is up to date")
    except OSError as error:
        raise LeaderboardError(f"{output} cannot be written or read: {error}") from error
    return 0


def _add_reproduce(actions: Subparsers) -> None:
    parser = actions.add_parser("reproduce", help="rerun an entry and compare; exit code 1 if it is not reproduced")
    parser.set_defaults(function=reproduce_command)
    _add_entry(parser)
    add_data_root_option(parser)
    add_backbone_weights_option(parser)
    parser.add_argument("--upsampler", metavar="UPSAMPLER", help=f"how to load the upsampler: {UPSAMPLER_HELP}")
    add_loading_options(parser)
    add_device_option(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the runs here so that they can be resumed")
    parser.add_argument("--mark", metavar="NAME", help="if it is reproduced, record in the entry that NAME did it")
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
        return CHECK_FAILED
    if arguments.mark:
        marked = entry.marked(mark(verdict, arguments.mark, _today()))
        say(f"saved: {marked.save(arguments.entries)}")
    return 0


def _add_remove(actions: Subparsers) -> None:
    parser = actions.add_parser("remove", help="take an entry down and log why")
    parser.set_defaults(function=remove_command)
    _add_entry(parser)
    parser.add_argument("--why", required=True, metavar="TEXT", help="the reason; it stays public")


def remove_command(arguments: argparse.Namespace) -> None:
    """``vfm-isbench leaderboard remove``."""
    entry = _find_entry(arguments)
    removal = remove_entry(entry, arguments.entries, arguments.why, _today())
    say(f"taken down: {removal.id}", "rebuild the table: vfm-isbench leaderboard csv")


def _add_entry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("entry", metavar="ENTRY", help=f"id of the entry: its file name without {ENDING}")
    add_entries_option(parser)


def _find_entry(arguments: argparse.Namespace) -> Entry:
    """Read the entry with the given id; fail if its file has findings."""
    files = {path.name.removesuffix(ENDING): path for path in entry_files(arguments.entries)}
    wanted = Path(arguments.entry).name.removesuffix(ENDING)
    if wanted not in files:
        there = ", ".join(map(printable, files)) or "none"
        raise LeaderboardError(f"{arguments.entries} has no entry {printable(wanted)!r}; it has: {there}")
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
"""The functions that add the actions to the parser, including those from other modules."""
