"""``folder:PATH``: the user's own images and masks as a test set."""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from vfm_isbench.datasets.base import ObjectDataset
from vfm_isbench.datasets.files import check_same_size, list_entries, read_rgb, some_names
from vfm_isbench.datasets.label_files import SILENT_UP_TO
from vfm_isbench.datasets.own_masks import OwnSample
from vfm_isbench.datasets.own_names import FOLDER, recorded_name
from vfm_isbench.datasets.single_object import IMAGE_SUFFIXES, MASK_SUFFIXES, pictures_by_stem
from vfm_isbench.errors import DataError, VfmIsbenchWarning
from vfm_isbench.storage.json_fields import LONGEST_NAME
from vfm_isbench.types import AnnotatedImage, ObjectId

INDEX = "index.csv"
_COLUMNS = ("image", "mask")
_PARTS = ("parts", "subparts")
"""Folders of label maps of parts, and of parts of parts."""
_MASK_SUFFIXES = MASK_SUFFIXES | {".tif", ".tiff"}
_LAYOUT = f"images/ and masks/ with files of the same names, or {INDEX} with the columns image,mask[,instance]"


class OwnDataset(ObjectDataset):
    """Images with masks, all of them checked when it is opened: every mask is read, and every image's size.

    Args:
        name: Name in results.
        samples: The images with their masks, by image id.
        notes: What readers of a result should know.

    Raises:
        DataError: for the first file that cannot be used; see :meth:`OwnSample.checked_instances`.
    """

    def __init__(self, name: str, samples: Mapping[str, OwnSample], notes: Sequence[str] = ()) -> None:
        self.name = name
        self.notes = tuple(notes)
        self._samples = samples
        self.has_parts = any(sample.parts for sample in samples.values())
        listed = tqdm(
            samples.items(), desc=f"checking {name}", unit="image", leave=False, disable=len(samples) <= SILENT_UP_TO
        )
        self.objects = [ObjectId(key, label) for key, sample in listed for label in sample.checked_instances()]

    @property
    def image_ids(self) -> Sequence[str]:
        """Ids of the images."""
        return list(self._samples)

    def read(self, image_id: str) -> AnnotatedImage:
        """Read one image and its mask; raises a :class:`DataError` that names the file."""
        if image_id not in self._samples:
            raise DataError(f"{self.name}: no image {image_id!r} in this data set: {some_names(self._samples)}.")
        sample = self._samples[image_id]
        image, labels = read_rgb(sample.image), sample.labels()
        check_same_size(sample.image, image, sample.mask, labels)
        return AnnotatedImage(image_id, image, labels, sample.part_labels())


def open_folder(name: str, data_root: Path | None) -> OwnDataset:
    """Open a folder of the user.

    Args:
        name: ``folder:PATH``; PATH is a folder or an index, seen from the current folder, else from the data root.
        data_root: The folder of the published data sets.

    Raises:
        DataError: if there is no such folder, or a file in it cannot be used; the message names it.
    """
    path = _locate(name, data_root)
    index = path / INDEX if path.is_dir() else path
    if index.is_file():
        samples = read_index(index, _COLUMNS)
        notes: list[str] = []
    else:
        samples, notes = _paired(path)
    for note in notes:
        warnings.warn(f"{path}: {note}", VfmIsbenchWarning, stacklevel=2)
    return OwnDataset(recorded_name(name), samples, notes)


def folder_has_parts(name: str, data_root: Path | None) -> bool:
    """Whether a folder of the user has masks of parts, without opening any.

    Raises:
        DataError: if there is no such folder.
    """
    return (_locate(name, data_root) / _PARTS[0]).is_dir()


def _locate(name: str, data_root: Path | None) -> Path:
    given = Path(name.removeprefix(FOLDER)).expanduser()
    places = [given, *([data_root / given] if data_root is not None else [])]
    found = next((place for place in places if place.exists()), None)
    if found is None or name == FOLDER:
        looked = " and ".join(str(place.absolute()) for place in places)
        raise DataError(f"data set {name!r}: there is no {looked}. Expected a folder with {_LAYOUT}.")
    return found


