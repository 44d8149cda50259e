"""Kills a small real run with SIGKILL, continues it by the same call, and compares it with a run that nobody stopped.

This file is a program, so that a test can start it in a process of its own. It imports the package once and forks a
child for every run. The children tell in a pipe which phase they are in, so that every kill is recorded with the phase
in which it fell. There are two kinds of kills:

- at a random time: so many seconds after a phase began, drawn over the duration that was measured for the phase;
- at a step of a write: the child waits there, so that the kill falls between two operations on the disk, such as
  between the first half of a line and the rest, or between a file and its new name.

The kills are aimed at the phases in turn. A run that ends before its kill does not count, and another is drawn.

::

    python tests/support/killed_runs.py FOLDER --kills 50 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file
from tiny import TINY

import vfm_isbench
from vfm_isbench import Result, benchmark
from vfm_isbench.backbones import load_backbone
from vfm_isbench.runs import run_folder
from vfm_isbench.runs.evidence_store import EvidenceStore
from vfm_isbench.training import loop

PROTOCOL: Final = TINY.replace(image_size=32)

PHASES: Final = {
    "training": (benchmark, "train"),
    "validation": (loop, "validate"),
    "checkpoint": (run_folder.RunFolder, "save_checkpoint"),
    "evaluation": (benchmark, "measure"),
    "evidence": (EvidenceStore, "append"),
    "result": (Result, "save"),
}
"""The functions that are the phases of a run. A phase may lie inside another; the innermost counts."""

AT_RANDOM_TIMES: Final = ("training", "validation", "evaluation")
AT_STEPS: Final = ("checkpoint", "evidence", "start or result")
MODULES: Final = "modules.json"
"""Lists the modules that a run has imported."""

LONGEST: Final = 120.0
"""Seconds after which a run counts as hanging."""


@dataclass(frozen=True)
class Kill:
    """When to kill: at the given occurrence of an event, counted from 0, and so many seconds later."""

    event: str
    occurrence: int
    seconds: float = 0.0


@dataclass
class Run:
    """What one child told."""

    events: list[tuple[float, str]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    code: int | None = None

    def tell(self, moment: float, event: str) -> None:
        """Take note of an event."""
        self.events.append((moment, event))
        verb, _, name = event.partition(" ")
        if verb == "begin":
            self.phases.append(name)
        elif verb == "end":
            self.phases.remove(name)

    def count(self, event: str) -> int:
        """How often an event was told."""
        return sum(told == event for _, told in self.events)

    @property
    def place(self) -> str:
        """The phase that the run is in."""
        return self.phases[-1] if self.phases else "between phases" if self.events else "start"

    def durations(self, phase: str) -> list[float]:
        """Seconds that each occurrence of a phase took."""
        begins = [moment for moment, event in self.events if event == f"begin {phase}"]
        ends = [moment for moment, event in self.events if event == f"end {phase}"]
        return [end - begin for begin, end in zip(begins, ends, strict=True)]


class Told:
    """The child's side: tells events, and waits for the kill at one of them."""

    def __init__(self, pipe: int, folder: Path, wait_at: Kill | None) -> None:
        self._pipe = pipe
        self._folder = folder
        self._wait_at = wait_at
        self._counts: Counter[str] = Counter()
        self._phases: list[str] = []
        self._write = os.write

    def __call__(self, event: str) -> None:
        """Tell an event; wait for the kill if it is the one to wait at."""
        self._write(self._pipe, f"{event}\n".encode())
        occurrence = self._counts[event]
        self._counts[event] += 1
        if self._wait_at is not None and (self._wait_at.event, self._wait_at.occurrence) == (event, occurrence):
            time.sleep(LONGEST)

    def step(self, operation: str) -> None:
        """Tell a step of a write in the current phase."""
        self(f"step {self._phases[-1] if self._phases else 'start'}: {operation}")

    def is_inside(self, path: object) -> bool:
        """Whether a path is in the folder of the run."""
        return isinstance(path, str | os.PathLike) and str(self._folder) in str(path)

    def tell_phases(self) -> None:
        """Tell from now on when each phase begins and ends."""
        for name, (owner, attribute) in PHASES.items():
            setattr(owner, attribute, self._phase(name, getattr(owner, attribute)))

    def _phase(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def telling(*arguments: Any, **options: Any) -> Any:
            self._phases.append(name)
            self(f"begin {name}")
            found = function(*arguments, **options)
            self._phases.pop()
            self(f"end {name}")
            return found

        return telling

    def tell_steps(self) -> None:
        """Tell from now on each operation on a file of the run."""
        fsync, replace, opened, written = os.fsync, os.replace, Path.open, os.write

        def telling_fsync(descriptor: int) -> None:
            self.step("before fsync")
            fsync(descriptor)

        def telling_replace(source: Any, target: Any, **options: Any) -> None:
            self.step("before rename")
            replace(source, target, **options)
            self.step("after rename")

        def telling_open(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            file = opened(path, mode, *arguments, **options)
            is_written = self.is_inside(path) and set(mode) & set("wax+") and "b" in mode
            return _HalfByHalf(file, self) if is_written else file

        def telling_write(descriptor: int, content: bytes) -> int:
            if not self.is_inside(Path(f"/proc/self/fd/{descriptor}").readlink()) or len(content) < 2:
                return written(descriptor, content)
            done = written(descriptor, content[: len(content) // 2])
            self.step("half written")
            return done + written(descriptor, content[done:])

        os.fsync, os.replace, os.write = telling_fsync, telling_replace, telling_write
        Path.open = telling_open  # type: ignore[method-assign,assignment]
        Path.replace = lambda path, target: telling_replace(path, target)  # type: ignore[method-assign,assignment]


class _HalfByHalf:
    """A file in which every write has two halves."""

    def __init__(self, file: Any, told: Told) -> None:
        self._file = file
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _HalfByHalf:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> int:
        half = len(content) // 2
        self._file.write(content[:half])
        self._file.flush()
        self._told.step("half written")
        self._file.write(content[half:])
        return len(content)


def run_once(folder: Path, options: dict[str, Any], kill: Kill | None = None) -> Run:
    """Run in a child until it ends or is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            told = Told(writing, folder, kill if kill is not None and kill.event.startswith("step ") else None)
            told.tell_phases()
            told.tell_steps()
            vfm_isbench.evaluate("bilinear", PROTOCOL, device="cpu", progress=False, output_dir=folder, **options)
            (folder / MODULES).write_text(json.dumps(list(sys.modules)))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    try:
        return _watch(child, reading, kill)
    finally:
        os.close(reading)


def _watch(child: int, pipe: int, kill: Kill | None) -> Run:
    run, rest, deadline = Run(), b"", time.monotonic() + LONGEST
    due: float | None = None
    while True:
        wait = (deadline if due is None else due) - time.monotonic()
        if wait <= 0 or not select.select([pipe], [], [], wait)[0]:
            os.kill(child, signal.SIGKILL)
            if due is None:
                raise SystemExit(f"the run hangs; it told {run.events[-3:]}")
            for line in _rest_of(pipe, rest):
                run.tell(time.monotonic(), line)
            break
        content = os.read(pipe, 1 << 16)
        if not content:
            break
        *lines, rest = (rest + content).split(b"\n")
        for line in lines:
            run.tell(time.monotonic(), line.decode())
            if kill is not None and line.decode() == kill.event and run.count(kill.event) == kill.occurrence + 1:
                due = time.monotonic() + kill.seconds
    run.code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return run


def _rest_of(pipe: int, rest: bytes) -> list[str]:
    """What a killed child still told."""
    while content := os.read(pipe, 1 << 16):
        rest += content
    return [line.decode() for line in rest.split(b"\n")[:-1]]


def outcome(folder: Path) -> dict[str, Any]:
    """Everything of a finished run that a kill must not change: weights, optimiser, losses, clicks and IoUs."""
    result = Result.load(folder / "result.json")
    return {
        "tensors": {
            name: (str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes())
            for name, tensor in load_file(folder / "checkpoint.safetensors").items()
        },
        "training": [{**record, "seconds": None} for record in result.training],
        "objects": {name: repr(dataset.objects) for name, dataset in result.datasets.items()},
    }


def drawn_kill(group: str, reference: Run, rng: random.Random) -> Kill:
    """A kill in a group of phases, drawn over what a whole run has told."""
    if group in AT_RANDOM_TIMES:
        durations = reference.durations(group)
        occurrence = rng.randrange(len(durations))
        return Kill(f"begin {group}", occurrence, rng.uniform(0, durations[occurrence]))
    phases = ("start", "result") if group == "start or result" else (group,)
    beginnings = tuple(f"step {name}:" for name in phases)
    steps = sorted({event for _, event in reference.events if event.startswith(beginnings)})
    event = rng.choice(steps)
    return Kill(event, rng.randrange(reference.count(event)))


def complete_lines(folder: Path) -> int:
    """Objects whose evidence is on disk as a whole line."""
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in (folder / "evidence").glob("*.jsonl"))


def trial(folder: Path, kill: Kill, options: dict[str, Any], expected: dict[str, Any], objects: int) -> dict[str, Any]:
    """Kill a run, continue it, and compare."""
    killed = run_once(folder, options, kill)
    if killed.code != -signal.SIGKILL:  # it was faster than before, and has ended
        return {"missed": True, "code": killed.code}
    kept = complete_lines(folder)
    continued = run_once(folder, options)
    found = outcome(folder) if continued.code == 0 else {}
    return {
        "missed": False,
        "fell_in": killed.place,
        "step": kill.event.partition(": ")[2],
        "code": continued.code,
        "differs_in": [key for key in expected if found.get(key) != expected[key]],
        "evidence_lost": kept + continued.count("begin evidence") - objects,
    }


def main() -> int:
    """Make the trials, and print a line for each and the figures as JSON at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", type=json.loads, default={}, help="further options of evaluate(), as JSON")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    reference = run_once(arguments.folder / "reference", arguments.options)
    if reference.code != 0:
        return 1
    # The parent imports and loads what every child would, in seconds each.
    for name in json.loads((arguments.folder / "reference" / MODULES).read_text()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    shared = load_backbone(PROTOCOL.backbone, PROTOCOL.image_size)
    benchmark.load_backbone = lambda *_, **__: shared  # type: ignore[assignment]
    # Once more, because every duration is measured without the imports.
    reference = run_once(arguments.folder / "warm", arguments.options)
    if outcome(arguments.folder / "warm") != outcome(arguments.folder / "reference"):
        raise SystemExit("two runs that nobody stopped differ")
    expected = outcome(arguments.folder / "reference")
    objects = reference.count("begin evidence")
    groups = [group for pair in zip(AT_RANDOM_TIMES, AT_STEPS, strict=True) for group in pair]
    trials: list[dict[str, Any]] = []
    missed = 0
    while len(trials) < arguments.kills:
        kill = drawn_kill(groups[len(trials) % len(groups)], reference, rng)
        folder = arguments.folder / f"run{len(trials)}"
        found = trial(folder, kill, arguments.options, expected, objects)
        shutil.rmtree(folder)
        if found.pop("missed"):
            missed += 1
            if missed > arguments.kills or found["code"] != 0:
                print(f"runs end before they are killed, or fail: {kill}, {found}")
                return 1
            continue
        trials.append(found)
        where = f"{found['fell_in']} {found['step']}".strip()
        is_same = found["code"] == 0 and not found["differs_in"]
        print(f"{len(trials):3d}  killed in {where:32s} {'identical' if is_same else found}", flush=True)
    figures = {
        "kills": len(trials),
        "identical": sum(found["code"] == 0 and not found["differs_in"] for found in trials),
        "evidence_lost": sum(found["evidence_lost"] for found in trials),
        "ended_before_the_kill": missed,
        "fell_in": dict(Counter(found["fell_in"] for found in trials).most_common()),
        "steps": dict(Counter(f"{found['fell_in']}: {found['step']}" for found in trials if found["step"])),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
