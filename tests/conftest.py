"""Shared fixtures, and how the suite spreads over the processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from plugin_packages import Packages, installed_packages
from warm_python import warm_python

if TYPE_CHECKING:
    from parity_models import Deviation

# A busy machine must not fail a test.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker has one processor to itself, and so have the processes that it starts. torch reads this when imported,
    # which the process that hands out the tests never does.
    os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared"
LONGEST = (
    *("test_parity_", "test_ci_examples", "test_docs_commands", "test_benchmark.py"),
    *("test_stopped_runs", "test_killed_runs", "test_announcement", "test_browser"),
)
"""How the names of the files begin whose tests take longest."""

MOST_WORKERS = 8
"""Each holds torch and a few probes in memory."""


@pytest.hookimpl(optionalhook=True)  # so that the tests also run where pytest-xdist is not installed
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Give the whole suite a worker per processor; run chosen files in this process, without the workers' imports."""
    if config.args_source != pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min(os.cpu_count() or 1, MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that no worker is left alone with them at the end."""
    items.sort(key=lambda item: not item.path.name.startswith(LONGEST))


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder {name}/ of the shared material beside this repository, which is missing")
    return folder


@pytest.fixture(scope="session")
def real_root() -> Path:
    """Photographs with human masks, in the layouts of the four data sets."""
    return _shared_folder("real")


@pytest.fixture(scope="session")
def parity_root() -> Path:
    """Numbers recorded from the reference implementation."""
    return _shared_folder("parity")


@pytest.fixture
def deviation(record_property: Callable[[str, Any], None]) -> Deviation:
    """Fail if a step deviates too far from the recorded numbers, and keep its deviation for ``--parity-table``."""

    def within(step: str, largest: float, limit: float) -> None:
        record_property("parity", (step, float(largest), float(limit)))
        assert largest <= limit, f"{step}: deviates by {largest:.3g} from the recorded numbers, {limit:g} is allowed"

    return within


@pytest.fixture(scope="session")
def python() -> Iterator[list[str]]:
    """The words that start Python in a command, with the package already imported."""
    with warm_python() as words:
        yield words


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Installs packages for the duration of a test."""
    (tmp_path / "site").mkdir()
    yield from installed_packages(tmp_path / "site", monkeypatch)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-table", action="store_true", help="end with the deviations from the recorded numbers")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--parity-table"):
        return
    rows: dict[tuple[str, str, float], list[float]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "parity" and report.when == "call":
                    step, largest, limit = value
                    rows.setdefault((step, report.location[0], limit), []).append(largest)
    if rows:
        terminalreporter.write_line("| step | test | cases | allowed | largest deviation |")
        terminalreporter.write_line("|---|---|---|---|---|")
    for (step, file, limit), found in sorted(rows.items()):
        terminalreporter.write_line(f"| {step} | `{file}` | {len(found)} | {limit:g} | {max(found):.1e} |")
    for line in _why_rows_lack(is_empty=not rows):
        terminalreporter.write_line(line)


def _why_rows_lack(*, is_empty: bool) -> list[str]:
    """Why the table of deviations is empty or incomplete; nothing if there is no reason to think so."""
    state = "empty" if is_empty else "incomplete"
    missing = {
        "parity": "numbers recorded from the reference implementation",
        "real": "photographs with human masks, in the layouts of the four data sets",
    }
    lines = [
        f"The table of deviations is {state}: there is no folder {SHARED / name} ({what})."
        for name, what in missing.items()
        if not (SHARED / name).is_dir()
    ]
    if lines:
        return [*lines, "The recordings are not part of the repository, and the tests that need them are skipped."]
    if is_empty:
        return [
            "The table of deviations is empty: no test that compares with recordings ran; select them with -k parity"
        ]
    return []
