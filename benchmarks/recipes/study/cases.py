"""The runs of a study: what is compared, and a resumable loop over all of it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from multiprocessing import get_context
from pathlib import Path

from tqdm.auto import tqdm

from vfm_isbench import Protocol, Result, VfmIsbenchError

NAMED = ("test_datasets",)
"""Fields outside the fingerprint that a study may change; the seed has its own option."""

DECIDED_BY_DATA = ("sample_weights", "featup_channel_norm")
"""Fields that a run records as data and weights allow, whatever its protocol asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of a study's table: an upsampler under a protocol, with every seed.

    Attributes:
        label: What tables and kept entries call it; unique in a study.
        upsampler: What ``vfm-isbench run`` is given.
        protocol: The protocol, whatever its seed.
        options: Further words for ``vfm-isbench run``.
        program: Words behind ``python`` instead of ``-m vfm_isbench``, for a program that takes the same ones and
            records more.
    """

    label: str
    upsampler: str
    protocol: Protocol
    options: tuple[str, ...] = ()
    program: tuple[str, ...] = ()

    def command(self, folder: Path, seed: int, arguments: argparse.Namespace) -> list[str]:
        """The words behind ``vfm-isbench`` for one seed."""
        protocol = self.protocol
        preset = Protocol.preset(protocol.label)
        changed = [
            *protocol.changed_fields(),
            *(name for name in NAMED if _field(protocol, name) != _field(preset, name)),
        ]
        words = ["run", self.upsampler, "--name", self.label, "--protocol", protocol.label, "--seed", str(seed)]
        words += [word for name in changed for word in ("--set", f"{name}={json.dumps(_field(protocol, name))}")]
        words += ["--data-root", str(arguments.data_root)] if arguments.data_root else []
        words += ["--device", arguments.device, "--workers", str(arguments.workers), "--output", str(folder), "--quiet"]
        return [*words, *self.options]


@dataclass(frozen=True, slots=True)
class Runs:
    """What a study has.

    Attributes:
        results: The results of each case that has all its seeds, by label, in the order of the cases.
        folders: Their run folders.
        skipped: Why a case has none, by label.
    """

    results: Mapping[str, Sequence[Result]] = field(default_factory=dict)
    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options that every study has."""
    parser.add_argument("--protocol", default="demo", help="the preset that the study starts from (default: demo)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/studies") / name, help="folder of the run folders")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (default: 2)")
    parser.add_argument("--data-root", type=Path, help="folder of the data sets")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=0, help="processes per run that prepare training samples")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N objects of each test set")
    parser.add_argument("--only-page", action="store_true", help="run nothing: write the figures from what is kept")


def run_cases(cases: Sequence[Case], arguments: argparse.Namespace) -> Runs:
    """Do the runs that have no result yet, some at a time; finished ones are kept and interrupted ones go on.

    A run that fails stops no other. Its last line is printed in the end, and is the reason why its case is skipped.

    Raises:
        VfmIsbenchError: if a folder holds the result of another protocol.
    """
    labels = [case.label for case in cases]
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels of cases must be unique; got {labels}")
    wanted = [(case, seed) for seed in arguments.seeds for case in cases]
    missing = [one for one in wanted if _finished(arguments, *one) is None]
    failures: dict[str, str] = {}
    # The line is no use in a file.
    with tqdm(total=len(missing), unit="run", desc="runs", disable=None) as bar, _pool(arguments) as pool:

        def run(one: tuple[Case, int]) -> None:
            case, seed = one
            if case.label not in failures:
                reason = _run(case, seed, arguments)
                failures.update({} if reason is None else {case.label: reason})
            bar.update()

        list(pool.map(run, missing))
    for label, reason in failures.items():
        print(f"skipped: {label}: {reason}", file=sys.stderr)
    return results_of(cases, arguments, failures)


