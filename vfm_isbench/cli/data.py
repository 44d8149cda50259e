"""``vfm-isbench data``: download, verify and list data sets, and print their objects."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from vfm_isbench.cli.options import Subparsers
from vfm_isbench.cli.terminal import complain, say
from vfm_isbench.datasets import list_datasets, open_dataset
from vfm_isbench.datasets.download.fetch import download_dataset
from vfm_isbench.datasets.download.sources import SOURCES, DatasetSource, source_of
from vfm_isbench.datasets.download.verify import verify_dataset
from vfm_isbench.datasets.own_names import OWN_DATASETS
from vfm_isbench.datasets.size_strata import list_sha256
from vfm_isbench.errors import DataError
from vfm_isbench.protocol import Protocol

DATA_ROOT = Path("data")
MIRROR_VARIABLE = "VFM_ISBENCH_DATA_MIRROR"


def add_data(commands: Subparsers) -> None:
    """Add the subcommand."""
    data = commands.add_parser("data", help="download, verify and list data sets")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="list the data sets that can be downloaded, and which are present")
    listing.set_defaults(function=list_data)
    _add_data_root(listing)

    fetch = actions.add_parser("download", help="download, unpack and verify; complete data sets are left alone")
    fetch.set_defaults(function=download_data)
    fetch.add_argument("names", nargs="+", metavar="NAME", help=", ".join(SOURCES))
    _add_data_root(fetch)
    fetch.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help=f"base URL to try before the official one; may be repeated; ${MIRROR_VARIABLE} can list more, "
        "separated by spaces",
    )
    fetch.add_argument(
        "--from-folder",
        type=Path,
        metavar="DIR",
        help="take the archive or the unpacked files from DIR, where you put them, instead of the network",
    )
    fetch.add_argument(
        "--sha256", metavar="HEX", help="SHA-256 that the archive must have; for one NAME (default: as published)"
    )
    fetch.add_argument("--keep-archive", action="store_true", help="keep the archive in DIR/.vfm_isbench/downloads")
    fetch.add_argument("--quiet", action="store_true", help="no progress bars")

    verify = actions.add_parser("verify", help="compare the files on disk with those published")
    verify.set_defaults(function=verify_data)
    verify.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SOURCES)} (default: all present)")
    _add_data_root(verify)
    verify.add_argument("--deep", action="store_true", help="open every file, and count the instances of SBD")
    verify.add_argument("--quiet", action="store_true", help="no progress bars")

    objects = actions.add_parser("objects", help="print the objects of a test set in their order, one id per line")
    objects.set_defaults(function=list_objects)
    objects.add_argument("name", metavar="NAME", help=", ".join([*list_datasets(), *OWN_DATASETS]))
    _add_data_root(objects)


def _add_data_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-root",
        type=Path,
        default=DATA_ROOT,
        metavar="DIR",
        help=f"folder with SBD/, GrabCut/, Berkeley/, DAVIS/, … (default: {DATA_ROOT})",
    )


def list_data(arguments: argparse.Namespace) -> None:
    """``vfm-isbench data list``."""
    for name, source in SOURCES.items():
        state = verify_dataset(name, arguments.data_root).state
        say(f"{name.ljust(10)}  {source.archive.about_size.rjust(7)}  {state.ljust(10)}  {source.description}")
        say(f"            licence: {source.licence}")
    say(f"data root: {arguments.data_root.resolve()}")


def download_data(arguments: argparse.Namespace) -> None:
    """``vfm-isbench data download``."""
    sources = [source_of(name) for name in arguments.names]
    if arguments.sha256 is not None and (len(sources) > 1 or not re.fullmatch("[0-9a-fA-F]{64}", arguments.sha256)):
        raise DataError(
            f"--sha256 got {arguments.sha256!r} for {len(sources)} data sets; expected 64 hexadecimal digits, "
            "and one NAME"
        )
    mirrors = [*arguments.mirror, *os.environ.get(MIRROR_VARIABLE, "").split()]
    failures = []
    say(f"data root: {arguments.data_root.resolve()}")
    for source in sources:
        say(*_terms(source))
        try:
            report = download_dataset(
                source.name,
                arguments.data_root,
                mirrors=mirrors,
                keep_archive=arguments.keep_archive,
                progress=not arguments.quiet,
                sha256=arguments.sha256,
                from_folder=arguments.from_folder,
            )
        except DataError as error:  # still download the others
            failures.append(f"{source.name}: {error}")
            continue
        say(str(report))
    if failures:
        raise DataError("\n".join(failures))


def list_objects(arguments: argparse.Namespace) -> None:
    """``vfm-isbench data objects``."""
    dataset = open_dataset(arguments.name, "test", arguments.data_root, Protocol())
    objects = dataset.objects
    say(
        *map(str, objects),
        f"# {dataset.name}: {len(objects)} objects, SHA-256 of the lines above: {list_sha256(objects)}",
    )
    for note in dataset.notes:
        complain(f"note: {note}")


def _size(source: DatasetSource) -> str:
    return "fetched by hand" if not source.archive.urls else f"about {source.archive.about_size}"


def _terms(source: DatasetSource) -> list[str]:
    return [
        f"{source.name}: {source.description}, {_size(source)}",
        f"  licence: {source.licence}",
        f"  cite: {source.citation}",
    ]


def verify_data(arguments: argparse.Namespace) -> None:
    """``vfm-isbench data verify``."""
    data_root: Path = arguments.data_root
    names = arguments.names or [name for name, source in SOURCES.items() if (data_root / source.folder).exists()]
    if not names:
        folders = ", ".join(source.folder for source in SOURCES.values())
        raise DataError(
            f"nothing to verify: {data_root.resolve()} holds none of {folders}. Give another --data-root, or "
            "download one: vfm-isbench data download NAME"
        )
    sources = [source_of(name) for name in names]
    reports = [
        verify_dataset(source.name, data_root, deep=arguments.deep, progress=not arguments.quiet) for source in sources
    ]
    say(*(str(report) for report in reports))
    wrong = [f"{report.name} ({report.state})" for report in reports if not report.is_complete]
    if wrong:
        raise DataError(f"not the published files: {', '.join(wrong)}; the report above says why")
