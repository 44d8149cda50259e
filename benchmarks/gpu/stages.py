"""What the stages of the acceptance program share: settings, a time limit, and findings that are on disk at once.

    python benchmarks/gpu/stages.py evaluation --json evaluation.json --seconds 120

Runs one stage in this process. The acceptance program runs each of them like this.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent / "speed")]  # the package need not be installed

import torch  # noqa: E402
from photographs import write_photographs  # noqa: E402

from vfm_isbench.probe.memory import first_line  # noqa: E402
from vfm_isbench.probe.preparation import choose_device  # noqa: E402
from vfm_isbench.storage.atomic import write_text  # noqa: E402

NAMES = ("card", "evaluation", "training", "convolutions")
"""Stages that run by this program, each a module with a function ``measure``."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large everything is.

    Attributes:
        backbone: Its name, see ``benchmarks/speed/cases.py``.
        image_size: Side of the network's input in pixels.
        photographs: Images in each split.
        photograph_size: (H, W) in pixels.
        batch_size: Images per training step.
        workers: Processes that prepare training samples.
        case_seconds: How long the measurement of one case may take.
        objects_at_once: Lockstep sizes.
        upsamplers: Only these; None for all.
    """

    backbone: str = "timm:vit_small_patch14_dinov2"
    image_size: int = 224
    photographs: int = 32
    photograph_size: tuple[int, int] = (375, 500)
    batch_size: int = 32
    workers: int = 8
    case_seconds: float = 4.0
    objects_at_once: tuple[int, ...] = (1, 4, 8, 16, 32)
    upsamplers: tuple[str, ...] | None = None

    def takes(self, upsampler: str) -> bool:
        """Whether an upsampler is measured."""
        return self.upsamplers is None or upsampler in self.upsamplers


SMALL = Size(
    backbone="fake",
    image_size=28,
    photographs=4,
    photograph_size=(60, 80),
    batch_size=2,
    workers=1,
    case_seconds=0.05,
    objects_at_once=(1, 2),
    upsamplers=("bilinear",),
)
"""Only tries out the program itself."""


@dataclass
class Stage:
    """One stage while it runs.

    Attributes:
        device: The device.
        size: How large everything is.
        path: JSON file with the findings.
        seconds: Time that the stage may take.
        findings: What was found so far; lists of rows by name.
    """

    device: torch.device
    size: Size
    path: Path
    seconds: float
    findings: dict[str, Any] = field(default_factory=lambda: {"errors": [], "left_out": []})
    _began: float = field(default_factory=time.monotonic)

    @property
    def is_small(self) -> bool:
        """Whether only the program itself is tried out."""
        return self.size is SMALL

    @cached_property
    def options(self) -> SimpleNamespace:
        """The options that ``benchmarks/speed/cases.py`` expects."""
        root = self.path.parent / "photographs"
        if not root.is_dir():  # another stage may have written them
            with TemporaryDirectory(dir=self.path.parent) as folder:
                write_photographs(Path(folder) / "photographs", self.size.photographs, self.size.photograph_size)
                (Path(folder) / "photographs").rename(root)  # not atomic: a folder; images can be made again
        return SimpleNamespace(backbone=self.size.backbone, image_size=self.size.image_size, data_root=root)

    def add(self, table: str, row: object) -> None:
        """Keep a row of a table, on disk at once."""
        self.findings.setdefault(table, []).append(row)
        self.save()

    def set(self, **values: object) -> None:
        """Keep single values, on disk at once."""
        self.findings.update(values)
        self.save()

    def save(self) -> None:
        """Write the findings."""
        write_text(self.path, json.dumps(self.findings, indent=1) + "\n")

    def attempt(self, what: str, work: Callable[[], object], needs: float = 0.0) -> None:
        """Do one measurement; an error is kept as a finding, and so is that there was no time.

        Args:
            what: Names the measurement.
            work: The measurement.
            needs: Seconds that must be left.
        """
        if time.monotonic() - self._began + needs > self.seconds:
            self.add("left_out", what)
            return
        print(f"{time.monotonic() - self._began:6.1f} s  {what}", flush=True)
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            self.add("errors", f"{what}: {type(error).__name__}: {first_line(error)}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("name", choices=NAMES)
    made.add_argument("--json", type=Path, required=True, metavar="FILE")
    made.add_argument("--seconds", type=float, default=600.0, help="time that the stage may take")
    made.add_argument("--device", default="cuda")
    made.add_argument("--small", action="store_true", help="tiny sizes, to try out the program itself")
    options = made.parse_args(argv)
    size = SMALL if options.small else Size()
    stage = Stage(choose_device(options.device), size, options.json.resolve(), options.seconds)
    importlib.import_module(options.name).measure(stage)
    stage.save()
    return 1 if stage.findings["errors"] else 0


if __name__ == "__main__":
    sys.modules["stages"] = sys.modules["__main__"]  # the stages import it by this name
    sys.exit(main())
