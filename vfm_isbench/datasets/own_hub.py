"""``hf:OWNER/NAME[@REVISION][:SPLIT]``: image and mask columns of a data set on the Hugging Face hub, as a test set."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vfm_isbench.datasets.files import PictureBytes, some_names
from vfm_isbench.datasets.own_folder import OwnDataset, read_index
from vfm_isbench.datasets.own_masks import OwnSample
from vfm_isbench.datasets.own_names import HUB
from vfm_isbench.errors import DataError, MissingPackageError
from vfm_isbench.storage.no_downloads import are_downloads_forbidden
from vfm_isbench.storage.weights import is_hub_out_of_reach

IMAGE_COLUMNS = ("image", "img")
MASK_COLUMNS = ("mask", "label", "annotation", "segmentation_mask", "gt")
"""Names of columns, the first that is there is taken."""

_SPEC = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?::([\w.-]+))?", re.ASCII)
_SPLITS = ("test", "validation", "val", "train")
_PART = re.compile(r"-\d+-of-(?P<count>\d+)\.parquet$")
"""Taken without a split, the first that is there."""
_INDEX = "metadata.csv"
_INDEX_COLUMNS = ("file_name", "mask_file_name")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def open_hub_dataset(name: str) -> OwnDataset:
    """Open a data set of the Hugging Face hub as a test set; it is downloaded unless it is in the hub's cache.

    Args:
        name: ``hf:OWNER/NAME``, with ``@REVISION`` for a branch, tag or commit, and ``:SPLIT`` for a split other than
            test.

    Raises:
        DataError: if it cannot be fetched, is laid out otherwise, or a picture cannot be used.
        MissingPackageError: if it is stored as Parquet, and pyarrow is missing.
    """
    match = _SPEC.fullmatch(name.removeprefix(HUB))
    if match is None:
        raise DataError(f"data set {name!r}: expected hf:OWNER/NAME[@REVISION][:SPLIT], such as hf:me/photos:test")
    repository, revision, split = match.groups()
    folder, files = _fetch(name, repository, revision, split)
    commit = folder.name if _COMMIT.fullmatch(folder.name) else "unknown"
    notes = [f"from the Hugging Face hub, {repository} at commit {commit}: {', '.join(files)}"]
    if files[0].endswith(_INDEX):
        return OwnDataset(name, read_index(folder / files[0], _INDEX_COLUMNS), notes)
    samples: dict[str, OwnSample] = {}
    for file in files:
        for key, sample in _ParquetTable(name, folder / file, file).samples():
            samples[key] = sample
    if not samples:
        raise DataError(f"data set {name!r}: {', '.join(files)} of {repository} has no rows")
    return OwnDataset(name, samples, notes)


def choose_files_of(files: Sequence[str], split: str) -> list[str]:
    """The files whose path names a split."""
    has_split = re.compile(rf"(^|[/_.-]){re.escape(split)}([/_.-]|$)")
    return [file for file in files if has_split.search(file)]


def choose_files(name: str, files: Sequence[str], split: str | None) -> list[str]:
    """The files of a repository that hold a split: Parquet files, or a ``metadata.csv`` beside pictures.

    >>> choose_files("hf:a/b", ["README.md", "data/test-00000-of-00001.parquet", "data/train-0.parquet"], None)
    ['data/test-00000-of-00001.parquet']

    Raises:
        DataError: if there is none, or there are several configurations.
    """
    tables = sorted(file for file in files if file.endswith(".parquet"))
    indices = sorted(file for file in files if PurePosixPath(file).name == _INDEX)
    for wanted in [split] if split else _SPLITS:
        found = choose_files_of(tables or indices, wanted)
        if found:
            break
    else:
        found = [] if split else (tables or indices)
    if not found:
        raise DataError(
            f"data set {name!r}: the repository has no Parquet file and no {_INDEX}"
            + (f" of a split {split!r}" if split else "")
            + f"; it holds {some_names(sorted(files)) or 'nothing'}"
        )
    parents = sorted({str(PurePosixPath(file).parent) for file in found})
    if len(parents) > 1 or (not tables and len(found) > 1):
        raise DataError(
            f"data set {name!r}: its split is in several folders ({some_names(parents)}), which seem to be "
            "configurations of it, or several splits. Name a split (hf:OWNER/NAME:SPLIT); of several configurations, "
            "download one and use folder:PATH."
        )
    return found


def _whole_in_cache(name: str, files: Sequence[str], split: str | None) -> list[str]:
    """The files of a split in the hub's cache, which may hold a part of the repository only.

    Raises:
        DataError: if some of the split's files are missing, or only the whole list of files could tell which split it
            is.
    """
    chosen = choose_files(name, files, split)
    if split is None and choose_files_of(chosen, _SPLITS[0]) != chosen:
        raise DataError(
            f"data set {name!r}: the hub cannot be asked for its splits, and its cache holds no split "
            f"{_SPLITS[0]!r}. Name the split: hf:OWNER/NAME:SPLIT."
        )
    parts = [match for file in chosen if (match := _PART.search(file))]
    missing = {int(match["count"]) for match in parts if int(match["count"]) != len(parts)}
    if missing:
        raise DataError(
            f"data set {name!r}: the hub's cache holds {len(parts)} of the {max(missing)} files of its split "
            f"({some_names(chosen)}). Fetch the others once with a network."
        )
    return chosen


def _fetch(name: str, repository: str, revision: str | None, split: str | None) -> tuple[Path, list[str]]:
    """The folder of a snapshot in the hub's cache, and the chosen files in it."""
    from huggingface_hub import HfApi, snapshot_download

    is_forbidden = are_downloads_forbidden()
    no_network = is_forbidden or is_hub_out_of_reach()
    fetch = functools.partial(
        snapshot_download, repository, repo_type="dataset", revision=revision, local_files_only=no_network
    )
    try:
        if no_network:
            folder = Path(fetch())
            files = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
            return folder, _whole_in_cache(name, files, split)
        info = HfApi().dataset_info(repository, revision=revision)
        chosen = choose_files(name, [sibling.rfilename for sibling in info.siblings or []], split)
        is_index = chosen[0].endswith(_INDEX)
        beside = str(PurePosixPath(chosen[0]).parent / "**").removeprefix("./")
        return Path(fetch(revision=info.sha, allow_patterns=[beside] if is_index else chosen)), chosen
    except DataError:
        raise
    except Exception as error:  # the hub's client raises its own errors and those of its transport alike
        reason = "downloads are forbidden here" if is_forbidden else "it has no address here"
        why = f"{reason}, so only its cache was looked into; " if no_network else ""
        raise DataError(
            f"data set {name!r}: {repository} could not be fetched from the Hugging Face hub ({why}"
            f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}). Check its name and "
            "revision; of a private data set, log in first. Without a network, download it elsewhere and use "
            "folder:PATH."
        ) from error


