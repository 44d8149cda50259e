"""Makes a baseline: one run per seed, and the result files that regression tests compare with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vfm_isbench.baseline.check import BaselineCheck
from vfm_isbench.baseline.recorded import MADE
from vfm_isbench.errors import ResultError, RunError
from vfm_isbench.protocol import Protocol
from vfm_isbench.results import Result
from vfm_isbench.results.environment import package_versions
from vfm_isbench.storage.atomic import write_text
from vfm_isbench.storage.strict_json import SMALL, UnreadableError, read_json


@dataclass(frozen=True)
class BaselinePlan:
    """What to make.

    Attributes:
        spec: How to load the upsampler; the files keep it.
        protocol: Protocol of all runs; their seeds replace its own.
        files: File to write, by seed.
        runs: Folder of the run folders, one per seed.
    """

    spec: str
    protocol: Protocol
    files: Mapping[int, Path]
    runs: Path

    def folder(self, seed: int) -> Path:
        """Run folder of a seed."""
        return self.runs / f"seed{seed}"


def make_baseline(plan: BaselinePlan, run: Callable[[Protocol, Path, bool], Result]) -> list[Result]:
    """Do all runs, then write the files, so that an interrupted command leaves an earlier baseline as it was.

    Args:
        plan: What to make.
        run: Trains and evaluates. Takes the protocol, the run folder, and whether to discard what the folder holds:
            work under other versions of the packages, which would put two versions into one baseline.

    Returns:
        The results, in the order of the plan's seeds.

    Raises:
        ResultError: if a file cannot be written.
    """
    results = [
        run(plan.protocol.replace(seed=seed), plan.folder(seed), holds_other_versions(plan.folder(seed)))
        for seed in plan.files
    ]
    for path, result in zip(plan.files.values(), results, strict=True):
        content = {MADE: {"upsampler": plan.spec}, **result.to_dict()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(content, allow_nan=False, ensure_ascii=False))
        except OSError as error:
            raise ResultError(f"{path} cannot be written: {error}") from error
    return results


def holds_other_versions(folder: Path) -> bool:
    """Whether a run folder holds work done under other versions of this library or of the packages it depends on."""
    try:
        content = read_json(folder / "run.json", SMALL)
        return bool(content.get("versions") != package_versions())
    except (OSError, UnreadableError, AttributeError):
        return False


def refuse_another_upsampler(check: BaselineCheck) -> None:
    """Refuse to make a baseline again with an upsampler that may not be the recorded one.

    Raises:
        RunError: if its code differs and it does not demonstrably compute the same.
    """
    if check.upsampler in ("same", "code"):
        return
    what = "computes other features than" if check.upsampler == "behaviour" else "may not be"
    raise RunError(
        f"the upsampler {what} the one of the baseline, so a new baseline would hide whether it became worse. Make it "
        "again at the commit that the baseline was made with, and change the upsampler afterwards; or, if this "
        "upsampler shall be the new standard, add --new-upsampler"
    )
