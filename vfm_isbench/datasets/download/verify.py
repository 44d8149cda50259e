"""Checks that a data set on disk is the published one: layout, numbers of images and objects, readable files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.download.manifest import archive_path, hash_content, read_manifest
from vfm_isbench.datasets.download.sources import Counts, DatasetSource, source_of
from vfm_isbench.datasets.files import check_layout
from vfm_isbench.datasets.hqseg import HqSegDataset
from vfm_isbench.datasets.single_object import SingleObjectDataset
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.storage.hashing import hash_file


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitReport:
    """The contents of one split.

    Attributes:
        expected: The published numbers.
        images: Photographs found; None if the split cannot be opened.
        objects: Objects found; None if they were not counted, or could not all be counted.
    """

    expected: Counts
    images: int | None = None
    objects: int | None = None

    def __str__(self) -> str:
        parts = []
        for what in ("images", "objects"):
            found = getattr(self, what)
            expected = getattr(self.expected, what)
            parts.append(f"{what} not counted" if found is None else f"{found} of {expected} {what}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """The findings about a data set's folder.

    Attributes:
        name: Name of the data set.
        root: Its folder.
        is_deep: Whether every file was opened.
        splits: Contents by split.
        unreadable: Problems that make the data set unusable; each sentence names the file.
        differing: Differences from the published data set, one sentence each.
        notes: Unusual but harmless findings.
    """

    name: str
    root: Path
    is_deep: bool
    splits: Mapping[str, SplitReport]
    unreadable: tuple[str, ...]
    differing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_readable(self) -> bool:
        """Whether it can be used, though perhaps not for published numbers."""
        return not self.unreadable

    @property
    def is_complete(self) -> bool:
        """Whether it is the published data set, as far as it was checked."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems."""
        return self.unreadable + self.differing

    @property
    def state(self) -> Literal["complete", "incomplete", "unreadable", "absent"]:
        """The verdict in one word."""
        if self.is_complete:
            return "complete"
        if self.is_readable:
            return "incomplete"
        return "unreadable" if self.root.exists() else "absent"

    def __str__(self) -> str:
        looked = "every file opened" if self.is_deep else "files listed, not opened"
        lines = [f"{self.name}: {self.state} ({self.root}; {looked})"]
        lines += [f"  {split}: {found}" for split, found in self.splits.items()]
        lines += [f"  problem: {problem}" for problem in self.problems]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def verify_dataset(name: str, data_root: Path, *, deep: bool = False, progress: bool = True) -> VerifyReport:
    """Compare a data set on disk with the published one, and with the record of its download.

    Args:
        name: Name of the data set.
        data_root: The folder that contains its folder.
        deep: Open every image and mask, and compare all files with the record. Otherwise files are only listed, and the
            instances of SBD, which are inside its files, are not counted.
        progress: Whether a deep check shows progress bars on stderr.

    Raises:
        UnknownNameError: if no data set has this name.
    """
    source = source_of(name)
    report = verify_folder(source, data_root / source.folder, deep=deep, progress=progress)
    if not deep or not report.is_readable:
        return report
    try:
        differing = _against_manifest(source, data_root)
    except (DataError, OSError) as error:
        differing = [str(error)]
    return replace(report, differing=(*report.differing, *differing))


def verify_folder(source: DatasetSource, root: Path, *, deep: bool = False, progress: bool = True) -> VerifyReport:
    """Compare a folder with the published data set; like :func:`verify_dataset`, but for any folder."""
    splits = {split: SplitReport(expected=expected) for split, expected in source.counts.items()}
    unreadable: list[str] = []
    differing: list[str] = []
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VfmIsbenchWarning)
        try:
            # Once for all splits, because their own checks would each report the same.
            check_layout(root, folders=source.folders, files=source.files)
            datasets = {split: source.open_split(root, split) for split in splits}
        except DataError as error:
            unreadable.append(str(error))
            datasets = {}
        for split, dataset in datasets.items():
            images = len({source.photograph(image_id) for image_id in dataset.image_ids})
            objects: int | None = None
            if deep:
                objects, broken = _open_all(dataset, f"{source.name} {split}", progress)
                unreadable += broken
            elif isinstance(dataset, SingleObjectDataset | HqSegDataset):  # counts objects without opening files
                objects = len(dataset.objects)
            splits[split] = replace(splits[split], images=images, objects=objects)
            found = _differences(split, splits[split])
            if objects in source.disputed_objects and images == source.counts[split].images:
                notes += [f"{difference}; other publications give {objects}" for difference in found]
            elif source.photograph is not str and objects == source.counts[split].objects:
                # Only file names say which images share a photograph: not a reason to refuse a complete data set.
                notes += found
            else:
                differing += found
    return VerifyReport(
        name=source.name,
        root=root,
        is_deep=deep,
        splits=splits,
        unreadable=tuple(unreadable),
        differing=tuple(differing),
        notes=tuple(dict.fromkeys([*(str(warning.message) for warning in caught), *notes])),
    )


def _open_all(dataset: ObjectDataset, title: str, progress: bool) -> tuple[int | None, list[str]]:
    """Read every image and its labels; returns the number of objects, None if any image is unreadable, and errors."""
    objects, broken = 0, []
    for image_id in tqdm(dataset.image_ids, desc=f"reading {title}", unit="image", leave=False, disable=not progress):
        try:
            objects += len(dataset.read(image_id).instance_ids())
        except DataError as error:
            broken.append(str(error))
    return None if broken else objects, broken


def _differences(split: str, found: SplitReport) -> list[str]:
    differing = []
    for what in ("images", "objects"):
        number, expected = getattr(found, what), getattr(found.expected, what)
        if number is not None and number != expected:
            differing.append(f"{split} has {number} {what}, but the published data set has {expected}")
    return differing


def _against_manifest(source: DatasetSource, data_root: Path) -> list[str]:
    manifest = read_manifest(source.name, data_root)
    if manifest is None:
        return []
    root = data_root / source.folder
    differing = []
    if hash_content(source, root) != manifest.content_sha256:
        differing.append(f"files in {root} were changed, added or removed since the download on {manifest.date}")
    archive = archive_path(source, data_root)
    if archive.is_file() and manifest.sha256 is not None and hash_file(archive) != manifest.sha256:
        differing.append(f"{archive} is not the archive downloaded on {manifest.date} with sha256 {manifest.sha256}")
    return differing
