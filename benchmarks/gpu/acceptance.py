"""Accept the library on a GPU with one command: is it right there, how fast is it, and what would a whole run take?

    python benchmarks/gpu/acceptance.py --minutes 8

Runs every stage in its own process with its own time limit: the card, the tests marked cuda, clicks, training, and the
head's convolution. Whatever a stage has found is in the report within seconds, so a crash, or the end of the time,
costs only what follows. The report is benchmarks/reports/DATE-gpu-CARD.md, with all values in the .json beside it. The
package need not be installed, and nothing is downloaded. The exit status is 0 if every stage passed.

--device cpu --small tries out the program itself.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from report import markdown, whole_runs  # noqa: E402

from vfm_isbench.storage.atomic import write_text  # noqa: E402

SHARES = {"card": 2, "tests": 5, "evaluation": 7, "training": 5, "convolutions": 2}
"""Stages, the most important first, and how the time is shared out. What a stage leaves over, the others get."""

_MARGIN = 0.9
"""Share of its limit after which a stage begins nothing new, so that it ends by itself."""

_LEAST_SECONDS = 5.0
"""With less, a stage is left out."""

_STARTING_SECONDS = 30.0
"""Every stage gets this long if it is there, because importing PyTorch may take most of it."""

_EVERY_SECONDS = 2.0
_LAST_LINES = 25
_TEST = re.compile(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)", re.M)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, default=8.0, help="time for everything together (default: 8)")
    made.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "reports", metavar="DIR")
    made.add_argument("--device", default="cuda", help="cuda, cuda:1, …, or cpu (default: cuda)")
    made.add_argument("--small", action="store_true", help="tiny sizes, to try out the program itself")
    made.add_argument("--stages", nargs="+", choices=list(SHARES), default=list(SHARES), help="only these")
    return made


@dataclass
class Acceptance:
    """The program while it runs.

    Attributes:
        options: The command line.
        folder: Where stages write, until it is in the report.
        results: Everything found so far.
    """

    options: argparse.Namespace
    folder: Path
    results: dict[str, Any]

    def run(self, name: str, limit: float) -> None:
        """Run a stage, and end it after ``limit`` seconds."""
        began = time.monotonic()
        stage = self.results["stages"][name] = {"outcome": "running", "seconds": 0.0, "findings": {}}
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:  # not atomic: a log, to be read while it grows
            process = subprocess.Popen(
                self._command(name, _MARGIN * limit),
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT,
                env=self._environment(), start_new_session=True,
            )  # fmt: skip
            try:
                while process.poll() is None and time.monotonic() - began < limit:
                    try:
                        process.wait(_EVERY_SECONDS)
                    except subprocess.TimeoutExpired:
                        self._gather(name, time.monotonic() - began)
            finally:
                _end(process)
        seconds = time.monotonic() - began
        cut = process.returncode == -signal.SIGKILL and seconds >= limit
        failed = f"failed, exit status {process.returncode}"
        stage["outcome"] = f"cut after {seconds:.0f} s" if cut else failed if process.returncode else "passed"
        if process.returncode:
            stage["last_lines"] = _text(log).splitlines()[-_LAST_LINES:]
        self._gather(name, seconds)

    def write(self) -> Path:
        """Write the report as far as it is known."""
        results = self.results
        card = results["stages"].get("card", {}).get("findings", {}).get("name")
        results["card"] = card or "unknown card"
        results["whole_runs"] = whole_runs(results["stages"])
        slug = re.sub(r"[^a-z0-9]+", "-", results["card"].lower()).strip("-")
        stem = f"{results['date']}-gpu-{slug}{'-small' if results['small'] else ''}"
        self.options.out.mkdir(parents=True, exist_ok=True)
        write_text(self.options.out / f"{stem}.json", json.dumps(results, indent=1) + "\n")
        report: Path = self.options.out / f"{stem}.md"
        write_text(report, markdown(results))
        return report

    def _gather(self, name: str, seconds: float) -> None:
        """Take over what a stage has found so far, and write the report."""
        stage = self.results["stages"][name]
        self.results["seconds"] += seconds - stage["seconds"]
        stage["seconds"] = seconds
        found = self.folder / f"{name}.json"
        if name == "tests":
            stage["findings"] = _test_outcomes(_text(self.folder / "tests.log"))
        elif found.is_file():
            stage["findings"] = json.loads(found.read_text(encoding="utf-8"))
        if name != "card" or stage["outcome"] != "running":  # the card gives the report its name
            self.write()

    def _command(self, name: str, seconds: float) -> list[str]:
        device, small = self.options.device, self.options.small
        if name == "tests":
            # Neither plugins nor warnings of another environment must decide.
            plain = ["-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:xdist"]
            some = ["-k", "contract and not loftup"] if small else []
            return [
                sys.executable, "-m", "pytest", "-m", "cuda", "-v", "--tb=short", "-W", "default", *plain, *some,
                *_test_files(),
            ]  # fmt: skip
        found = self.folder / f"{name}.json"
        command = [sys.executable, str(HERE / "stages.py"), name, "--json", str(found), "--device", device]
        return [*command, "--seconds", str(seconds), *(["--small"] if small else [])]

    def _environment(self) -> dict[str, str]:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        ours = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **ours, "VFM_ISBENCH_TEST_DEVICE": self.options.device}


def _test_files() -> list[str]:
    """The tests of CUDA devices, the most important first."""
    files = sorted((ROOT / "tests" / "cuda").glob("test_*.py"), key=lambda file: file.name != "test_same_as_cpu.py")
    return [str(file.relative_to(ROOT)) for file in files]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those it started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _test_outcomes(output: str) -> dict[str, Any]:
    """How many tests had which outcome so far, and which of them did not pass."""
    found = _TEST.findall(output)
    reasons = dict(re.findall(r"^(?:FAILED|ERROR) (\S+::\S+) - (.*)$", output, re.M))
    bad = [(test, outcome) for test, outcome in found if outcome in ("FAILED", "ERROR")]
    missed = [f"{outcome} `{test}` {reasons.get(test, '')}".strip() for test, outcome in bad]
    return {"counts": dict(Counter(outcome.lower() for _, outcome in found)), "not_passed": missed}


def _commit() -> str:
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    options = arguments().parse_args(argv)
    ends = time.monotonic() + 60 * options.minutes
    results = {
        "date": datetime.date.today().isoformat(), "commit": _commit(), "minutes": options.minutes,
        "small": options.small, "seconds": 0.0, "card": "unknown card", "stages": {},
    }  # fmt: skip
    with TemporaryDirectory(prefix="acceptance-") as folder:
        acceptance = Acceptance(options, Path(folder), results)
        names = [name for name in SHARES if name in options.stages]
        for index, name in enumerate(names):
            left = ends - time.monotonic()
            if left < _LEAST_SECONDS:
                results["stages"][name] = {"outcome": "left out: no time", "seconds": 0.0, "findings": {}}
                continue
            share = SHARES[name] / sum(SHARES[later] for later in names[index:])
            limit = min(left, max(share * left, _STARTING_SECONDS))
            print(f"{name}: at most {limit:.0f} s", flush=True)
            acceptance.run(name, limit)
            print(f"{name}: {results['stages'][name]['outcome']}", flush=True)
        report = acceptance.write()
    print(report.read_text(encoding="utf-8"))
    print(f"written: {report}")
    return 0 if all(stage["outcome"] == "passed" for stage in results["stages"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
