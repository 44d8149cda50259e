"""Runs of ``vfm-isbench probe-semantic`` in a study, and label maps made from instance masks."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from study.cases import parallel, vfm_isbench
from vfm_isbench.datasets.sbd import SbdDataset
from vfm_isbench.semantic import SemanticResult
from vfm_isbench.storage.atomic import replacing, write_text
from vfm_isbench.types import IGNORE, Array


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticCase:
    """An upsampler in the second task, with every seed.

    Attributes:
        label: Unique in a study.
        upsampler: What ``vfm-isbench probe-semantic`` is given.
        data: Training and test set; empty for those of the protocol.
        options: Further words for the command.
    """

    label: str
    upsampler: str
    data: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def command(self, file: Path, seed: int, arguments: argparse.Namespace) -> list[str]:
        """The words behind ``vfm-isbench`` for one seed."""
        words = ["probe-semantic", self.upsampler, "--name", self.label, "--protocol", arguments.protocol]
        words += ["--train", self.data[0], "--test", self.data[1]] if self.data else []
        words += ["--data-root", str(arguments.data_root)] if arguments.data_root else []
        words += ["--limit", str(arguments.limit)] if arguments.limit else []
        words += ["--seed", str(seed), "--device", arguments.device, "--output", str(file), "--quiet"]
        return [*words, *self.options]


def run_probes(cases: Sequence[SemanticCase], arguments: argparse.Namespace) -> dict[str, list[SemanticResult]]:
    """Do the probes that have no result yet; a case of which one fails is left out, with a message."""
    files = {
        arguments.output / "semantic" / f"{_plain(case.label)}-seed{seed}.json": (case, seed)
        for seed in arguments.seeds
        for case in cases
    }

    def run(file: Path) -> None:
        case, seed = files[file]
        reason = vfm_isbench(case.command(file, seed, arguments), arguments.jobs)
        if reason is not None:
            print(f"skipped: {case.label}, seed {seed}: {reason}")

    parallel(run, [file for file in files if not file.is_file()], arguments)
    found: dict[str, list[SemanticResult]] = {}
    for case in cases:
        own = [file for file, (owner, _) in files.items() if owner is case]
        if all(file.is_file() for file in own):
            found[case.label] = [SemanticResult.load(file) for file in own]
    return found


def counts_of(results: Mapping[str, Sequence[SemanticResult]]) -> tuple[Array, list[str]]:
    """Confusion counts, cases×seeds×images×K×K, and the id of each image."""
    counts = np.stack(
        [np.stack([np.stack([image.counts for image in run.images]) for run in runs]) for runs in results.values()]
    )
    return counts, [image.image_id for image in next(iter(results.values()))[0].images]


def object_label_maps(data_root: Path, folder: Path) -> tuple[str, str]:
    """Label maps of two classes, object and background, from the instance masks of photographs in the layout of SBD.

    Args:
        data_root: Folder that holds ``SBD/``.
        folder: Gets ``images/``, ``labels/`` and the lists of both splits.

    Returns:
        Names of the training and the test set for ``vfm-isbench probe-semantic``.
    """
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = []
    for split in ("train", "val"):
        dataset = SbdDataset(data_root / "SBD", split=split)
        for image_id in dataset.image_ids:
            sample = dataset.read(image_id)
            labels = np.where(sample.labels == IGNORE, 255, sample.labels > 0).astype(np.uint8)
            # No copy of a published photograph is kept anywhere but in this folder of runs.
            shutil.copyfile(data_root / "SBD" / "img" / f"{image_id}.jpg", folder / "images" / f"{image_id}.jpg")
            with replacing(folder / "labels" / f"{image_id}.png") as partial:
                Image.fromarray(labels).save(partial, format="png")
        write_text(folder / f"{split}.txt", "\n".join(dataset.image_ids) + "\n")
        names.append(f"folder:{folder / f'{split}.txt'}")
    write_text(folder / "classes.txt", "background\nobject")
    return names[0], names[1]


def _plain(label: str) -> str:
    return label.replace("/", "_").replace(":", "_").replace(" ", "_")
