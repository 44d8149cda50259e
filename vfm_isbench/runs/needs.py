"""What a run needs before it trains: everything is looked for first, and all that is missing is named at once."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vfm_isbench.backbones import Backbone
from vfm_isbench.click_encoders import check_click_encoder
from vfm_isbench.datasets import ObjectDataset, TrainingData, open_dataset, open_training_data
from vfm_isbench.datasets.catalogue import Role
from vfm_isbench.datasets.download.sources import DatasetSource, source_for
from vfm_isbench.datasets.files import find_layout
from vfm_isbench.errors import DataError, MissingError, VfmIsbenchError
from vfm_isbench.probe import check_combination
from vfm_isbench.protocol import Protocol
from vfm_isbench.runs.changes import check_clicker
from vfm_isbench.upsamplers import LoadedUpsampler

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Needs:
    """What a run needs, all of it found.

    Attributes:
        backbone: The frozen backbone.
        data: Training and validation set.
        tests: The test sets; empty if they were not asked for.
        upsampler: The upsampler, as it was loaded.
        notes: Remarks on the combination of protocol and backbone, for the result.
    """

    backbone: Backbone
    data: TrainingData
    tests: list[ObjectDataset]
    upsampler: LoadedUpsampler
    notes: tuple[str, ...]


class Search:
    """Looks for one thing after the other, and goes on after a failure, so that every failure can be reported."""

    def __init__(self) -> None:
        self.failures: list[VfmIsbenchError] = []

    def look(self, find: Callable[[], T]) -> T | None:
        """What ``find`` returns; None if it fails with an error of this library, which is kept."""
        try:
            return find()
        except VfmIsbenchError as error:
            if str(error) not in map(str, self.failures):
                self.failures.append(error)
            return None

    def finish(self) -> None:
        """Report all failures.

        Raises:
            VfmIsbenchError: the failure, if there was one.
            MissingError: if there were several.
        """
        if len(self.failures) == 1:
            raise self.failures[0]
        if self.failures:
            listed = (f"{number}. {error}" for number, error in enumerate(self.failures, 1))
            texts = "\n".join(text.replace("\n", "\n   ") for text in listed)
            raise MissingError(
                f"{len(self.failures)} things are missing or cannot be used, so nothing was started:\n{texts}"
            )


def find_needs(
    protocol: Protocol,
    data_root: Path | None,
    load_backbone: Callable[[], Backbone],
    load_upsampler: Callable[[], LoadedUpsampler],
    *,
    evaluates: bool,
    on_cpu: bool = False,
) -> Needs:
    """Find all that a run needs.

    Args:
        protocol: The protocol.
        data_root: Folder of the data sets.
        load_backbone: Loads the backbone.
        load_upsampler: Loads the upsampler.
        evaluates: Whether the test sets are needed too.
        on_cpu: Whether the run would use a CPU, for which most protocols with published data sets are too large.

    Raises:
        VfmIsbenchError: if a single thing is missing or cannot be used; its own error, as of :func:`open_dataset`.
        MissingError: if there are several; the message lists all of them, and what to do about each.
    """
    search = Search()
    search.look(lambda: check_click_encoder(protocol.click_encoder))
    search.look(lambda: check_clicker(protocol))
    backbone = search.look(load_backbone)
    notes = None if backbone is None else search.look(lambda: check_combination(protocol, backbone))
    data, tests = find_data(search, protocol, data_root, evaluates=evaluates, on_cpu=on_cpu)
    upsampler = search.look(load_upsampler)
    search.finish()
    assert backbone is not None and data is not None and upsampler is not None and notes is not None
    return Needs(backbone, data, tests, upsampler, notes)


def find_data(
    search: Search, protocol: Protocol, data_root: Path | None, *, evaluates: bool, on_cpu: bool = False
) -> tuple[TrainingData | None, list[ObjectDataset]]:
    """Open the training and validation set, and the test sets too if ``evaluates``; failures are kept in ``search``."""
    search.look(lambda: check_published(protocol, data_root, trains=True, evaluates=evaluates, on_cpu=on_cpu))
    data = None
    if not absent_sources((protocol.train_dataset, protocol.validation_dataset), data_root):
        data = search.look(lambda: open_training_data(protocol, data_root))
    if data is None:  # the other of the two may be missing, too
        _look_into(search, protocol, data_root, "validation")
    return data, _look_into(search, protocol, data_root, "test") if evaluates else []


def open_tests(protocol: Protocol, data_root: Path | None) -> list[ObjectDataset]:
    """Open the test sets of a protocol.

    Raises:
        VfmIsbenchError, MissingError: as :func:`find_needs`.
    """
    search = Search()
    search.look(lambda: check_published(protocol, data_root, trains=False, evaluates=True))
    found = _look_into(search, protocol, data_root, "test")
    search.finish()
    return found


def absent_sources(names: Sequence[str], data_root: Path | None) -> list[DatasetSource]:
    """Of the data sets ``names``, the published ones of which there is no folder, each once.

    A folder that seems to be the data set, but is in another place or has another name, does not count as absent: the
    data set's own error then says what to do.
    """
    sources = {source.name: source for name in names if (source := source_for(name)) is not None}
    return [source for source in sources.values() if _is_absent(source, data_root)]


def _is_absent(source: DatasetSource, data_root: Path | None) -> bool:
    if data_root is None or not data_root.is_dir():
        return True
    root = data_root / source.folder
    return not root.exists() and find_layout(root, source.folders, source.files) is None


def check_published(
    protocol: Protocol, data_root: Path | None, *, trains: bool, evaluates: bool, on_cpu: bool = False
) -> None:
    """Check that the published data sets of a protocol are here.

    Raises:
        DataError: if not; it names all of them, and the command that downloads them.
    """
    names = [*([protocol.train_dataset, protocol.validation_dataset] if trains else [])]
    absent = absent_sources([*names, *(protocol.test_datasets if evaluates else ())], data_root)
    if not absent:
        return
    sets = ", ".join(f"{source.name} ({source.folder}/, {source.archive.about_size})" for source in absent)
    folders = ", ".join(f"{source.folder}/" for source in absent)
    target = "DIR" if data_root is None else str(data_root)
    command = shlex.join(["vfm-isbench", "data", "download", *(source.name for source in absent)])
    if data_root is None:
        where = f"no data root was given. Pass the folder that contains {folders}"
    else:
        state = f"{data_root} does not contain them" if data_root.is_dir() else f"{data_root} is not a folder"
        where = f"{state}. Pass the folder that contains {folders}"
    first = (
        ". This machine would train on its CPU, where that may take days: first add --estimate (Benchmark.estimate) to "
        "measure how long, which needs no data sets"
        if on_cpu and trains
        else ""
    )
    raise DataError(
        f"data sets are missing: {sets}; {where} as data_root=… (command line: --data-root DIR), or take the protocol "
        f"'demo', which needs no files{first}. To download them: {command} --data-root {shlex.quote(target)}"
    )


def _look_into(search: Search, protocol: Protocol, data_root: Path | None, role: Role) -> list[ObjectDataset]:
    """Open the data sets of a role that are not simply absent, which has been reported."""
    names = protocol.test_datasets if role == "test" else (protocol.validation_dataset,)
    found = []
    for name in names:
        if not absent_sources([name], data_root):
            dataset = search.look(functools.partial(open_dataset, name, role, data_root, protocol))
            found += [dataset] if dataset is not None else []
    return found