def results_of(cases: Sequence[Case], arguments: argparse.Namespace, failures: Mapping[str, str] | None = None) -> Runs:
    """The results that are there."""
    results, folders, skipped = {}, {}, dict(failures or {})
    for case in cases:
        found = [_finished(arguments, case, seed) for seed in arguments.seeds]
        files = [_file(arguments, case, seed) for seed in arguments.seeds]
        if None in found:
            skipped.setdefault(case.label, f"not run yet: {files[found.index(None)]}")
            continue
        results[case.label] = [result for result in found if result is not None]
        folders[case.label] = [file.parent for file in files]
    return Runs(results, folders, skipped)


def parallel(call: Callable[[Path], None], folders: Sequence[Path], arguments: argparse.Namespace) -> None:
    """Call something for several run folders, some at a time, with a progress bar."""
    with tqdm(total=len(folders), unit="run", disable=None) as bar, _pool(arguments) as pool:

        def one(folder: Path) -> None:
            call(folder)
            bar.update()

        list(pool.map(one, folders))


def commands(every: Sequence[Sequence[str]], arguments: argparse.Namespace) -> list[str | None]:
    """Run many short commands of the library, some at a time; why each failed, or None.

    Each process runs several of them, because starting one takes longer than some evaluations.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(arguments.jobs)))
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        reasons = [pool.submit(_command, list(words)) for words in every]
        for _ in tqdm(as_completed(reasons), total=len(reasons), unit="command", disable=None):
            pass
    return [reason.result() for reason in reasons]


def _command(words: list[str]) -> str | None:
    from vfm_isbench import cli

    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
        code = cli.main(words)
    return None if code == 0 else _reason(said.getvalue(), code)


def _reason(said: str, code: int) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {code}"


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs)


def vfm_isbench(words: Sequence[str], jobs: int = 1, program: Sequence[str] = ("-m", "vfm_isbench")) -> str | None:
    """Run a command of the library in a process of its own; returns why it failed, or None.

    Several at a time share the processors.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(_threads(jobs)))}
    command = [sys.executable, *program, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return _reason(done.stderr, done.returncode)


def _run(case: Case, seed: int, arguments: argparse.Namespace) -> str | None:
    words = case.command(_file(arguments, case, seed).parent, seed, arguments)
    tqdm.write(f"$ vfm-isbench {shlex.join(words)}", file=sys.stderr)
    began = time.monotonic()
    reason = vfm_isbench(words, arguments.jobs, **({"program": case.program} if case.program else {}))
    tqdm.write(f"{case.label}, seed {seed}: {reason or f'{time.monotonic() - began:.0f} s'}", file=sys.stderr)
    return reason


def _finished(arguments: argparse.Namespace, case: Case, seed: int) -> Result | None:
    """The result of a run that is finished; None if there is none yet.

    Raises:
        VfmIsbenchError: if it is that of another protocol.
    """
    file = _file(arguments, case, seed)
    if not file.is_file():
        return None
    result = Result.load(file)
    decided = {name: getattr(result.protocol, name) for name in DECIDED_BY_DATA}
    if result.protocol.fingerprint() != case.protocol.replace(**decided).fingerprint():
        raise VfmIsbenchError(
            f"{file} is the result of another protocol than this study now asks for {case.label!r}; choose another "
            "--output, or delete its folder"
        )
    return result


def _file(arguments: argparse.Namespace, case: Case, seed: int) -> Path:
    output: Path = arguments.output
    return output / f"{case.label.replace('/', '_').replace(':', '_')}-seed{seed}" / "result.json"


def _pool(arguments: argparse.Namespace) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=arguments.jobs)


def _field(protocol: Protocol, name: str) -> object:
    return protocol.to_dict()[name]


def study_protocol(arguments: argparse.Namespace) -> Protocol:
    """The preset that was asked for, with the limit of objects if there is one.

    Raises:
        VfmIsbenchError: if there is no such preset.
    """
    protocol = Protocol.preset(arguments.protocol)
    return protocol if arguments.limit is None else protocol.replace(object_limit=arguments.limit)


def run_study(main: Callable[[], None]) -> None:
    """Run a recipe; errors of the library end it with their message."""
    try:
        main()
    except VfmIsbenchError as error:
        sys.exit(str(error))