def _paired(root: Path) -> tuple[dict[str, OwnSample], list[str]]:
    """Images and masks of a folder, paired by file name without suffix, and notes on what was left out."""
    missing = [name for name in ("images", "masks") if not (root / name).is_dir()]
    if missing:
        names = [entry.name + "/" * entry.is_dir() for entry in list_entries(root)] if root.is_dir() else []
        raise DataError(f"{root} has no {' and no '.join(missing)}. Expected {_LAYOUT}; found: {some_names(names)}.")
    images, other_images = pictures_by_stem(root / "images", IMAGE_SUFFIXES)
    masks, other_masks = pictures_by_stem(root / "masks", _MASK_SUFFIXES)
    if not images:
        raise DataError(f"{root / 'images'} holds no image. Expected {', '.join(sorted(IMAGE_SUFFIXES))} files.")
    without = [str(path) for stem, path in images.items() if stem not in masks]
    if without:
        raise DataError(
            f"no mask for {some_names(without)}: expected a file with the same name in {root / 'masks'}, such as "
            f"{Path(without[0]).stem}.png. Add it, or remove the image."
        )
    notes = []
    widows = [path.name for stem, path in masks.items() if stem not in images]
    if widows:
        notes.append(f"ignored masks without an image: {some_names(widows)}")
    others = [path.name for path in (*other_images, *other_masks)]
    parts: dict[str, tuple[Path, ...]] = {}
    for above, folder in zip(("masks", *_PARTS), _PARTS, strict=False):
        found, unknown = pictures_by_stem(root / folder, _MASK_SUFFIXES) if (root / folder).is_dir() else ({}, [])
        others += [path.name for path in unknown]
        known = masks if above == "masks" else {stem: files[-1] for stem, files in parts.items() if len(files) == 1}
        alone = [str(path) for stem, path in found.items() if stem not in known]
        if alone:
            raise DataError(
                f"{some_names(alone)}: there is no mask of the same name in {root / above}, which these would be parts "
                "of. Add it, or remove the file."
            )
        parts |= {stem: (*parts.get(stem, ()), path) for stem, path in found.items()}
    if others:
        notes.append(f"ignored files that are not pictures: {some_names(others)}")
    return {path.name: OwnSample(path, masks[stem], parts=parts.get(stem, ())) for stem, path in images.items()}, notes


def read_index(index: Path, columns: tuple[str, str]) -> dict[str, OwnSample]:
    """Images and masks that a CSV file lists.

    Args:
        index: The file; its paths are relative to its folder.
        columns: Names of the columns with images and masks. A column "instance" may list stored values of objects, one
            in each row.

    Returns:
        Samples by image id: the path of the image, with that of the mask if the image has several.

    Raises:
        DataError: if the file cannot be read, lacks a column, or has a row that is empty, leads out of the folder or is
            repeated; the message names the line.
    """
    rows: dict[tuple[str, str], list[int | None]] = {}
    for line, image, mask, instance in _rows(index, columns):
        found = rows.setdefault((image, mask), [])
        if instance in found or (found and None in (instance, *found)):
            raise DataError(f"{index}, line {line}: {image} with {mask} was listed before. Remove one of the rows.")
        found.append(instance)
    masks_of = Counter(image for image, _ in rows)
    samples = {}
    for (image, mask), instances in rows.items():
        image_id = image if masks_of[image] == 1 else f"{image} with {mask}"
        if len(image_id) > LONGEST_NAME:  # no result could be read back
            raise DataError(f"{index}: {image[:60]}… has {len(image_id)} characters; expected at most {LONGEST_NAME}")
        listed = tuple(sorted(instance for instance in instances if instance is not None))
        samples[image_id] = OwnSample(index.parent / image, index.parent / mask, listed or None)
    return samples


def _rows(index: Path, columns: tuple[str, str]) -> Iterator[tuple[int, str, str, int | None]]:
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{index} has the columns {', '.join(reader.fieldnames or ()) or 'none'}; expected "
                    f"{','.join(columns)} and perhaps instance"
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{index}: cannot be read as a CSV file ({error})") from error
    if not rows:
        raise DataError(f"{index} lists no image; expected a row for each")
    for line, row in enumerate(rows, start=2):
        image, mask = (_inside(index, line, row[column]) for column in columns)
        text = (row.get("instance") or "").strip()
        if text and not (text.isascii() and text.isdigit() and int(text) > 0):
            raise DataError(f"{index}, line {line}: instance is {text!r}; expected a whole number above 0, or nothing")
        yield line, image, mask, int(text) if text else None


def _inside(index: Path, line: int, text: str | None) -> str:
    """A path of an index, checked to be relative and inside the folder, because it becomes part of results."""
    path = PurePosixPath((text or "").strip().replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(
            f"{index}, line {line}: {text!r} is not a path below the folder of the index. Expected a relative path, "
            "such as images/1.png"
        )
    return str(path)