class _ParquetTable:
    """Rows of a Parquet file, read one group of rows at a time."""

    def __init__(self, name: str, path: Path, file: str) -> None:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError as error:
            raise MissingPackageError(
                f"data set {name!r} is stored as Parquet, which needs pyarrow: pip install 'vfm_isbench[hf]'"
            ) from error
        self._name, self._file = name, file
        try:
            self._table = ParquetFile(path)
        except (OSError, ArrowException) as error:
            raise DataError(f"{path}: cannot be read as a Parquet file ({error}). Delete it and run again.") from error
        columns = list(self._table.schema_arrow.names)
        self._image, self._mask = (self._column(columns, known) for known in (IMAGE_COLUMNS, MASK_COLUMNS))

    def _column(self, columns: Sequence[str], known: Sequence[str]) -> str:
        found = next((column for column in known if column in columns), None)
        if found is None:
            raise DataError(
                f"data set {self._name!r}: {self._file} has the columns {', '.join(columns)}; expected one named "
                f"{' or '.join(known)}"
            )
        return found

    def samples(self) -> list[tuple[str, OwnSample]]:
        """Image id and sample of every row; pictures stay on disk until they are needed."""
        found, row = [], 0
        for group in range(self._table.num_row_groups):
            for place in range(self._table.metadata.row_group(group).num_rows):
                key = f"{PurePosixPath(self._file).stem}/{row}"
                image = _LazyPicture(self, self._image, group, place, f"{self._name}, {key}, column {self._image}")
                mask = _LazyPicture(self, self._mask, group, place, f"{self._name}, {key}, column {self._mask}")
                found.append((key, OwnSample(image, mask)))
                row += 1
        return found

    def content(self, column: str, group: int, place: int, where: str) -> bytes:
        """The bytes of a picture."""
        value: Any = self._group(group).column(column)[place].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise DataError(f"{where}: holds {type(content).__name__}, expected the bytes of a picture")
        return content

    @functools.lru_cache(maxsize=1)  # noqa: B019  a table lives as long as its data set
    def _group(self, group: int) -> Any:
        return self._table.read_row_group(group, columns=[self._image, self._mask])


class _LazyPicture(PictureBytes):
    """A picture of a table, whose bytes are read when they are needed."""

    def __init__(self, table: _ParquetTable, column: str, group: int, place: int, name: str) -> None:
        self.name = name
        self._read = functools.partial(table.content, column, group, place, name)

    @property
    def content(self) -> bytes:  # type: ignore[override]
        return self._read()
