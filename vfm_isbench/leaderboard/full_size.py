"""Full-size results: whether there are any, and what it takes to add one."""

from __future__ import annotations

from collections.abc import Iterable

from vfm_isbench.leaderboard.entry import Entry
from vfm_isbench.leaderboard.rerun_commands import clone
from vfm_isbench.leaderboard.trust import preset_of

FULL_SIZE = ("paper", "paper-early")
"""Protocols whose results can stand beside those of papers."""

INSTALL = "python -m pip install ."
"""In a folder with the source code of this library."""

COMMANDS = (
    "vfm-isbench data download grabcut berkeley davis sbd --data-root DATA",
    "vfm-isbench run loftup:dinov2s --protocol paper --data-root DATA --workers 8 --estimate",
    *(
        f"vfm-isbench run {spec} --protocol paper --data-root DATA --workers 8 --seed {seed} "
        f"--output {folder}-seed{seed}"
        for spec, folder in (("bilinear", "runs/bilinear"), ("loftup:dinov2s", "runs/loftup"))
        for seed in (0, 1, 2)
    ),
    "vfm-isbench leaderboard submit runs/bilinear-seed0 runs/bilinear-seed1 runs/bilinear-seed2 --name bilinear",
    "vfm-isbench leaderboard submit runs/loftup-seed0 runs/loftup-seed1 runs/loftup-seed2 --name LoftUp",
)
"""From nothing to an entry of a published upsampler. Every entry needs that of bilinear beside it."""

NEEDS = (
    "A CUDA GPU. We have not run this on one yet; --estimate measures yours in a minute and prints the time and the "
    "memory. "
    "At 10 TFLOP/s in float32 we expect 4 to 5 hours per seed for bilinear, by a count of operations, and about twice "
    "as long for LoftUp. If memory runs out in training, the run says which smaller --images-at-once fits.",
    "The data sets GrabCut, Berkeley, DAVIS and SBD: a download of 1.5 GB. vfm-isbench data download fetches them.",
    "The weights of the backbone (DINOv2 ViT-S/14) and of the upsampler. The first run downloads them.",
)


def commands(repository: str | None) -> list[str]:
    """All commands, from the installation on.

    Args:
        repository: Web address of this library's repository; None if it has none.
    """
    return [*clone(repository), INSTALL, *COMMANDS]


def has_full_size(entries: Iterable[Entry]) -> bool:
    """Whether an entry follows one of the full-size protocols, in every field and on every object."""
    presets = (preset_of(entry.protocol) for entry in entries)
    return any(preset is not None and preset.name in FULL_SIZE for preset in presets)
